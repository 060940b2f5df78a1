"""Leases: one holder at a time, and nothing that a former one writes is committed."""

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from schemas.presence import Heartbeat
from services.persistence import revisions, tables
from services.persistence.cursors import CursorStore
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.database.postgresql import CONNECTIONS, Limits
from services.persistence.events.store import store_events
from services.persistence.leases import MEMBER, FencedDatabase, Holding, LeaseLost, Leases, Situation
from services.persistence.presence.store import Sign, store_signs
from services.persistence.state.applier import FrameApplier
from services.runtime.tasks import cancelled
from tests.persistence.conftest import PATIENT, only_on
from tests.persistence.frames import FrameSource, Log, rows
from tests.persistence.test_events import observed
from tests.waiting import Stopwatch, until

pytestmark = pytest.mark.timeout(180)

NAME = "shard/3"
_LEASE = tables.table_of(tables.Lease)


def everything(situation: Situation) -> Collection[str]:
    return situation.free


def nothing(_: Situation) -> Collection[str]:
    return ()


async def take(leases: Leases, *names: str) -> Holding | None:
    """Take one lease, if it is free."""
    await leases.declare(names or [NAME])
    _, taken = await leases.turn([], everything)
    return next(iter(taken), None)


async def must_take(leases: Leases) -> Holding:
    holding = await take(leases)
    assert holding is not None
    return holding


