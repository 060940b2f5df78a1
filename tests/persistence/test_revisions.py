"""Revisions and tombstones: what those who follow the changes rest on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import sqlalchemy as sa

from schemas.frames import Frame
from services.persistence import retention, tables
from services.persistence.database.engine import Database
from services.persistence.events.store import store_events
from services.persistence.state.applier import FrameApplier
from services.persistence.state.report import Report
from services.runtime.tasks import cancelled
from tests.persistence.conftest import PATIENT
from tests.persistence.frames import FrameSource, Log, apply_all, body_of
from tests.persistence.test_events import observed

pytestmark = pytest.mark.timeout(180)

_SHARD, _TOMBSTONE = tables.table_of(tables.Shard), tables.table_of(tables.Tombstone)
_RESOURCE, _EVENT = tables.table_of(tables.Resource), tables.table_of(tables.Event)


@dataclass
class Stage:
    """One agent, its shard's applier, and what a reader of changes finds."""

    db: Database
    source: FrameSource = field(default_factory=FrameSource)
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        self.applier = FrameApplier(self.db, self.source.target.shard)

    async def apply(self, *frames: Frame) -> Report:
        received = [self.log.receive(self.source.target, frame) for frame in frames]
        return await apply_all(self.applier, received, self.log.cursor)

    async def rev(self) -> int:
        return (await self.shard())[0]

    async def shard(self) -> tuple[int, int]:
        """Revision, and up to where tombstones may be gone."""
        found = await self._all(sa.select(_SHARD.c.rev, _SHARD.c.forgotten, _SHARD.c.shard))
        assert [row.shard for row in found] == [self.source.target.shard]
        return found[0].rev, found[0].forgotten

    async def tombstones(self) -> dict[str, int]:
        """Revision by name."""
        found = await self._all(sa.select(_TOMBSTONE.c.name, _TOMBSTONE.c.rev, _TOMBSTONE.c.uid))
        assert all(row.uid == f"uid-{row.name}" for row in found)
        return {row.name: row.rev for row in found}

    async def objects(self) -> dict[str, int]:
        """Revision by name."""
        found = await self._all(sa.select(_RESOURCE.c.name, _RESOURCE.c.rev))
        return {row.name: row.rev for row in found}

    async def _all(self, select: sa.Select[tuple[object, ...]]) -> list[sa.Row[tuple[object, ...]]]:
        async with self.db.read() as connection:
            return list((await connection.execute(select)).all())


@pytest.fixture
async def stage(db: Database) -> Stage:
    """An agent with two pods in sync, at revision 1."""
    stage = Stage(db)
    source = stage.source
    await stage.apply(source.begin("e1"), source.put("p1"), source.put("p2"), source.synced())
    assert (await stage.rev(), await stage.objects()) == (1, {"p1": 1, "p2": 1})
    return stage


async def test_deletion_leaves_a_tombstone(stage: Stage) -> None:
    """What goes is known with the revision at which it went; what was not there leaves nothing."""
    report = await stage.apply(stage.source.delete("p1"), stage.source.delete("never there"))
    assert (report.rev, report.removed) == (2, 1)
    assert await stage.rev() == 2
    assert await stage.tombstones() == {"p1": 2}


async def test_unchanged_objects_raise_no_revision(stage: Stage) -> None:
    """A new epoch with the same objects, and the deletion of nothing, change nothing."""
    source = stage.source
    report = await stage.apply(source.begin("e2"), *source.all(), source.digest(), source.delete("nobody"))
    assert (report.rev, report.changed, report.removed, report.unchanged) == (0, 0, 0, 2)
    assert await stage.rev() == 1


async def test_sweep_leaves_tombstones(stage: Stage) -> None:
    """What a new epoch does not name any longer is gone, and known to be."""
    source = stage.source
    del source.held["pods", "default", "p1"]
    await stage.apply(source.begin("e2"), *source.all())
    assert await stage.tombstones() == {"p1": 2}


