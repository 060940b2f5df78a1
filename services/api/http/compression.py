"""Answers in gzip for whoever takes them so, piece by piece.

Litestar's own holds a whole answer, compresses the watch, and takes `gzip;q=0` for a yes.
"""

import asyncio
import zlib

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

SMALLEST = 1024
"""Bytes below which an answer fits into one packet anyway."""
_LEVEL = 1
"""The fastest: rows repeat themselves, so that it makes a tenth of them already."""
_PIECE = 64 * 1024
"""Bytes that are compressed without a turn for anybody else: about 1 ms."""
_GZIP = zlib.MAX_WBITS | 16


class Compression:
    """Wraps the application. `Vary` is set on what could be compressed, an ETag becomes a weak one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            wanted = _takes_gzip(b",".join(v for k, v in scope["headers"] if k == b"accept-encoding"))
            send = _Compressed(send, wanted=wanted)
        await self._app(scope, receive, send)


class _Compressed:
    """The `send` of one request."""

    def __init__(self, send: Send, *, wanted: bool) -> None:
        self._send = send
        self._wanted = wanted
        self._start: HTTPResponseStartEvent | None = None
        """Kept until it is known how much follows."""
        self._gzip: zlib._Compress | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body" and self._start is not None:
            await self._first(self._start, message["body"], more=message["more_body"])
        elif message["type"] == "http.response.body" and self._gzip is not None:
            await self._rest(self._gzip, message["body"], more=message["more_body"])
        else:
            await self._send(message)

    async def _begin(self, start: HTTPResponseStartEvent) -> None:
        headers = dict(start["headers"])
        if b"no-transform" in headers.get(b"cache-control", b""):  # it is to be sent as it is made
            await self._send(start)
            return
        start["headers"] = _varying([*start["headers"]], b"Accept-Encoding")
        if self._wanted and b"content-type" in headers and b"content-encoding" not in headers:
            self._start = start
        else:
            await self._send(start)

    async def _first(self, start: HTTPResponseStartEvent, body: bytes, *, more: bool) -> None:
        self._start = None
        if not more and len(body) < SMALLEST:
            await self._send(start)
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
            return
        gzip = zlib.compressobj(_LEVEL, wbits=_GZIP)
        kept = [_weak(header) for header in start["headers"] if header[0].lower() != b"content-length"]
        kept.append((b"content-encoding", b"gzip"))
        if not more and len(body) <= _PIECE:
            body = gzip.compress(body) + gzip.flush()
            start["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
            await self._send(start)
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
            return
        start["headers"] = kept
        await self._send(start)
        self._gzip = gzip
        await self._rest(gzip, body, more=more)

    async def _rest(self, gzip: "zlib._Compress", body: bytes, *, more: bool) -> None:
        view = memoryview(body)
        for at in range(0, len(view), _PIECE):
            if piece := gzip.compress(view[at : at + _PIECE]):
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        if not more:
            await self._send({"type": "http.response.body", "body": gzip.flush(), "more_body": False})


def _takes_gzip(header: bytes) -> bool:
    """Whether `Accept-Encoding` (RFC 9110, 12.5.3) allows gzip."""
    takes: dict[str, bool] = {}
    for entry in header.decode("latin-1").lower().split(","):
        coding, _, weight = entry.replace(" ", "").partition(";q=")
        try:
            takes[coding] = not weight or float(weight) > 0
        except ValueError:
            takes[coding] = False
    return takes.get("gzip", takes.get("*", False))


def _varying(headers: list[tuple[bytes, bytes]], on: bytes) -> list[tuple[bytes, bytes]]:
    for number, (name, value) in enumerate(headers):
        if name.lower() == b"vary":
            headers[number] = (name, value if on.lower() in value.lower() else value + b", " + on)
            return headers
    return [*headers, (b"vary", on)]


def _weak(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """The bytes are others, what they say is not (RFC 9110, 8.8.1)."""
    name, value = header
    return (name, b"W/" + value) if name.lower() == b"etag" and not value.startswith(b"W/") else header
