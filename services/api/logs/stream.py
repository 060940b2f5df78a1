"""The answer with the lines of logs: an ASGI application for one reader."""

import asyncio
from contextlib import aclosing

from litestar.types import Receive, Scope, Send

from schemas.ids import Target
from schemas.logs import LogError, LogsRequested
from services.api.http import problems
from services.api.http.limits import Broken, NoSeat
from services.api.http.problems import ProblemError
from services.api.http.streaming import is_head, while_there
from services.api.logs import metrics
from services.api.logs.readers import LogReaders
from services.api.logs.session import AgentSilent, LogsRefused, Session

STUCK = 60.0
"""Seconds in which a reader has to take something of what is sent to it."""
MAX_WARNINGS = 20
_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    # `no-transform`: what compresses would hold lines back. nginx has a header of its own.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_KINDS = {
    "not_found": problems.UNKNOWN_OBJECT,
    "forbidden": problems.CLUSTER_REFUSES,
    "invalid": problems.NO_LOGS,
    "too_many": problems.TOO_MANY_LOG_READERS,
}
_NEXT_OF_SILENCE = "see how its agent is: `atlhyper agents`; one older than this api does not read logs"
_NEXT = {
    "failed": "try again; `kubectl logs` there says whether the cluster itself can",
}


class LogStream:
    """Sends the lines until there can be no more, or the reader is gone.

    Before the first byte it raises ProblemError. What fails later breaks the transfer, so that nobody takes
    what has come for the whole; what the cluster has said of it is the last line.
    """

    def __init__(self, readers: LogReaders, target: Target, asked: LogsRequested) -> None:
        self._readers = readers
        self._target = target
        self._asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._readers.session(self._target, self._asked) as session:
                await while_there(receive, self._answer(session, scope, send))
        except NoSeat:
            kind = problems.TOO_MANY_LOG_READERS
            detail = f"{self._readers.max_readers} readers read logs already"
            raise ProblemError(kind, detail, kind.next) from None
        except AgentSilent as error:
            raise ProblemError(problems.NO_ANSWER, str(error), _NEXT_OF_SILENCE) from error

    async def _answer(self, session: Session, scope: Scope, send: Send) -> None:
        try:
            warnings = await session.opened()
        except LogsRefused as refused:
            raise self._refusal(refused.error) from refused
        headers = [*_HEADERS, *((b"warning", _warning(text)) for text in warnings[:MAX_WARNINGS])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not is_head(scope):
            await self._send(session, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _refusal(self, error: LogError) -> ProblemError:
        kind, asked = _KINDS.get(error.code, problems.CLUSTER_FAILS), self._asked
        advice = _NEXT.get(error.code, kind.next)
        if error.code == "not_found":
            where = f"-n {asked.namespace} --cluster {self._target.id}"
            advice = f"see what there is: `atlhyper get {asked.resource or 'pods'} {where}`"
        return ProblemError(kind, error.message, advice)

    async def _send(self, session: Session, send: Send) -> None:
        inside = False  # of a line
        try:
            async with aclosing(session.pieces()) as pieces:
                async for piece in pieces:
                    await _put(send, piece)
                    inside = not piece.endswith(b"\n")
                    metrics.BYTES.inc(len(piece))
        except AgentSilent as error:
            metrics.BROKEN.inc()
            raise Broken(str(error)) from error
        except LogsRefused as refused:
            metrics.BROKEN.inc()
            if not inside:  # whoever goes on by `resume` counts half a line as half a line
                await _put(send, f"error: {' '.join(str(refused).split())}\n".encode())
            raise Broken(str(refused)) from refused


async def _put(send: Send, piece: bytes) -> None:
    """Raises Broken when the reader takes nothing."""
    try:
        async with asyncio.timeout(STUCK):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except TimeoutError:
        metrics.DROPPED.inc()
        raise Broken(f"the reader took nothing for {STUCK:g}s") from None


def _warning(text: str) -> bytes:
    """As the API server of Kubernetes writes it (RFC 9111, 5.5): `299 - "text"`."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return b'299 - "%b"' % plain.replace("\\", "\\\\").replace('"', '\\"').encode()