@pytest.mark.parametrize("narrower", [{"resources": ("nodes",)}, {"namespaces": ("other",)}])
async def test_smaller_scope_leaves_tombstones(stage: Stage, narrower: dict[str, tuple[str, ...]]) -> None:
    """What an agent is not to collect any longer is gone, and known to be."""
    source = stage.source
    for name, value in narrower.items():
        setattr(source, name, value)
    await stage.apply(source.begin("e2"))
    assert await stage.tombstones() == {"p1": 2, "p2": 2}
    assert await stage.objects() == {}


async def test_object_that_comes_back_at_once_is_not_hidden(stage: Stage) -> None:
    """Removed and put again in one transaction: the row is there, and no tombstone of its revision."""
    source = stage.source
    source.resources = ("nodes",)
    first = source.begin("e2")
    source.resources = ("pods", "nodes")
    await stage.apply(first, source.begin("e3"), source.put("p1"), source.synced())
    assert await stage.objects() == {"p1": 2}
    assert await stage.tombstones() == {"p2": 2}


async def test_objects_and_events_share_one_revision(stage: Stage) -> None:
    """Events raise their shard's revision too; copies that change nothing do not."""
    newest = [observed(cluster=stage.source.target.id, count=3)]
    assert (await store_events(stage.db, newest, stage.log.cursor)).rev == 2
    assert (await store_events(stage.db, newest, stage.log.cursor)).rev == 0
    assert await stage.rev() == 2
    report = await stage.apply(stage.source.put("p3"))
    assert report.rev == 3
    assert (await stage.objects())["p3"] == 3
    assert [row.rev for row in await stage._all(sa.select(_EVENT.c.rev))] == [2]


async def test_tombstones_are_forgotten_after_their_time(stage: Stage) -> None:
    """Old ones go, and the shard says up to where; newer ones stay."""
    await stage.apply(stage.source.delete("p1"))
    stage.log.later = timedelta(hours=1)
    last = stage.log.receive(stage.source.target, stage.source.delete("p2"))
    await stage.applier.apply([last], stage.log.cursor)
    keep = retention.Keep(rows=timedelta(days=1), tombstones=timedelta(minutes=30))
    assert await retention.forget(stage.db, keep, last.position.time) == 1
    assert await stage.tombstones() == {"p2": 3}
    assert await stage.shard() == (3, 2)


async def test_revisions_become_visible_in_their_order(new_url: Callable[[], str]) -> None:
    """While frames and Events are written at the same time, a reader that has seen a revision never finds a
    row of it, or of one before, that it could not see then.
    """
    url = new_url()
    async with Database(url, limits=PATIENT) as db, Database(url, limits=PATIENT) as other:
        stage = Stage(db)
        source = stage.source
        await stage.apply(source.begin("e1"), source.put("p"), source.synced())

        async def frames() -> None:
            for number in range(150):
                await stage.apply(source.put(f"p{number}", body_of(f"p{number}")))

        async def messages() -> None:
            for number in range(150):
                version = observed(f"u{number}", cluster=source.target.id)
                await store_events(other, [version], Log(sequence=number).cursor)

        seen: set[tuple[str, int]] = set()
        seen_rev = looks = 0

        async def look() -> None:
            nonlocal seen, seen_rev, looks
            while True:
                rev = await stage.rev()  # first, as readers do
                async with db.read() as connection:
                    objects = await connection.execute(sa.select(_RESOURCE.c.name, _RESOURCE.c.rev))
                    versions = await connection.execute(sa.select(_EVENT.c.uid, _EVENT.c.rev))
                    found = {(row[0], row[1]) for row in [*objects, *versions]}
                late = {item for item in found - seen if item[1] <= seen_rev}
                assert not late
                seen, seen_rev, looks = found, rev, looks + 1

        looking = asyncio.create_task(look())
        await asyncio.gather(frames(), messages())
        if looking.done():
            looking.result()
        await cancelled(looking)
        assert looks > 10
        assert await stage.rev() == 301
