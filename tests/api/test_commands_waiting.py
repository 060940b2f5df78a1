"""Waiting for the end of a command: woken by a hint, found without one, bounded, and in nobody's way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import msgspec
import pytest

from schemas.control import CommandsChanged
from schemas.registry import COMMANDS_CHANGED
from schemas.subjects import service_source
from services.api.app import create_app
from services.api.commands import waiting
from services.api.commands.waiting import CommandNews
from services.api.http.limits import Limits
from services.api.http.server import bind, serve
from services.api.watch.hub import Hub
from services.persistence import queries
from services.persistence.database.engine import Connection
from services.runtime.bus.client import BusUnavailable
from services.runtime.health import Health
from tests.api.commanding import COMMANDS, SCALE, announce, ask, end
from tests.api.fixtures import Fleet
from tests.api.test_problems import assert_problem
from tests.bus.fixtures import Connect
from tests.tokens import AUTHORIZED
from tests.waiting import until

HINT_SOURCE = service_source("master", "m")


@pytest.fixture
def news(fleet: Fleet) -> CommandNews:
    return CommandNews(fleet.database, waiters=3)


@asynccontextmanager
async def client(fleet: Fleet, news: CommandNews, **limits: int) -> AsyncIterator[httpx.AsyncClient]:
    """Of an API that has these news and limits."""
    await announce(fleet)
    app = create_app(fleet.database, Health("api"), Hub(fleet.database), limits=Limits(**limits), news=news)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", headers=AUTHORIZED, timeout=30
    ) as made:
        yield made


async def hint(news: CommandNews, *ids: str, ended: bool = False) -> None:
    """What a master says."""
    body = CommandsChanged(command_ids=list(ids), ended=list(ids) if ended else [])
    await news.heard("", COMMANDS_CHANGED.envelope(body, source=HINT_SOURCE))


async def test_a_hint_wakes_whoever_waits(
    fleet: Fleet, news: CommandNews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several who wait for one command, by POST and by GET, are all answered at the hint; one who waits for
    another command is not."""
    monkeypatch.setattr(waiting, "POLL", 60.0)
    async with client(fleet, news) as api:
        key = {"Idempotency-Key": "k"}
        made, other = (await ask(api, headers=key))["id"], (await ask(api))["id"]
        waits = [
            asyncio.create_task(api.get(f"{COMMANDS}/{made}?wait=60s")),
            asyncio.create_task(api.post(f"{COMMANDS}?wait=60s", json=SCALE, headers=key)),
        ]
        longer = asyncio.create_task(api.get(f"{COMMANDS}/{other}?wait=60s"))
        await until(lambda: news.seats.taken == 3)
        await hint(news, made, "of-somebody-else")  # it has moved on, and not ended
        await asyncio.sleep(0.1)
        assert not any(wait.done() for wait in waits)
        await end(fleet.database, made)
        await hint(news, made, "of-somebody-else", ended=True)
        async with asyncio.timeout(30):  # of the minute that they would wait
            answers = await asyncio.gather(*waits)
        assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [
            (200, "succeeded")
        ] * 2
        assert news.seats.taken == 1
        news.close()
        assert (await longer).json()["state"] == "accepted"
        assert news.seats.taken == 0


