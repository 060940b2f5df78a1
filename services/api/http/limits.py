"""What a request may be and take, checked before anything else looks at it.

Content is there whole before a handler is asked, in a place of the request's own, so that what is held is
bounded. An answer is handed to the connection piece by piece: what a slow reader has not taken yet is not
copied beside it.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPRequestEvent,
    HTTPScope,
    Message,
    Receive,
    Scope,
    Send,
)

from services.api.http import answering, problems
from services.api.http.problems import Kind, ProblemError

_PIECE = 256 * 1024
"""Bytes that the connection is given at once."""
_UNCOUNTED = frozenset({"/livez", "/readyz", "/metrics", "/api/v1/watch"})
"""Probes are answered however much else there is to do; the watch has limits of its own."""
_LOGS = re.compile("/api/v1/clusters/[^/]*/logs/.*")
"""So have logs, which may go on for days as well."""
_WITHOUT_CONTENT = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Settings of the same names (`services.api.settings`) say what they mean; bytes and seconds."""

    body: int = 1 << 20
    url: int = 16 << 10
    headers: int = 64 << 10
    requests: int = 100
    snapshots: int = 2
    waiters: int = 200
    receive: float = 10.0
    answer: float = 120.0


DEFAULTS = Limits()


class Broken(Exception):
    """An answer that had begun cannot be finished: its transfer is to be broken off, never ended as whole."""


class NoSeat(Exception):
    """As many as may be are at it already."""


class Seats:
    """So many at a time; nobody waits for one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Take part. Raises NoSeat."""
        if self.taken >= self.number:
            raise NoSeat
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    @contextmanager
    def left(self) -> Iterator[None]:
        """Leave one's place to others for a while; it is there again afterwards, if need be as one more."""
        self.taken -= 1
        try:
            yield
        finally:
            self.taken += 1


_SEATS = "seats"
"""Where the scope's state has the Seats that a request has taken its place of."""


@contextmanager
def stepped_aside(scope: HTTPScope) -> Iterator[None]:
    """Meanwhile the request only waits, and is not counted among those that are answered at a time."""
    seats: Seats | None = (scope.get("state") or {}).get(_SEATS)
    with seats.left() if seats else nullcontext():
        yield


class Limiter:
    """Wraps the application; refuses with a problem."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._seats = Seats(limits.requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        content = has_content(scope)
        if (refusal := self._refusal(scope)) is not None:
            await answering.respond(send, refusal, answering.instance(scope), close=content)
        elif not content and (scope["path"] in _UNCOUNTED or _LOGS.fullmatch(scope["path"])):
            await self._app(scope, receive, send)
        else:
            await self._seated(scope, receive, send, content=content)

    # --- what comes ----------------------------------------------------------------------------------

    def _refusal(self, scope: HTTPScope) -> ProblemError | None:
        limits = self._limits
        raw_path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
        if len(raw_path) + len(query) > limits.url:
            return _refused(problems.URI_TOO_LONG, f"path and query have more than {limits.url} bytes")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > limits.headers:
            return _refused(problems.HEADERS_TOO_LARGE, f"the headers have more than {limits.headers} bytes")
        for part, text in (("path", raw_path), ("query", query)):
            try:
                unquote_to_bytes(text).decode()
            except UnicodeDecodeError:
                next_step = "write characters beyond ASCII in UTF-8, percent-encoded"
                return ProblemError(problems.INVALID_REQUEST, f"the {part} is not UTF-8", next_step)
        return _bad_path(raw_path)

    async def _content(self, scope: HTTPScope, receive: Receive) -> Receive:
        """What gives the content, which has come whole. Raises ProblemError."""
        limits, wanted = self._limits, scope["method"] not in _WITHOUT_CONTENT
        too_large = _refused(problems.CONTENT_TOO_LARGE, f"the content has more than {limits.body} bytes")
        if (
            int(_headers(scope).get(b"content-length", b"0")) > limits.body
        ):  # no number: the server refused it
            raise too_large
        pieces: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(limits.receive):
                while more:
                    message = await receive()
                    piece: bytes = message.get("body", b"")  # type: ignore[assignment]
                    size += len(piece)
                    more = bool(message.get("more_body"))
                    if size > limits.body:
                        raise too_large
                    if wanted:
                        pieces.append(piece)
        except TimeoutError:
            detail = f"the content was not there within {limits.receive:g}s"
            raise _refused(problems.REQUEST_TIMEOUT, detail) from None
        if not wanted:
            raise _refused(problems.UNSUPPORTED_MEDIA_TYPE, f"{scope['method']} takes no content")
        return _replayed(b"".join(pieces), receive)

    # --- what goes -----------------------------------------------------------------------------------

    async def _seated(self, scope: HTTPScope, receive: Receive, send: Send, *, content: bool) -> None:
        begun, limit = False, self._limits.answer

        async def in_pieces(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.body" and len(message["body"]) > _PIECE:
                body, more = message["body"], message["more_body"]
                for start in range(0, len(body), _PIECE):
                    piece, last = body[start : start + _PIECE], start + _PIECE >= len(body)
                    await send({"type": "http.response.body", "body": piece, "more_body": more or not last})
            else:
                await send(message)

        time_limit = asyncio.timeout(limit)
        try:
            with self._seats.seat():
                if content:
                    try:
                        receive = await self._content(scope, receive)
                    except ProblemError as error:
                        await answering.respond(send, error, answering.instance(scope), close=True)
                        return
                scope.setdefault("state", {})[_SEATS] = self._seats
                async with time_limit:
                    await self._app(scope, receive, in_pieces)
        except NoSeat:
            detail = f"{self._seats.number} requests are being answered already"
            await answering.respond(send, _refused(problems.OVERLOADED, detail), answering.instance(scope))
        except Exception as error:
            if not time_limit.expired():
                raise
            if begun:
                raise Broken(f"not taken within {limit:g}s") from error
            detail = f"the answer had not begun after {limit:g}s"
            await answering.respond(send, _refused(problems.TOO_SLOW, detail), answering.instance(scope))


def _replayed(content: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the content, then what else comes: that the client is gone."""
    first: list[HTTPRequestEvent] = [{"type": "http.request", "body": content, "more_body": False}]

    async def next_message() -> Any:
        return first.pop() if first else await receive()

    return next_message


def _refused(kind: Kind, detail: str) -> ProblemError:
    return ProblemError(kind, detail, kind.next)


def _headers(scope: HTTPScope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def has_content(scope: HTTPScope) -> bool:
    """Whether a request announces any."""
    headers = _headers(scope)
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip(b"0") != b""


def _bad_path(path: bytes) -> ProblemError | None:
    """Paths that Litestar would read as others: it leaves out empty segments, and decodes before it splits.

    `/clusters/$ID` with an empty ID would be the list of all clusters.
    """
    text = path.decode("ascii", "replace")
    if "%2f" in text.lower():
        next_step = "no name here has a slash; write `_` where an object has no namespace"
        return ProblemError(problems.INVALID_REQUEST, "a segment of the path holds a slash (%2F)", next_step)
    if "//" in text or (text.endswith("/") and text != "/"):
        without = re.sub("/+", "/", text).rstrip("/") or "/"
        next_step = f"fill the empty segment (`_` where an object has no namespace), or use {without}"
        return ProblemError(problems.UNKNOWN_PATH, "a segment of the path is empty", next_step)
    return None
