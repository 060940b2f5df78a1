"""The answer that does not end: an ASGI application for one reader."""

import asyncio
from contextlib import aclosing

from litestar.types import Receive, Scope, Send

from services.api.http import problems
from services.api.http.streaming import is_head, while_there
from services.api.watch import metrics
from services.api.watch.hub import Hub, TooManyReaders
from services.api.watch.reader import Reader, Wish
from services.runtime import logs

_log = logs.get_logger(__name__)

MEDIA_TYPE = "text/event-stream"
STUCK = 60.0
"""Seconds in which a reader has to take something of what is sent to it."""
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # `no-transform`: a proxy that compresses would hold messages back. nginx has a header of its own.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """Sends the changes until the reader is gone, does not listen, or the hub closes.

    Before the first byte it raises ProblemError when there are too many readers, and DatabaseUnavailable.
    """

    def __init__(self, hub: Hub, wish: Wish) -> None:
        self._hub = hub
        self._wish = wish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._hub.seat(full=self._wish.full):
                reader = Reader(self._hub, self._wish)
                await reader.open()
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                if is_head(scope):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    await while_there(receive, self._send(reader, send))
        except TooManyReaders as error:
            raise problems.ProblemError(
                problems.TOO_MANY_READERS,
                f"{self._hub.max_readers} readers follow the changes already",
                problems.TOO_MANY_READERS.next,
            ) from error

    async def _send(self, reader: Reader, send: Send) -> None:
        async with aclosing(reader.blocks()) as blocks:
            async for block in blocks:
                try:
                    async with asyncio.timeout(STUCK):
                        await send({"type": "http.response.body", "body": block, "more_body": True})
                except TimeoutError:
                    metrics.DROPPED.inc()
                    _log.warning("a reader took nothing for too long", seconds=STUCK)
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