async def test_a_hint_of_an_older_master(
    fleet: Fleet, news: CommandNews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say which have ended: who waits for one of them looks, and waits on while it has not."""
    monkeypatch.setattr(waiting, "POLL", 60.0)
    looks: list[str] = []
    state = queries.command_state

    async def counted(connection: Connection, id: str) -> str | None:
        found = await state(connection, id)
        looks.append(id)  # what comes to pass from now on is for another look
        return found

    monkeypatch.setattr(queries, "command_state", counted)
    async with client(fleet, news) as api:
        made, other = (await ask(api))["id"], (await ask(api))["id"]
        waits = [asyncio.create_task(api.get(f"{COMMANDS}/{one}?wait=60s")) for one in (made, made, other)]
        await until(lambda: sorted(looks) == sorted([made, made, other]))
        older = COMMANDS_CHANGED.envelope(CommandsChanged(command_ids=[made]), source=HINT_SOURCE)
        older = replace(older, data=msgspec.json.encode({"command_ids": [made]}))
        await news.heard("", older)
        await until(lambda: looks.count(made) == 4)
        await end(fleet.database, made)
        await news.heard("", older)
        async with asyncio.timeout(30):
            answers = await asyncio.gather(*waits[:2])
        assert [answer.json()["state"] for answer in answers] == ["succeeded"] * 2
        assert (looks.count(made), looks.count(other)) == (6, 1)
        news.close()
        assert (await waits[2]).json()["state"] == "accepted"


async def test_without_a_hint_it_is_found(
    fleet: Fleet, news: CommandNews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint that is lost costs one interval."""
    monkeypatch.setattr(waiting, "POLL", 0.05)
    async with client(fleet, news) as api:
        made = (await ask(api))["id"]
        wait = asyncio.create_task(api.get(f"{COMMANDS}/{made}?wait=60s"))
        await until(lambda: news.seats.taken == 1)
        await end(fleet.database, made)
        async with asyncio.timeout(30):
            assert (await wait).json()["state"] == "succeeded"


async def test_a_wait_has_an_end(fleet: Fleet, news: CommandNews) -> None:
    """Then it is told how it stands: 200 for who asks about it, 202 for who has asked for it."""
    async with client(fleet, news) as api:
        answer = await api.post(f"{COMMANDS}?wait=50ms", json=SCALE)
        assert (answer.status_code, answer.json()["state"]) == (202, "accepted")
        answer = await api.get(f"{COMMANDS}/{answer.json()['id']}?wait=50ms")
        assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
        for wrong in ("61s", "long", "10", "", "-1s"):
            path = f"{COMMANDS}/{answer.json()['id']}?wait={wrong}"
            assert_problem(await api.get(path), 400, "invalid-parameter")


async def test_only_so_many_wait(fleet: Fleet, news: CommandNews) -> None:
    """One more is told to come back; a command that one more asks for is accepted, and not waited for."""
    async with client(fleet, news) as api:
        made = (await ask(api))["id"]
        waits = [asyncio.create_task(api.get(f"{COMMANDS}/{made}?wait=60s")) for _ in range(3)]
        await until(lambda: news.seats.taken == 3)
        refused = await api.get(f"{COMMANDS}/{made}?wait=60s")
        assert_problem(refused, 503, "too-many-waiters")
        assert refused.headers["retry-after"] == "2"
        assert (await api.post(f"{COMMANDS}?wait=60s", json=SCALE)).status_code == 202
        await end(fleet.database, made)
        await hint(news, made, ended=True)
        assert {answer.status_code for answer in await asyncio.gather(*waits)} == {200}


async def test_who_waits_is_in_nobodys_way(fleet: Fleet, news: CommandNews) -> None:
    """The requests that only wait do not count among those that are answered at a time."""
    async with client(fleet, news, requests=1) as api:
        made = (await ask(api))["id"]
        waits = [asyncio.create_task(api.get(f"{COMMANDS}/{made}?wait=60s"))]
        await until(lambda: news.seats.taken == 1)
        waits.append(asyncio.create_task(api.post(f"{COMMANDS}?wait=60s", json=SCALE)))
        await until(lambda: news.seats.taken == 2)
        assert (await api.get("/api/v1/clusters")).status_code == 200
        news.close()
        assert {answer.status_code for answer in await asyncio.gather(*waits)} == {200, 202}
        assert (await api.get("/api/v1/clusters")).status_code == 200


async def test_who_is_gone_waits_no_longer(fleet: Fleet, news: CommandNews) -> None:
    """The seat is free as soon as the connection is closed."""
    await announce(fleet)
    app = create_app(fleet.database, Health("api"), Hub(fleet.database), news=news)
    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        host, port = listener.getsockname()
        serving = asyncio.create_task(serve(app, listener))
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", headers=AUTHORIZED, timeout=40) as api:
            made = f"{COMMANDS}/{(await ask(api))['id']}"
        for method, path, body in (("POST", COMMANDS, SCALE), ("GET", made, None)):
            async with httpx.AsyncClient(
                base_url=f"http://{host}:{port}", headers=AUTHORIZED, timeout=40
            ) as api:
                wait = asyncio.create_task(api.request(method, f"{path}?wait=60s", json=body))
                await until(lambda: news.seats.taken == 1)
                wait.cancel()
                await asyncio.wait([wait])
            await until(lambda: news.seats.taken == 0)
        serving.cancel()
        await asyncio.wait([serving])


async def test_masters_and_replicas_are_told(fleet: Fleet, bus: Connect) -> None:
    """Over the bus, within what the api's user may: the master hears of it, and so does another replica."""
    heard: list[str] = []

    async def master(_subject: str, envelope: object) -> None:
        heard.extend(COMMANDS_CHANGED.decode(envelope.data).command_ids)  # type: ignore[attr-defined]

    mine, theirs, masters = await bus("api"), await bus("api"), await bus("master")
    news, other = CommandNews(fleet.database, mine), CommandNews(fleet.database, theirs)
    await theirs.subscribe("atlhyper.core.commands.changed", other.heard)
    await masters.subscribe("atlhyper.core.commands.changed", master)
    async with client(fleet, news) as api, client(fleet, other) as replica:
        made = (await ask(api))["id"]
        await until(lambda: heard == [made])
        wait = asyncio.create_task(replica.get(f"{COMMANDS}/{made}?wait=60s"))
        await until(lambda: other.seats.taken == 1)
        await end(fleet.database, made)
        await news.tell([made])
        assert (await wait).json()["state"] == "succeeded"
        await api.post(f"{COMMANDS}/{(await ask(api))['id']}/cancel")
        await until(lambda: len(heard) == 4)


async def test_a_bus_that_is_away_is_no_reason_to_refuse(fleet: Fleet) -> None:
    """Accepted all the same: masters look by themselves."""

    class Away:
        name = "api"

        async def send(self, *_: object, **__: object) -> None:
            raise BusUnavailable("no connection")

    async with client(fleet, CommandNews(fleet.database, Away())) as api:  # type: ignore[arg-type]
        await ask(api)