async def expire(db: Database, name: str = NAME, at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
    """As if its holder had been silent for long."""
    async with db.write() as connection:
        await connection.execute(sa.update(_LEASE).where(_LEASE.c.name == name).values(expires_at=at))


async def test_one_has_it_until_it_expires_or_is_given_back(db: Database) -> None:
    """What is held is not free for others; each holder's fence is above the one before."""
    one, two = Leases(db, "one", 60.0), Leases(db, "two", 60.0)
    first = await must_take(one)
    assert await take(two) is None
    situation, _ = await two.turn([], nothing)
    assert (situation.free, situation.others, situation.members) == (set(), {"one"}, ("one", "two"))
    await one.release(first)
    second = await must_take(two)
    await expire(db)
    third = await must_take(one)
    assert (first.fence, second.fence, third.fence) == (1, 2, 3)
    situation, _ = await two.turn([second], nothing)
    assert situation.held == frozenset()
    situation, _ = await one.turn([third], nothing)
    assert situation.held == {third}


async def test_a_clock_that_was_set_back_does_not_keep_the_leases_of_the_dead(db: Database) -> None:
    """The database's clock is an hour behind where it was: who was alive then has not been heard since."""
    one, two = Leases(db, "one", 60.0), Leases(db, "two", 60.0)
    first = await must_take(one)
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    await expire(db, at=in_an_hour)
    await expire(db, MEMBER + "one", at=in_an_hour)
    situation, _ = await two.turn([], nothing)
    assert (situation.free, situation.others, situation.members) == ({NAME}, set(), ("two",))
    second = await must_take(two)
    assert second.fence == first.fence + 1
    situation, _ = await one.turn([first], nothing)  # it was there after all: it is told, and renews itself
    assert (situation.held, situation.members) == (set(), ("one", "two"))


async def pass_by(db: Database, seconds: float) -> None:
    """As if it were so much later."""
    async with db.write() as connection:
        for row in (await connection.execute(sa.select(_LEASE))).all():
            earlier = row.expires_at - timedelta(seconds=seconds)
            await connection.execute(
                sa.update(_LEASE).where(_LEASE.c.name == row.name).values(expires_at=earlier)
            )


async def test_renewal_keeps_it(db: Database) -> None:
    """By the database's clock, a lease that is renewed is never free, one that is not is after its time."""
    one, two = Leases(db, "one", 60.0), Leases(db, "two", 60.0)
    held = await must_take(one)
    for _ in range(8):
        await pass_by(db, 25)
        situation, _ = await one.turn([held], nothing)
        assert situation.held == {held}
        assert await take(two) is None
    await pass_by(db, 30)
    assert await take(two) is None
    await pass_by(db, 30)
    assert await take(two) is not None


async def test_time_ends_it(db: Database) -> None:
    """Nobody has to do anything for it."""
    one, two = Leases(db, "one", 0.5), Leases(db, "two", 60.0)
    await must_take(one)

    async def taken() -> bool:
        return await take(two) is not None

    await until(taken)


async def test_who_leaves_is_no_member_and_holds_nothing(db: Database) -> None:
    """After a clean stop the others need not wait for anything to expire."""
    one, two = Leases(db, "one", 60.0), Leases(db, "two", 60.0)
    await must_take(one)
    await one.leave()
    situation, taken = await two.turn([], everything)
    assert situation.members == ("two",)
    assert {holding.name for holding in taken} == {NAME}


async def test_members_that_are_gone_are_forgotten(db: Database) -> None:
    """A replica's name is new with each start: the rows of those long gone are removed."""
    await Leases(db, "gone", 60.0).turn([], nothing)
    await expire(db, "member/gone")
    here = Leases(db, "here", 60.0)
    situation, _ = await here.turn([], nothing)
    assert situation.members == ("here",)
    async with db.read() as connection:
        names = (await connection.scalars(sa.select(_LEASE.c.name))).all()
    assert names == ["member/here"]


async def test_former_holder_writes_nothing(db: Database) -> None:
    """Frames, Events, heartbeats, the wish for a resync and the cursor of one that has lost are refused."""
    one, two = Leases(db, "one", 60.0), Leases(db, "two", 60.0)
    log, source = Log(), FrameSource()
    stale = FencedDatabase(db, await must_take(one))
    applier = FrameApplier(stale, source.target.shard)
    begin = [log.receive(source.target, frame) for frame in (source.begin("e1"), source.put("p1"))]
    await applier.apply(begin, log.cursor)
    held = await rows(db, source.target)
    await expire(db)
    owner = FencedDatabase(db, await must_take(two))

    late = log.receive(source.target, source.put("p2"))
    sign = Sign(source.target, heartbeat(), datetime(2026, 11, 1, tzinfo=UTC))
    for write in (
        applier.apply([late], log.cursor),
        applier.want_resync(source.target, "gap", late.position.time),
        store_events(stale, [observed()], log.cursor),
        store_signs(stale, [sign], [], log.cursor),
        CursorStore(stale).save(replace(log.cursor, sequence=99)),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await rows(db, source.target) == held
    cursor = await CursorStore(db).load("test", "FRAMES")
    assert cursor is not None
    assert cursor.sequence == 2

    await FrameApplier(owner, source.target.shard).apply([late], log.cursor)
    assert await rows(db, source.target) == source.held


def heartbeat() -> Heartbeat:
    health = {"healthy": True, "status": "running", "start_time": "2026-11-01T00:00:00Z"}
    return Heartbeat.model_validate({"version": "1", "interval": 15, "health": health})


async def test_transaction_in_hand_ends_before_another_takes_over(new_url: Callable[[], str]) -> None:
    """While the holder is inside a transaction its expired lease is not taken; it commits, then it is."""
    url = new_url()
    async with Database(url, limits=PATIENT) as db, Database(url, limits=PATIENT) as other:
        one, two = Leases(db, "one", 60.0), Leases(other, "two", 60.0)
        holding = await must_take(one)
        await expire(db)
        asked: asyncio.Task[Holding | None]
        async with FencedDatabase(db, holding).write():
            asked = asyncio.create_task(take(two))
            await asyncio.sleep(0.3)
            assert not asked.done() or asked.result() is None
        await asked

        async def taken() -> bool:
            return asked.result() is not None or await take(two) is not None

        await until(taken)
        with pytest.raises(LeaseLost):
            async with FencedDatabase(db, holding).write():
                pass


@only_on("postgresql")
async def test_renewal_waits_for_no_writer(new_url: Callable[[], str]) -> None:
    """While all connections for writing are in use, and others wait for them, it is renewed."""
    url, writing = new_url(), 0

    async def write() -> None:
        nonlocal writing
        async with db.write():
            writing += 1
            await asyncio.Event().wait()

    async with Database(url, limits=PATIENT) as db, Database(url, limits=PATIENT) as other:
        one, two = Leases(db, "one", 60.0), Leases(other, "two", 60.0)
        held = await must_take(one)
        crowd = [asyncio.create_task(write()) for _ in range(2 * CONNECTIONS)]
        await until(lambda: writing == CONNECTIONS - 1)
        for _ in range(3):
            await pass_by(other, 50)
            assert (await one.turn([held], nothing))[0].held == {held}
            assert await take(two) is None
        assert writing == CONNECTIONS - 1
        for task in crowd:
            await cancelled(task)


@only_on("postgresql")
async def test_holder_that_hangs_in_a_transaction_is_cut_off(new_url: Callable[[], str]) -> None:
    """One that stops in the middle of a transaction keeps its lease from others for some seconds only."""
    url = new_url()
    async with Database(url, limits=Limits(idle=6.0)) as db, Database(url, limits=PATIENT) as other:
        holding = await must_take(Leases(db, "one", 60.0))
        two = Leases(other, "two", 60.0)

        async def taken() -> bool:
            return await take(two) is not None

        async def hang() -> None:
            async with FencedDatabase(db, holding).write() as connection:
                await expire(other)
                assert not await taken()
                started = asyncio.get_running_loop().time()
                await until(taken)
                assert asyncio.get_running_loop().time() - started < 15
                await connection.execute(sa.select(_LEASE))

        with pytest.raises(DatabaseUnavailable):
            await hang()


@pytest.mark.alone
@only_on("postgresql")
async def test_two_transactions_that_hang_are_cut_off_in_time(new_url: Callable[[], str]) -> None:
    """A holder stops while one of its transactions waits for the shard's row that another one has: both have
    ended before a lease of 6 s has.
    """
    assert await until_both_are_cut_off(new_url()) < 5.5


async def until_both_are_cut_off(url: str) -> float:
    """Seconds until another one has the lease."""
    async with Database(url) as db, Database(url) as other:
        holding = await must_take(Leases(db, "one", 60.0))
        two, hanging = Leases(other, "two", 60.0), asyncio.Event()

        async def hang() -> None:
            async with FencedDatabase(db, holding).write() as connection:
                await revisions.next_one(connection, 3)
                hanging.set()
                await asyncio.sleep(20)

        async def taken() -> bool:
            return await take(two) is not None

        async with db.write() as connection:
            await revisions.raise_to(connection, 3, await revisions.next_one(connection, 3))
        tasks = [asyncio.create_task(hang())]
        try:
            await hanging.wait()
            tasks.append(asyncio.create_task(hang()))
            await expire(other)
            async with Stopwatch() as watch:
                await until(taken)
            return watch.seconds
        finally:
            for task in tasks:
                await cancelled(task)


@pytest.mark.parametrize("seed", range(3))
async def test_commits_are_in_the_order_of_the_fences(new_url: Callable[[], str], seed: int) -> None:
    """Whatever is taken, expires and is given back meanwhile: once a holder has committed, no earlier
    one does, and no commit of two holders is based on the same state.
    """
    url, chance = new_url(), random.Random(seed)
    counter = tables.table_of(tables.Clock)
    committed: list[tuple[int, int]] = []
    """Fence, and the number that the transaction found and raised."""

    async with Database(url, limits=PATIENT) as setup:
        await Leases(setup, "setup", 60.0).declare([NAME])
        async with setup.write() as connection:
            zero = {"latest": _at(0), "continuous_since": _at(0)}
            await connection.execute(sa.insert(counter).values(name="count", **zero))

    async def write(db: Database, holding: Holding, pause: float) -> None:
        async with FencedDatabase(db, holding).write() as connection:
            found = await connection.scalar(sa.select(counter.c.latest).where(counter.c.name == "count"))
            await asyncio.sleep(pause)
            number = round((found - _at(0)).total_seconds()) + 1
            await connection.execute(
                sa.update(counter)
                .where(counter.c.name == "count")
                .values(latest=_at(number), continuous_since=_at(holding.fence))
            )
            mark = {"name": f"{holding.fence}-{number}", "latest": _at(number), "continuous_since": _at(0)}
            await connection.execute(sa.insert(counter).values(mark))
        committed.append((holding.fence, number))

    def holders() -> int:
        return len({fence for fence, _ in committed})

    async def live(name: str) -> None:
        async with Database(url) as db:
            leases, held, turns = Leases(db, name, 0.05), None, 0
            while turns < 40 or holders() < 5:  # a slow server lets one of them hold through its forty turns
                turns += 1
                try:
                    held = held or await take(leases)
                    if held is None:
                        await asyncio.sleep(chance.uniform(0, 0.03))
                    elif chance.random() < 0.8:
                        await write(db, held, chance.uniform(0, 0.08))
                    elif chance.random() < 0.5:
                        await leases.release(held)
                        held = None if chance.random() < 0.5 else held
                    else:
                        await leases.turn([held], nothing)
                except LeaseLost:
                    held = None
                except DatabaseUnavailable:
                    await asyncio.sleep(0.01)

    await asyncio.gather(*(live(f"replica-{number}") for number in range(4)))
    by_number = sorted(committed, key=lambda item: item[1])
    assert [number for _, number in by_number] == list(range(1, len(committed) + 1))
    fences = [fence for fence, _ in by_number]
    assert fences == sorted(fences)


def _at(seconds: int) -> datetime:
    return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=seconds)
