"""What surrounds every request, whether a route is found or not: one access line, the metrics, HEAD."""

import re
import time
from urllib.parse import unquote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from services.api.http.answering import with_head
from services.api.http.limits import Broken
from services.api.http.streaming import asked_for_head
from services.persistence.database.errors import DatabaseUnavailable
from services.runtime import logs

_log = logs.get_logger(__name__)

REQUESTS = Counter("atlhyper_api_requests", "Requests answered", ["method", "route", "status"])
DURATION = Histogram(
    "atlhyper_api_request_seconds",
    "Time to answer a request",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_ABSOLUTE = re.compile("https?://[^/]*", re.IGNORECASE)
_AS_IT_COMES = b"no-transform"
"""In the header of answers that have no end of their own: the watch, and logs."""
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""A name with markup in it stays JSON, whatever a browser thinks it looks like."""
_CLIENT_GONE = 499
"""The status in log and metrics when nobody was left to answer; nginx's number for it."""


class Access:
    """Wraps the application. The log line has no query, no header and no body: they may hold secrets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        scope = _in_origin_form(scope)
        started = time.perf_counter()
        method, path = scope["method"], _raw_path(scope)
        # HEAD is GET without the content (RFC 9110, 9.3.2); answering it here keeps it true for every route.
        inner = asked_for_head(scope) if method == "HEAD" else scope
        status, endless = _CLIENT_GONE, False

        async def observe(message: Message) -> None:
            nonlocal status, endless
            if message["type"] == "http.response.start":
                status = int(message["status"])
                endless = any(_AS_IT_COMES in value for _, value in message["headers"])
                headers = [*(_allow_head(header) for header in message["headers"]), _NO_SNIFFING]
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body" and method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(inner, receive, observe)
        except Exception as error:
            if status == _CLIENT_GONE:
                raise
            # Litestar has wrapped what came after the beginning. The server closes the connection of an
            # answer that was not completed, and the reader sees that it was not.
            cause = error if isinstance(error, Broken) else error.__cause__ or error
            known = isinstance(cause, Broken | DatabaseUnavailable)
            _log.warning(
                "answer broken off",
                method=method,
                path=path,
                reason=str(cause) or type(cause).__name__,
                exc_info=None if known else cause,
            )
        finally:
            seconds = time.perf_counter() - started
            route = inner.get("path_template") or "(none)"
            REQUESTS.labels(method if method in _METHODS else "(other)", route, str(status)).inc()
            if not endless:  # how long a reader stays says nothing of how fast we answer
                DURATION.labels(route).observe(seconds)
            actor = (inner.get("state") or {}).get("actor")
            _log.info(
                "request", method=method, path=path, status=status, seconds=round(seconds, 6), actor=actor
            )


def _in_origin_form(scope: HTTPScope) -> HTTPScope:
    """A server has to take `GET http://host/path` as well (RFC 9112, 3.2.2); uvicorn leaves it as it is."""
    if not _ABSOLUTE.match(scope["path"]):
        return scope
    raw_path = _ABSOLUTE.sub("", _raw_path(scope)) or "/"
    return {**scope, "path": unquote(raw_path), "raw_path": raw_path.encode()}


def _raw_path(scope: HTTPScope) -> str:
    """The path as it was sent: percent-encoded, so that no control character reaches the log."""
    return (scope.get("raw_path") or scope["path"].encode()).decode("ascii", "backslashreplace")


def _allow_head(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = header
    return (name, with_head(value.decode()).encode()) if name.lower() == b"allow" else header
