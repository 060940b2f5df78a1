"""Dead letters reach the database, once each, and are shown whole."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from schemas import registry, subjects, topology
from schemas.deadletter import DeadLetter
from services.api.consumers.dead_letters import DeadLetterKeeper
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.runtime.bus.client import Bus
from tests.api.fixtures import Fleet
from tests.bus.fixtures import RunningBroker

Connect = Callable[..., Awaitable[Bus]]

PAYLOAD = b"\x00\xffnot JSON"


def letter(number: int) -> DeadLetter:
    return DeadLetter(
        reason=f"reason {number}",
        consumer="master",
        subject="atlhyper.up.kubernetes.a.heartbeat",
        stream=topology.HEARTBEATS.name,
        stream_sequence=number,
        received_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
        headers={"ce-type": "io.example.unknown.v1"},
        body=base64.b64encode(PAYLOAD),
    )


async def publish(master: Bus, number: int) -> None:
    """As the master does for a message it cannot read."""
    source = subjects.service_source("master", master.name)
    envelope = registry.MESSAGE_REJECTED.envelope(letter(number), source=source)
    await master.publish(subjects.service_dead("master"), envelope)


@asynccontextmanager
async def keeping(bus: Bus, database: Database) -> AsyncIterator[None]:
    task = asyncio.create_task(DeadLetterKeeper(bus, database).consumer.run())
    yield
    task.cancel()
    await asyncio.wait([task], timeout=40)


async def stored(api: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """The dead letters, once there are so many."""
    async with asyncio.timeout(40):
        while True:
            items: list[dict[str, Any]] = (await api.get("/api/v1/dead-letters")).json()["items"]
            if len(items) >= count:
                return items
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("own_broker")
async def test_a_dead_letter_is_kept_and_shown_whole(
    fleet: Fleet, api: httpx.AsyncClient, bus: Connect
) -> None:
    """Reason, origin, headers and the payload byte for byte; the list leaves the payload out."""
    await publish(await bus("master"), 1)
    async with keeping(await bus("api"), fleet.database):
        [item] = await stored(api, 1)
    assert "body" not in item
    assert (await api.get("/api/v1/dead-letters")).json()["as_of"] == item["received_at"]
    assert (item["reason"], item["consumer"], item["stream_sequence"]) == ("reason 1", "master", 1)
    assert item["sender"].startswith("/atlhyper/core/master/")
    assert item["headers"] == {"ce-type": "io.example.unknown.v1"}
    whole = (await api.get(f"/api/v1/dead-letters/{item['id']}")).json()
    assert base64.b64decode(whole.pop("body")) == PAYLOAD
    assert whole == item


async def test_what_arrived_while_nobody_kept_is_kept_later_and_once(
    fleet: Fleet, api: httpx.AsyncClient, bus: Connect, own_broker: RunningBroker
) -> None:
    """A keeper that comes back goes on; when the broker forgot how far it was, nothing doubles."""
    master = await bus("master")
    async with keeping(await bus("api"), fleet.database):
        await publish(master, 1)
        await stored(api, 1)
    await publish(master, 2)
    async with keeping(await bus("api"), fleet.database):
        await stored(api, 2)
    operator = await bus("operator")
    stream, durable = topology.DEAD_LETTERS.name, topology.DEAD_LETTERS_DURABLE
    await operator.api(f"$JS.API.CONSUMER.DELETE.{stream}.{durable}")
    await publish(master, 3)
    async with keeping(await bus("api"), fleet.database):
        items = await stored(api, 3)
    assert [item["reason"] for item in items] == ["reason 3", "reason 2", "reason 1"]


@pytest.mark.usefixtures("own_broker")
async def test_a_database_that_is_away_loses_none(
    fleet: Fleet, api: httpx.AsyncClient, bus: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database cannot be written the letter stays with the broker, however often it is tried."""
    from services.api.consumers import dead_letters

    real, failures = dead_letters.store, 0

    async def away(*arguments: Any) -> None:
        nonlocal failures
        failures += 1
        if failures <= 3:
            raise DatabaseUnavailable("locked")
        await real(*arguments)

    monkeypatch.setattr(dead_letters, "store", away)
    await publish(await bus("master"), 1)
    async with keeping(await bus("api"), fleet.database):
        [item] = await stored(api, 1)
    assert item["reason"] == "reason 1"
    assert failures == 4
    async with fleet.database.read() as connection:
        assert len((await queries.list_dead_letters(connection, limit=10)).items) == 1
