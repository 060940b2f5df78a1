"""Everything at once: a reader's picture and the table are the same in the end."""

import asyncio
import random

import pytest

from services.api.watch import hub as hubs
from services.api.watch import reader as readers
from services.persistence.database.engine import Database
from tests.api.fixtures import Fleet
from tests.api.watch.changing import Cluster, delete, forget_tombstones, put
from tests.api.watch.following import Mirror, apply, follow, replica, table


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(2))
async def test_a_mirror_equals_the_table_whatever_happens(
    either_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random puts, removals and Events of three clusters, small pages and a small ring, readers that are cut
    off at random and go on from any position they were given, on either replica.
    """
    monkeypatch.setattr(hubs, "PAGE", 5)
    monkeypatch.setattr(readers, "_PAGE", 5)
    monkeypatch.setattr(hubs, "RING_CHANGES", 20)
    draw = random.Random(seed)
    async with (
        Database(either_url) as database,
        replica(either_url) as one,
        replica(either_url) as other,
    ):
        fleet = Fleet(database)
        clusters = [await Cluster(fleet, name).start("p0", "p1") for name in ("a1", "b2", "c3")]
        writing = asyncio.create_task(_write(draw, clusters))
        mirror: Mirror = {}
        position, connections = "", 0
        while not writing.done() or connections < 8:
            connections += 1
            async with follow(draw.choice([one, other]).url, "initial=true", since=position) as reader:
                await asyncio.sleep(draw.uniform(0, 0.4))
                taken = reader.messages[: draw.randint(0, len(reader.messages))]
            apply(mirror, taken)
            position = taken[-1].id if taken else position
        await writing
        async with follow(one.url, "initial=true", since=position) as reader:
            await reader.synced()
        apply(mirror, reader.messages)
        assert mirror == await table(database)


async def _write(draw: random.Random, clusters: list[Cluster]) -> None:
    names = [f"p{number}" for number in range(12)]
    for number in range(120):
        cluster = draw.choice(clusters)
        match draw.randint(0, 5):
            case 0:
                await cluster.delete(*draw.sample(names, draw.randint(1, 6)))
            case 1:
                gone, new = draw.sample(names, 3), draw.sample(names, 3)
                await cluster.change(*map(delete, gone), *(put(name, f"Both{number}") for name in new))
            case 2:
                await cluster.fleet.event(cluster.name, f"e{draw.randint(0, 9)}")
            case 3 if number % 20 == 0:
                await forget_tombstones(cluster.fleet.database, cluster.shard)
            case _:
                await cluster.put(*draw.sample(names, draw.randint(1, 12)), status=f"S{number}")
        await asyncio.sleep(0.005)
