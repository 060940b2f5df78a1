"""The hub's ring: who is sent what from it, and how it hears of changes."""

import asyncio
import itertools
import json
from contextlib import aclosing

import pytest

from schemas.control import Nudge
from schemas.registry import ROWS_CHANGED
from schemas.subjects import ALL_NUDGES, nudge, service_source
from services.api.watch import hub as hubs
from services.api.watch import reader as readers
from services.api.watch.hub import Hub
from services.api.watch.position import Position
from services.api.watch.reader import Reader, Wish
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.queries import EVERYTHING, list_changes
from tests.api.fixtures import Fleet
from tests.api.watch.changing import Cluster
from tests.api.watch.following import Replica, follow, replica
from tests.bus.fixtures import Connect
from tests.waiting import until


async def sent(hub: Hub, position: Position, many: int) -> list[str]:
    """The names in the first puts that a reader is sent from a position on, while the hub looks."""
    reader = Reader(hub, Wish(where=EVERYTHING, position=position))
    await reader.open()
    text = b""
    async with asyncio.timeout(40), aclosing(reader.blocks()) as blocks:
        async for block in blocks:
            text += block
            if text.count(b"event: put") >= many:
                break
            await hub._look()
    return [
        json.loads(line[6:])["name"] for line in text.decode().split("\n") if line.startswith('data: {"ag')
    ]


async def test_a_reader_in_the_middle_of_a_batch_is_sent_the_rest(fleet: Fleet, cluster: Cluster) -> None:
    """What it has seen before is left out: it would be an older state."""
    hub = Hub(fleet.database)
    await hub._look()
    with hub.seat(full=False):
        before = Position.at(hub.head)
        for name in ("first", "second", "third"):
            await cluster.put(name)
        await hub._look()
        [batch] = hub._ring
        assert [change.name for change in batch.changes] == ["first", "second", "third"]
        seen = before.moved(cluster.shard, batch.changes[0].rev)
        assert hub.next_batch(seen, full=False) == hub._first
        assert await sent(hub, seen, 2) == ["second", "third"]


async def test_a_reader_that_comes_while_a_commit_is_half_read_is_sent_the_whole(
    fleet: Fleet, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first half is in the ring already, and no part of it may be left out."""
    monkeypatch.setattr(hubs, "PAGE", 3)
    hub = Hub(fleet.database)
    await hub._look()
    with hub.seat(full=False):
        before = Position.at(hub.head)
        names = [f"pod-{number}" for number in range(7)]
        await cluster.put(*names)
        assert await hub._look()
        assert len(hub._ring) == 1
        assert await sent(hub, before, 7) == names


async def test_what_a_failing_page_held_is_read_again(
    fleet: Fleet, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away between two shards: the reader's position stays with what was sent."""
    us = await Cluster(fleet, "prod-us").start()
    assert us.shard != cluster.shard
    hub = Hub(fleet.database)
    await hub._look()
    before = Position.at(hub.head)
    await cluster.put("web-7")
    await us.put("db-7")
    await hub._look()
    calls = itertools.count(1)

    async def failing(*args: object, **options: object) -> object:
        if next(calls) == 2:
            raise DatabaseUnavailable("the test cut it off")
        return await list_changes(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(readers, "list_changes", failing)
    assert sorted(await sent(hub, before, 2)) == ["db-7", "web-7"]


async def test_a_nudge_is_heard_at_once(
    database_url: str, cluster: Cluster, bus: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub would look by itself, but later; what is no nudge does no harm."""
    monkeypatch.setattr(hubs, "POLL", 3600.0)
    master = await bus("master")
    async with replica(database_url) as one, follow(one.url) as reader:
        await (await bus("api")).subscribe(ALL_NUDGES, one.hub.nudge)
        await reader.synced()
        await until(
            lambda: any(one.hub.head)
        )  # the look with which it begins, which may come after the reader
        await cluster.put("web-0", status="Nudged")
        await asyncio.sleep(0.3)
        assert not reader.of("put")
        source = service_source("master", "test")
        for shard in (99, cluster.shard):
            body = ROWS_CHANGED.envelope(Nudge(shard=shard, rev=10**6), source=source)
            await master.send(nudge(cluster.shard), body)
        await reader.until(lambda reader: reader.of("put"))


async def test_without_a_nudge_it_takes_a_second(one: Replica, cluster: Cluster) -> None:
    """A lost nudge, or a bus that is away, costs no more."""
    assert hubs.POLL <= 1.0
    async with follow(one.url) as reader:
        await reader.synced()
        await cluster.put("web-0")
        await reader.until(lambda reader: reader.of("put"))
