"""Who asks: each request brings a token that the database knows, or is refused; nothing switches that off."""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from litestar.types import ASGIApp
from prometheus_client import generate_latest

from services.api.app import create_app, openapi_file
from services.api.http import authentication
from services.api.http.authentication import Authenticator
from services.api.http.document import FILE
from services.api.http.server import bind, serve
from services.api.watch.hub import Hub
from services.persistence import tables, tokens
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.runtime.health import Health
from tests.api.fixtures import Fleet
from tests.api.raw import listening
from tests.api.watch.following import Follower, follow
from tests.tokens import ACTOR, AUTHORIZED, TOKEN, admit
from tests.waiting import Stopwatch, until

DOCUMENT: dict[str, Any] = json.loads(openapi_file()[FILE])
OPEN = ("/livez", "/readyz")
OPERATIONS = sorted(
    (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item if path not in OPEN
)
ELSEWHERE = [
    "/nothing",
    "/api/v1",
    "/schema",
    "/schema/openapi.json",
    "/livez/",
    "//livez",
    "/livez%2F..",
    "/READYZ",
]
"""Paths that the document does not hold."""
CUT_OFF = 5.0
"""Seconds after which a revoked token is good for nothing."""


@pytest.fixture
async def anyone(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client that brings nothing."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.request.method != "HEAD":
        body = answer.json()
        assert body["type"] == "urn:atlhyper:problem:unauthorized"
        assert (body["status"], bool(body["detail"]), bool(body["next"])) == (401, True, True)


async def bad_headers(database_url: str, database: Database) -> dict[str, list[tuple[str, str]]]:
    """Each way to have no valid token, as headers."""
    expired, revoked = (f"atlhyper_{secrets.token_urlsafe(32)}" for _ in range(2))
    await admit(database_url, expired, "old", datetime.now(UTC) - timedelta(seconds=1))
    await admit(database_url, revoked, "gone")
    await tokens.revoke(database, "gone")
    wrong = {
        "none": None,
        "no scheme": TOKEN,
        "another scheme": f"Basic {TOKEN}",
        "no token": "Bearer",
        "an empty token": "Bearer ",
        "two tokens": f"Bearer {TOKEN} {TOKEN}",
        "too long": "Bearer " + "x" * 10_000,
        "not ASCII": f"Bearer {TOKEN}ÿ",
        "wrong": f"Bearer atlhyper_{secrets.token_urlsafe(32)}",
        "one character more": f"Bearer {TOKEN}0",
        "one character less": f"Bearer {TOKEN[:-1]}",
        "its hash": f"Bearer {hashlib.sha256(TOKEN.encode()).hexdigest()}",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
    }
    headers = {name: [] if value is None else [("Authorization", value)] for name, value in wrong.items()}
    return headers | {"given twice": [("Authorization", f"Bearer {TOKEN}")] * 2}


async def test_every_path_of_the_document_wants_a_valid_token(
    fleet: Fleet, database_url: str, anyone: httpx.AsyncClient
) -> None:
    """Every method of every path, with each way to have no valid token: 401, and what to do about it."""
    assert len(OPERATIONS) > 20
    for headers in (await bad_headers(database_url, fleet.database)).values():
        encoded = [(name, value.encode("latin-1")) for name, value in headers]
        for method, path in OPERATIONS:
            assert_refused(
                await anyone.request(method, path.replace("{", "").replace("}", ""), headers=encoded)
            )


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/clusters", "/api/v1/watch", *ELSEWHERE])
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE"]
)
async def test_so_does_everything_else(anyone: httpx.AsyncClient, method: str, path: str) -> None:
    """Other methods, the document itself, metrics, and what is not there: nobody learns what there is."""
    assert_refused(await anyone.request(method, path))


@pytest.mark.parametrize("path", OPEN)
async def test_probes_have_no_token(anyone: httpx.AsyncClient, path: str) -> None:
    """A kubelet has none; a token that is wrong does no harm there."""
    assert (await anyone.get(path)).status_code == 200
    assert (await anyone.head(path, headers=bearer("wrong"))).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_right_token_is_accepted(anyone: httpx.AsyncClient, scheme: str) -> None:
    """The scheme in any case (RFC 9110, 11.1)."""
    answer = await anyone.get("/api/v1/clusters", headers={"Authorization": f"{scheme} {TOKEN}"})
    assert answer.status_code == 200


async def test_a_new_token_is_good_at_once(fleet: Fleet, anyone: httpx.AsyncClient) -> None:
    """Also for a process that has looked a moment ago, and with an end that is still to come."""
    assert_refused(await anyone.get("/api/v1/clusters", headers=bearer("wrong")))
    token, _ = await tokens.create(fleet.database, "new", timedelta(seconds=8))
    await asyncio.sleep(tokens._UNKNOWN_LIFE)
    assert (await anyone.get("/api/v1/clusters", headers=bearer(token))).status_code == 200
    await asyncio.sleep(8)
    answer = await anyone.get("/api/v1/clusters", headers=bearer(token))
    assert_refused(answer)
    assert "expired" in answer.json()["detail"]


def test_the_document_says_so() -> None:
    """Bearer everywhere, 401 documented, but for the probes."""
    [(name, scheme)] = DOCUMENT["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert DOCUMENT["security"] == [{name: []}]
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            assert ("401" in operation["responses"]) is (path not in OPEN)
            assert operation.get("security") == ([] if path in OPEN else None)


# --- what is not learnt ------------------------------------------------------------------------------


async def test_tokens_are_stored_as_hashes_only(fleet: Fleet) -> None:
    """SHA-256 of 256 random bits; nothing in the row gives the token back."""
    token, _ = await tokens.create(fleet.database, "alice")
    assert len(token.removeprefix(tokens.PREFIX)) == 43  # 32 bytes in Base64
    assert len({(await tokens.create(fleet.database, "alice"))[0] for _ in range(20)}) == 20
    async with fleet.database.read() as connection:
        rows = (await connection.execute(sa.select(tables.table_of(tables.Token)))).all()
    assert hashlib.sha256(token.encode()).hexdigest() in {row.hash for row in rows}
    assert token.removeprefix(tokens.PREFIX) not in str(rows)


async def test_a_token_is_never_compared_with_another(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only digests are looked up, so that no time tells how much of a guess was right; the work is the same
    for a guess that shares all but the last character as for one that shares none."""
    seen: list[str] = []
    real = tokens._hash
    monkeypatch.setattr(tokens, "_hash", lambda token: seen.append(token) or real(token))
    known = tokens.Tokens(fleet.database)
    assert (await known.verify(TOKEN)).actor == ACTOR
    assert TOKEN not in str(vars(known))
    for guess in (TOKEN[:-1] + "1", "x" * len(TOKEN), ""):
        with pytest.raises(tokens.UnknownToken):
            await known.verify(guess)
    assert seen == [TOKEN, TOKEN[:-1] + "1", "x" * len(TOKEN), ""]


async def test_before_the_first_look_no_token_is_valid(fleet: Fleet) -> None:
    """An api that nobody has asked for anything yet looks for tokens that have ended all the same."""
    assert tokens.Tokens(fleet.database).valid() == set()


async def test_guessing_costs_the_database_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tries at a time cost one look, or four a second; valid ones one each two seconds."""
    looks = 0
    real = tokens._read

    async def counted(db: Database) -> tuple[dict[str, tokens.Token], datetime]:
        nonlocal looks
        looks += 1
        return await real(db)

    monkeypatch.setattr(tokens, "_read", counted)
    known = tokens.Tokens(fleet.database)
    started = time.monotonic()
    guesses = [known.verify(f"guess-{number}") for number in range(1000)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert all(isinstance(result, tokens.UnknownToken) for result in results)
    assert looks <= 1 + (time.monotonic() - started) / 0.25
    looks, started = 0, time.monotonic()
    for _ in range(1000):
        await known.verify(TOKEN)
    assert looks <= 1 + (time.monotonic() - started) / tokens.LIFE


async def test_a_token_is_nowhere_in_what_is_told(
    fleet: Fleet, app: ASGIApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valid or not, well or badly written, answered or failed: not in logs, metrics, answers."""
    canary = "atlhyper_canary" + secrets.token_hex(16)
    valid, _ = await tokens.create(fleet.database, "canary")
    answers: list[httpx.Response] = []
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with caplog.at_level(logging.DEBUG):
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for token in (canary, valid):
                for value in (f"Bearer {token}", token, f"Basic {token}", f"Bearer {token} {token}"):
                    sent = {"Authorization": value}
                    for path in ("/", "/nothing", "/api/v1/clusters", "/metrics", "/livez"):
                        answers += [await client.get(path, headers=sent)]
            monkeypatch.setattr(Database, "read", _broken)
            for token in (canary, valid):
                answers += [
                    await client.get(path, headers=bearer(token)) for path in ("/", "/api/v1/clusters")
                ]
    told = caplog.text + generate_latest().decode()
    told += "".join(f"{answer.headers}{answer.text}" for answer in answers)
    assert "unauthorized" in told
    for token in (canary, valid):
        assert token.removeprefix(tokens.PREFIX) not in told


@asynccontextmanager
async def _broken(self: Database) -> AsyncIterator[None]:
    raise RuntimeError("as if something was wrong with us")
    yield


async def test_the_access_line_says_who(api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """By the name of the token."""
    with caplog.at_level(logging.INFO):
        await api.get("/api/v1/clusters")
        await api.get("/api/v1/clusters", headers=bearer("wrong"))
    lines = [record.msg for record in caplog.records if record.name == "services.api.http.access"]
    assert [line["actor"] for line in lines] == [ACTOR, None]  # type: ignore[index]


# --- revoked ---------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(database: Database) -> AsyncIterator[str]:
    """An API over real HTTP, with what watches over requests under way; its address."""
    hub, authenticator = Hub(database), Authenticator(database)
    app = create_app(database, Health("api"), hub, authenticator=authenticator)
    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        host, port = listener.getsockname()
        work = [
            asyncio.create_task(coroutine)
            for coroutine in (serve(app, listener, hub.close), hub.run(), authenticator.run())
        ]
        try:
            yield f"http://{host}:{port}"
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)


async def test_a_revoked_token_is_refused_within_five_seconds(either_url: str) -> None:
    """Whoever had it before, and asks again and again; another token is not touched."""
    async with Database(either_url) as database, serving(database) as url:
        token, _ = await tokens.create(database, "leaver")
        async with httpx.AsyncClient(base_url=url, headers=bearer(token), timeout=40) as client:
            assert (await client.get("/api/v1/clusters")).status_code == 200
            async with Database(either_url) as elsewhere:  # as the command line does
                assert [one.name for one in await tokens.revoke(elsewhere, "leaver")] == ["leaver"]
            async with Stopwatch() as watch:
                while (answer := await client.get("/api/v1/clusters")).status_code == 200:
                    assert watch.seconds < CUT_OFF
                    await asyncio.sleep(0.02)
            assert_refused(answer)
            assert (await client.get("/api/v1/clusters", headers=AUTHORIZED)).status_code == 200


async def test_what_is_known_grows_old(fleet: Fleet, anyone: httpx.AsyncClient) -> None:
    """By each request itself, whether anybody watches over those under way or not."""
    token, _ = await tokens.create(fleet.database, "leaver")
    assert (await anyone.get("/api/v1/clusters", headers=bearer(token))).status_code == 200
    await tokens.revoke(fleet.database, "leaver")
    assert tokens.LIFE <= CUT_OFF - 2  # a look at the database may take as long
    await asyncio.sleep(tokens.LIFE + 0.1)
    assert_refused(await anyone.get("/api/v1/clusters", headers=bearer(token)))


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_what_is_under_way_ends_with_its_token(
    fleet: Fleet, end: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader of `/watch` that only listens is cut off too, in the middle of its answer; others stay."""
    caplog.set_level(logging.WARNING)
    lifetime = 8.0 if end == "expired" else 0.0
    token, _ = await tokens.create(
        fleet.database, "reader", timedelta(seconds=lifetime) if lifetime else None
    )
    async with serving(fleet.database) as url, follow(url) as other:
        async with _follow_as(token, url, monkeypatch) as reader:
            await reader.synced()
            await other.synced()
            if end == "revoked":
                await tokens.revoke(fleet.database, "reader")
            async with Stopwatch() as watch:
                await reader.until(lambda reader: reader.ended)
            assert watch.seconds < CUT_OFF + lifetime
        await until(lambda: "token/reader" in caplog.text)
        await asyncio.sleep(0.1)
        assert not other.ended
    assert reader.of("bye") == []
    assert token not in caplog.text


@asynccontextmanager
async def _follow_as(token: str, url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Follower]:
    with monkeypatch.context() as patch:
        patch.setattr("tests.api.watch.following.AUTHORIZED", bearer(token))
        async with follow(url) as reader:
            yield reader


async def test_a_request_that_waits_is_answered_401(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the answer has not begun when the token is revoked."""
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    token, _ = await tokens.create(fleet.database, "waiter")
    authenticator = Authenticator(fleet.database)
    layer = authentication.Authentication(app, authenticator)
    watching = asyncio.create_task(authenticator.run())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(layer), base_url="http://localhost") as client:
        asking = asyncio.create_task(client.get("/", headers=bearer(token)))
        await begun.wait()
        await tokens.revoke(fleet.database, "waiter")
        async with Stopwatch() as watch:
            assert_refused(await asking)
        assert watch.seconds < CUT_OFF
    watching.cancel()
    await asyncio.wait([watching])


async def test_last_use_is_known_to_the_minute(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written now and then, not by each request; an earlier minute never over a later one."""
    written: list[str] = []
    real = Database.write

    def counted(self: Database, **options: bool) -> Any:
        written.append("once")
        return real(self, **options)

    monkeypatch.setattr(Database, "write", counted)
    monkeypatch.setattr(authentication, "_WRITE", 0.0)
    authenticator = Authenticator(fleet.database)
    app = create_app(fleet.database, Health("api"), Hub(fleet.database), authenticator=authenticator)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=AUTHORIZED
    ) as client:
        for _ in range(50):
            assert (await client.get("/api/v1/clusters")).status_code == 200
    assert written == []
    before = datetime.now(UTC)
    watching = asyncio.create_task(authenticator.run())

    async def used() -> datetime | None:
        return next(token for token in await tokens.list_tokens(fleet.database)).last_used_at

    await until(used)
    at = await used()
    assert at is not None
    assert (at.second, at.microsecond) == (0, 0)
    assert timedelta(0) <= before - at < timedelta(minutes=2)
    watching.cancel()
    await asyncio.wait([watching])
    assert written == ["once"]


# --- without the database ----------------------------------------------------------------------------


async def test_without_the_database_nobody_is_let_in_on_trust(
    fleet: Fleet, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, once what is known is old; the metrics, which tell of that, go on for tokens that were known."""
    assert (await api.get("/api/v1/clusters")).status_code == 200
    monkeypatch.setattr(Database, "read", _away)
    monkeypatch.setattr(tokens, "LIFE", 0.0)
    for path in ("/", "/api/v1/clusters", "/nothing"):
        answer = await api.get(path)
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:atlhyper:problem:database-unavailable"
        assert answer.headers["retry-after"]
    assert (await api.get("/metrics")).status_code == 200
    assert_refused(await api.get("/metrics", headers=bearer("wrong")))
    assert (await api.get("/livez")).status_code == 200


@asynccontextmanager
async def _away(self: Database) -> AsyncIterator[None]:
    raise DatabaseUnavailable("database x: nobody answers there", "check that it runs")
    yield


async def test_a_database_that_hangs_holds_nobody_up(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """All who wait for one look are told at its end, not one after the other."""
    monkeypatch.setattr(Database, "read", _hanging)
    monkeypatch.setattr(tokens, "_PATIENCE", 0.3)
    known = tokens.Tokens(fleet.database)
    started = time.monotonic()
    results = await asyncio.gather(*(known.verify(TOKEN) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(result, DatabaseUnavailable) for result in results)
    assert time.monotonic() - started < 15  # and not 100 times as long as for one


@asynccontextmanager
async def _hanging(self: Database) -> AsyncIterator[None]:
    await asyncio.sleep(60)
    yield


# --- content, browsers -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 3, 100_000, 1_000_000])
async def test_a_refusal_arrives_whatever_was_sent(
    fleet: Fleet, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content is read past, or the connection would break before the answer was read."""
    monkeypatch.setattr(authentication, "_CONTENT_TIME", 30.0)
    async with listening(fleet.database) as served:
        head = f"POST /api/v1/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
        answer = await served.send(head.encode(), b"x" * size)
    assert answer.status == 401
    answer.problem("unauthorized")


@pytest.mark.parametrize("path", ["/api/v1/commands", *OPEN])
@pytest.mark.parametrize("declared", [3, 1 << 40])
async def test_content_that_does_not_come_is_not_waited_for(
    fleet: Fleet, declared: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody without a token keeps a connection busy, or one of the places of requests; a probe has none."""
    monkeypatch.setattr(authentication, "_CONTENT_TIME", 0.2)
    async with listening(fleet.database) as served:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {declared}\r\n\r\n"
        answer = await served.send(head.encode())
    assert (answer.status, answer.headers["connection"]) == (401, "close")


async def test_a_browser_may_ask_before_it_asks(fleet: Fleet) -> None:
    """Its question (CORS preflight) has no token; it learns that it may send one, and reads a refusal."""
    origin = "https://console.example"
    app = create_app(fleet.database, Health("api"), Hub(fleet.database), [origin])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        answer = await client.options("/api/v1/clusters", headers=asked)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-headers"] == "authorization"
        refused = await client.get("/api/v1/clusters", headers={"Origin": origin})
        assert_refused(refused)
        assert refused.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in refused.headers


# --- what is served elsewhere ------------------------------------------------------------------------


async def test_beyond_loopback_any_name_is_served(fleet: Fleet) -> None:
    """On loopback a foreign one is refused: a page elsewhere would come with one."""
    for any_host, status in ((False, 400), (True, 200)):
        app = create_app(fleet.database, Health("api"), Hub(fleet.database), any_host=any_host)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://atlhyper.example"
        ) as client:
            assert_refused(await client.get("/api/v1/clusters"))
            assert (await client.get("/api/v1/clusters", headers=AUTHORIZED)).status_code == status


async def test_names_of_tokens(fleet: Fleet) -> None:
    """They are actors: short, one word, and not a path."""
    for name in ("a", "ci-7", "alice.b_c", "x" * 63):
        assert tokens.check_name(name) == name
    for name in ("", "A", "-a", "a-", "a b", "a/b", "ä", "x" * 64, "a\n"):
        with pytest.raises(tokens.BadName):
            await tokens.create(fleet.database, name)
