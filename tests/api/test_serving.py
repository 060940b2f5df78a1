"""The api as a process: where it listens, and how it ends."""

import asyncio
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path
from statistics import median

import httpx
import pytest

from services.api.app import create_app, run
from services.api.http import server
from services.api.http.server import bind, serve
from services.api.settings import ApiSettings
from services.api.watch.hub import Hub
from services.persistence import tokens
from services.persistence.database.engine import Database
from services.runtime.errors import UserError
from services.runtime.health import Health
from services.runtime.settings import SettingsError, load
from tests.api.fixtures import Fleet
from tests.api.processes import environment, process
from tests.bus.fixtures import RunningBroker
from tests.tokens import AUTHORIZED, NAME
from tests.waiting import Stopwatch


@pytest.mark.alone
@pytest.mark.timeout(240)
async def test_sigterm_ends_it_within_three_seconds(broker: RunningBroker, database_url: str) -> None:
    """Also with a connection that is kept alive and one whose request never ends; the exit code is 0."""
    took = [await until_ended(broker, database_url)]
    while took[-1] > 3 and len(took) < 3:  # the machine may have stood still
        took.append(await until_ended(broker, database_url))
    assert took[-1] < 3, took


async def until_ended(broker: RunningBroker, database_url: str) -> float:
    """Seconds from SIGTERM to the end."""
    variables = environment(broker, database_url, API_LISTEN="127.0.0.1:0")
    async with process(**variables) as (running, lines):
        url = httpx.URL(str(lines[-1]["address"]))
        async with httpx.AsyncClient(base_url=url, headers=AUTHORIZED, timeout=30) as client:
            assert (await client.get("/livez")).status_code == 200
            async with asyncio.timeout(40):
                while True:
                    if (await client.get("/readyz")).status_code == 200:
                        break
                    await asyncio.sleep(0.05)
            _, half = await asyncio.open_connection(url.host, url.port)
            half.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
            await half.drain()
            started = time.monotonic()
            running.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await running.wait() == 0
            half.close()
            return time.monotonic() - started


async def test_a_request_under_way_is_answered_before_the_end(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop waits for the answer that is being made, and then takes no more."""
    monkeypatch.setattr(server, "GRACE", 30.0)
    entered, go_on = asyncio.Event(), asyncio.Event()

    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        inner = create_app(fleet.database, Health("api"), Hub(fleet.database))

        async def slow(scope, receive, send):  # type: ignore[no-untyped-def]
            if scope["type"] == "http":
                entered.set()
                await go_on.wait()
            await inner(scope, receive, send)

        host, port = listener.getsockname()
        serving = asyncio.create_task(serve(slow, listener))
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=AUTHORIZED, timeout=40
        ) as client:
            asked = asyncio.create_task(client.get("/livez"))
            await entered.wait()
            serving.cancel()
            await asyncio.sleep(0.2)
            assert not serving.done()
            go_on.set()
            assert (await asked).status_code == 200
        await asyncio.wait([serving], timeout=30)
        assert serving.cancelled()


async def test_a_request_that_never_ends_does_not_hold_it_up() -> None:
    """After the grace it is cut off, and the server is gone within 3 seconds."""
    entered = asyncio.Event()

    async def endless(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"data", "more_body": True})
            entered.set()
            await asyncio.Event().wait()

    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        host, port = listener.getsockname()
        serving = asyncio.create_task(serve(endless, listener))
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=AUTHORIZED, timeout=40
        ) as client:
            asked = asyncio.create_task(client.get("/"))
            await entered.wait()
            async with Stopwatch() as watch:
                serving.cancel()
                await asyncio.wait([serving], timeout=30)
            assert watch.seconds < 3
            with pytest.raises(httpx.RemoteProtocolError):
                await asked


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080", "example.com:80"])
async def test_without_a_token_nobody_else_may_reach_it(
    database_url: str, address: str, broker: RunningBroker
) -> None:
    """None, or one that has expired: it does not even begin to listen, and says which command makes one."""
    async with Database(database_url) as database:
        await tokens.revoke(database, NAME)
        await tokens.create(database, "old", timedelta(seconds=-1))
    settings = ApiSettings(listen=address, home=broker.home, nats_url=broker.url, database_url=database_url)
    with pytest.raises(UserError, match="there is no token yet") as caught:
        await run(settings)
    assert "API_LISTEN" in str(caught.value)
    assert "atlhyper tokens create" in caught.value.next_step


async def test_with_a_token_others_may_reach_it(broker: RunningBroker, database_url: str) -> None:
    """It warns that it speaks in the clear, answers under any name, and asks for the token."""
    async with process(**environment(broker, database_url, API_LISTEN="0.0.0.0:0")) as (_, lines):
        assert any("in the clear" in str(line["event"]) for line in lines)
        port = str(lines[-1]["address"]).rpartition(":")[2]
        url, elsewhere = f"http://127.0.0.1:{port}/api/v1/clusters", {"Host": "atlhyper.example"}
        async with httpx.AsyncClient(timeout=40) as client:
            assert (await client.get(url, headers=elsewhere)).status_code == 401
            assert (await client.get(url, headers=elsewhere | AUTHORIZED)).status_code == 200


async def test_an_address_that_is_not_ours_is_called_so(database_url: str) -> None:
    """Not in use: no interface of this machine has it."""
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1:8080") as caught:
        await run(ApiSettings(listen="192.0.2.1:8080", database_url=database_url))
    assert "in use" not in str(caught.value)


async def test_a_set_address_in_use_is_an_error(database_url: str) -> None:
    """Whoever names a port means it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"API_LISTEN: 127.0.0.1:{port} is in use"):
            await run(ApiSettings(listen=f"127.0.0.1:{port}", database_url=database_url))


