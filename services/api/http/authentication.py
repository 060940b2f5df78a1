"""Who asks: every request but the probes' brings a token, or gets 401, whether its path exists or not.

It stands before routing, so that no handler can be without it, and before everything that costs something.
Outside of it are only the access line, and CORS: a browser asks its question before a request without one.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from services.api.http import answering, problems
from services.api.http.limits import Broken, has_content
from services.api.http.problems import ProblemError
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.database.migrate import check_revision
from services.persistence.tokens import ExpiredToken, Token, Tokens, UnknownToken
from services.runtime import logs
from services.runtime.errors import UserError
from services.runtime.settings import StoreSettings

_log = logs.get_logger(__name__)

OPEN = frozenset({"/livez", "/readyz"})
"""Probes have no token; nor have they content, which takes a place of the request's own while it comes."""
_METRICS = "/metrics"
"""What tells of a database that is away does not end with it: a token that was known before will do."""
_CHECK = 1.0
"""Seconds between two looks at whose requests are still under way."""
_WRITE = 30.0
"""Seconds between two times that last uses are written."""
_MOST = 512
"""Bytes of an Authorization header that may be a token of ours."""
_CONTENT = 1 << 20
_CONTENT_TIME = 2.0
"""Bytes and seconds of content that are read past before the refusal: a connection that ends with some unread
takes the refusal with it."""


class Authenticator:
    """Knows the tokens, and the requests that are under way with each. `run` is to be supervised."""

    def __init__(self, database: Database) -> None:
        self._tokens = Tokens(database)
        self._under_way: dict[asyncio.Timeout, Token] = {}

    async def identify(self, scope: HTTPScope) -> Token:
        """Raises ProblemError, and DatabaseUnavailable: nobody can say."""
        token = _bearer(scope)
        try:
            return await self._tokens.verify(token, however_old=scope["path"] == _METRICS)
        except ExpiredToken:
            raise _refused("the token has expired") from None
        except UnknownToken:
            raise _refused("the token is not one of this control plane, or was revoked") from None

    @contextmanager
    def under_way(self, token: Token, limit: asyncio.Timeout) -> Iterator[None]:
        """Meanwhile `limit` is made to end as soon as the token does."""
        self._under_way[limit] = token
        try:
            yield
        finally:
            del self._under_way[limit]

    async def run(self) -> None:
        """Until cancelled: ends what is under way with a revoked token, writes when tokens were used.

        While the database is away nobody can have revoked one there, and what is under way goes on.
        """
        written, trouble = time.monotonic(), ""
        try:
            while True:
                await asyncio.sleep(_CHECK)
                try:
                    if self._under_way:
                        await self._tokens.look()
                    if time.monotonic() - written > _WRITE:
                        written = time.monotonic()
                        await self._tokens.write_uses()
                except DatabaseUnavailable as error:
                    if str(error) != trouble:
                        trouble = str(error)
                        _log.warning("cannot look at the tokens", reason=trouble)
                else:
                    trouble = ""
                self._end_revoked()
        finally:
            await self._last_uses()

    def _end_revoked(self) -> None:
        valid = self._tokens.valid()
        for limit, token in self._under_way.items():
            if not limit.expired() and token.id not in valid:
                limit.reschedule(asyncio.get_running_loop().time())

    async def _last_uses(self) -> None:
        try:
            async with asyncio.timeout(_CHECK):
                await self._tokens.write_uses()
        except (DatabaseUnavailable, TimeoutError) as error:
            _log.warning("cannot write when tokens were used last", reason=str(error) or "no answer in time")


class Authentication:
    """Wraps the application. Handlers find the actor as their dependency `actor`."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or (scope["path"] in OPEN and not has_content(scope)):
            await self._app(scope, receive, send)
            return
        try:
            token = await self._authenticator.identify(scope)
        except DatabaseUnavailable as error:
            _log.warning("database unavailable", path=scope["path"], reason=str(error))
            next_step = error.next_step or problems.UNAVAILABLE.next
            await _answer(ProblemError(problems.UNAVAILABLE, error.message, next_step), scope, receive, send)
        except ProblemError as error:
            await _answer(error, scope, receive, send)
        else:
            scope.setdefault("state", {})["actor"] = token.actor
            await self._answered(token, scope, receive, send)

    async def _answered(self, token: Token, scope: HTTPScope, receive: Receive, send: Send) -> None:
        begun = False

        async def noticed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        limit = asyncio.timeout(None)
        try:
            async with limit:
                with self._authenticator.under_way(token, limit):
                    await self._app(scope, receive, noticed)
        except Exception as error:
            if not limit.expired():
                raise
            if begun:
                raise Broken(f"{token.actor}: the token was revoked, or has expired") from error
            refusal = _refused("the token was revoked, or has expired")
            await answering.respond(send, refusal, answering.instance(scope), close=True)


def actor(request: Request[Any, Any, Any]) -> str:
    """The dependency of that name: as whom a request is made, `token/<name>`."""
    return str(request.scope["state"]["actor"])


def _bearer(scope: HTTPScope) -> str:
    """The token of a request. Raises ProblemError; what was sent is never in it."""
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if not given:
        raise _refused(problems.UNAUTHORIZED.detail)
    scheme, _, token = given[0].partition(b" ")
    token = token.strip()
    if len(given) > 1 or scheme.lower() != b"bearer" or not token or len(token) > _MOST:
        raise _refused("the header Authorization is not `Bearer` and one token")
    return token.decode("latin-1")


def _refused(detail: str) -> ProblemError:
    return ProblemError(problems.UNAUTHORIZED, detail, problems.UNAUTHORIZED.next)


async def _answer(error: ProblemError, scope: HTTPScope, receive: Receive, send: Send) -> None:
    unread = await _read_past(scope, receive)
    await answering.respond(send, error, answering.instance(scope), close=unread)


async def _read_past(scope: HTTPScope, receive: Receive) -> bool:
    """Whether content is left unread."""
    if not has_content(scope):
        return False
    size, more = 0, True
    try:
        async with asyncio.timeout(_CONTENT_TIME):
            while more and size <= _CONTENT:
                message = await receive()
                size += len(message.get("body", b""))  # type: ignore[arg-type]
                more = bool(message.get("more_body"))
    except TimeoutError:
        pass
    return more


async def require_token(settings: StoreSettings, address: str) -> None:
    """Raises UserError when there is no token to come with to an address that other machines can reach."""
    async with Database(settings.database_url, "api") as database:
        await check_revision(database)
        tokens = Tokens(database)
        await tokens.look()
        if not tokens.valid():
            raise UserError(
                f"API_LISTEN: {address} can be reached from other machines, and there is no token yet",
                "make one first, `atlhyper tokens create --name NAME`, or listen on 127.0.0.1",
            )
    _log.warning("served in the clear: on a network tokens are read on the way unless TLS ends before it")
