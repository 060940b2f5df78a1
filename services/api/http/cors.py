"""Pages of other origins that may read the API in a browser (Fetch standard, 3.2): those that are named.

Nobody is allowed credentials, and there is no wildcard. Litestar's own answers a refusal with plain text
and leaves `Vary` out where it refuses, so that a cache could serve one origin's answer to another.
"""

from collections.abc import Sequence

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_VARY = (b"vary", b"Origin")
_METHODS = b"GET, HEAD"
_EXPOSED = b"ETag, Retry-After, WWW-Authenticate"
_MAX_AGE = b"600"
"""Seconds that a browser may remember the answer to its question."""


class Cors:
    """Wraps the application; without origins nothing is said, and a browser keeps answers to itself."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not self._origins:
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        origin = asked.get(b"origin", b"")
        allowed = [(b"access-control-allow-origin", origin)] if origin in self._origins else []
        if scope["method"] == "OPTIONS" and origin and b"access-control-request-method" in asked:
            headers = [_VARY]
            if allowed:
                wanted = asked.get(b"access-control-request-headers", b"")
                headers += [
                    *allowed,
                    (b"access-control-allow-methods", _METHODS),
                    (b"access-control-max-age", _MAX_AGE),
                    *([(b"access-control-allow-headers", wanted)] if wanted else []),
                ]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], _VARY, *allowed]
                if allowed:
                    headers.append((b"access-control-expose-headers", _EXPOSED))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, marked)