async def test_a_default_port_in_use_moves_to_the_next(broker: RunningBroker, database_url: str) -> None:
    """Without API_LISTEN it says that 8080 is taken, and which one it took."""
    try:
        taken = socket.create_server(("127.0.0.1", 8080))
    except OSError:
        taken = socket.socket()  # somebody else has it, which is as good
    with taken:
        async with process(**environment(broker, database_url)) as (_, lines):
            [moved] = [line for line in lines if "moved to the next free one" in str(line["event"])]
            assert lines[-1]["address"] == f"http://{moved['now']}"
            assert moved["now"] != "127.0.0.1:8080"
            async with httpx.AsyncClient(headers=AUTHORIZED, timeout=40) as client:
                assert (await client.get(f"http://{moved['now']}/livez")).text == "ok\n"


async def test_a_database_without_tables_is_refused(broker: RunningBroker, tmp_path: Path) -> None:
    """It says which command makes them."""
    settings = ApiSettings(
        home=broker.home,
        nats_url=broker.url,
        listen="127.0.0.1:0",
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}",
    )
    with pytest.raises(UserError) as caught:
        await run(settings)
    assert "atlhyper db upgrade" in caught.value.next_step


def test_a_misspelt_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It suggests the one that was meant."""
    monkeypatch.setenv("API_LISTN", "127.0.0.1:9000")
    with pytest.raises(SettingsError, match="API_LISTEN"):
        load(ApiSettings)


@pytest.mark.alone
async def test_a_kept_connection_answers_at_once(fleet: Fleet, served: httpx.AsyncClient) -> None:
    """No 40 ms between head and body: the socket does not wait for the peer's delayed acknowledgement."""
    await fleet.heartbeat("prod-eu")
    await served.get("/livez")
    took = []
    for _ in range(21):
        started = time.monotonic()
        await served.get("/livez")
        took.append(time.monotonic() - started)
    assert median(took) < 0.035


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://console.example", True), ("https://evil.example", False)]
)
async def test_only_named_origins_may_read_it_in_a_browser(fleet: Fleet, origin: str, allowed: bool) -> None:
    """API_CORS_ORIGINS lists who; nobody else gets the header."""
    app = create_app(fleet.database, Health("api"), Hub(fleet.database), ["https://console.example"])
    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        serving = asyncio.create_task(serve(app, listener))
        host, port = listener.getsockname()
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=AUTHORIZED, timeout=40
        ) as client:
            answer = await client.get("/api/v1/clusters", headers={"Origin": origin})
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
        serving.cancel()
        await asyncio.wait([serving])


async def test_by_default_no_origin_may(api: httpx.AsyncClient) -> None:
    """Without API_CORS_ORIGINS a browser keeps the answer from every other page."""
    answer = await api.get("/api/v1/clusters", headers={"Origin": "https://console.example"})
    assert "access-control-allow-origin" not in answer.headers
