"""What cannot be told any more is said to be lost."""

import pytest
import sqlalchemy as sa

from schemas.ids import SHARDS
from services.persistence import tables
from services.persistence.database.engine import Database
from tests.api.watch.changing import Cluster, forget_tombstones
from tests.api.watch.following import Replica, follow


@pytest.mark.parametrize("initial", [False, True])
async def test_a_position_older_than_the_tombstones_is_told_so(
    one: Replica, cluster: Cluster, initial: bool
) -> None:
    """`resync` with a position to go on from; with `initial` the rows follow, else what changes."""
    async with follow(one.url) as reader:
        await reader.synced()
    await cluster.delete("web-0")
    await forget_tombstones(cluster.fleet.database, cluster.shard)
    query = "initial=true" if initial else ""
    async with follow(one.url, query, since=reader.position) as again:
        await again.synced()
        await cluster.put("web-1", status="New")
        await again.until(lambda reader: reader.messages[-1].event == "put")
    assert [(m.event, m.name) for m in again.messages] == [
        ("resync", ""),
        *([("put", "web-1")] if initial else []),
        ("synced", ""),
        ("put", "web-1"),
    ]
    assert "older" in again.messages[0].data["reason"]
    async with follow(one.url, since=again.position) as third:
        await third.synced()
    assert not third.of("resync")


async def test_only_the_shards_asked_for_are_looked_at(one: Replica, cluster: Cluster) -> None:
    """What another cluster has forgotten is no reason to begin anew."""
    async with follow(one.url, "cluster=prod-eu") as reader:
        await reader.synced()
    us = await Cluster(cluster.fleet, "prod-us").start("db-0")
    assert us.shard != cluster.shard
    await forget_tombstones(cluster.fleet.database, us.shard)
    async with follow(one.url, "cluster=prod-eu", since=reader.position) as again:
        await again.synced()
    assert not again.of("resync")


async def test_a_restored_database_is_noticed(one: Replica, cluster: Cluster) -> None:
    """Revisions that go backwards: those who are connected are told, and those who come back."""
    await cluster.put("web-0", status="Lost")
    async with follow(one.url, "initial=true") as reader:
        await reader.synced()
        before = reader.position
        await set_rev(cluster.fleet.database, cluster.shard, 1)
        await reader.synced(times=2)
    assert "restored" in reader.of("resync")[0].data["reason"]
    assert [message.event for message in reader.messages[-3:]] == ["put", "put", "synced"]
    for position in (before, "v1." + "-".join(["7fffffffffffffff"] * SHARDS)):
        async with follow(one.url, since=position) as again:
            await again.synced()
        assert "restored" in again.messages[0].data["reason"]
        assert again.messages[0].id == reader.position


async def set_rev(database: Database, shard: int, rev: int) -> None:
    model, row = tables.table_of(tables.Shard), tables.table_of(tables.Resource)
    async with database.write() as connection:
        await connection.execute(sa.update(model).where(model.c.shard == shard).values(rev=rev))
        await connection.execute(sa.update(row).where(row.c.shard == shard).values(rev=rev))
