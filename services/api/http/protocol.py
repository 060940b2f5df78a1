"""What is no HTTP gets a problem as its answer too, and a head that does not come gets no connection."""

import asyncio
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.api.http import answering, problems
from services.api.http.problems import ProblemError

HEAD_TIMEOUT = 10.0
"""Seconds from the first byte of a request's head to its last; a new connection has as long to begin."""
_KINDS = {413: problems.CONTENT_TOO_LARGE, 431: problems.HEADERS_TOO_LARGE}


class Protocol(H11Protocol):
    """uvicorn's, which answers what h11 refuses with plain text and waits for a head without end."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._head_missing)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and self.conn.their_state is h11.IDLE:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._head_missing)
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it says less
        """Called where h11 has raised what is wrong."""
        error = sys.exc_info()[1]
        kind = _KINDS.get(getattr(error, "error_status_hint", 400), problems.INVALID_REQUEST)
        detail = str(error) if kind is problems.INVALID_REQUEST and error else kind.title.lower()
        self._refuse(ProblemError(kind, detail, kind.next))

    def _head_missing(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self.conn.our_state is not h11.IDLE:
            return
        kind = problems.REQUEST_TIMEOUT
        self._refuse(ProblemError(kind, f"the request was not there within {HEAD_TIMEOUT:g}s", kind.next))

    def _refuse(self, error: ProblemError) -> None:
        headers, content = answering.told(error, "")
        headers["connection"] = "close"
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = [(name, value) for name, value in headers.items()]
            for event in (
                h11.Response(status_code=error.kind.status, headers=head, reason=error.kind.status.phrase),
                h11.Data(data=content),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")

        cycle = getattr(self, "cycle", None)  # uvicorn's type for it leaves the None out
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # or what is being made for it would be sent behind this
            cycle.message_event.set()
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
