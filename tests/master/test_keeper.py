"""Which leases a master takes and gives up, and what becomes of its work."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.ids import SHARDS
from services.master.keeper import SHARD_LEASES, SINGLE, Keeper, choose
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.persistence.database.lock import ProcessLock
from services.persistence.leases import FencedDatabase, Holding, LeaseLost, Leases, Situation
from services.runtime.bus.consumer import Consumer
from services.runtime.tasks import cancelled
from tests.postgres.server import Postgres
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

ALL = (*SHARD_LEASES, *SINGLE)
TTL = 8.0
"""Seconds that a lease lasts."""
STEADY = 24.0
"""The same where none is to end: no machine stands still for as long."""


class World:
    """Leases without a database: who has what."""

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.owner: dict[str, str] = {}
        self.moves = 0

    def turn(self, me: str) -> None:
        self.members.add(me)
        mine = {name for name, owner in self.owner.items() if owner == me}
        situation = Situation(
            members=tuple(sorted(self.members)),
            held=frozenset(Holding(name, me, 1) for name in mine),
            free=frozenset(ALL) - self.owner.keys(),
            others=frozenset(self.owner.values()) - {me},
        )
        wanted = set(choose(situation, me))
        assert wanted <= mine | situation.free
        assert len(wanted.difference(SINGLE)) <= -(-SHARDS // len(self.members))
        for name in mine - wanted:
            del self.owner[name]
        for name in wanted - mine:
            self.owner[name] = me
            self.moves += 1

    def die(self, who: str) -> None:
        self.members.discard(who)
        self.owner = {name: owner for name, owner in self.owner.items() if owner != who}

    def shards(self) -> list[int]:
        owners = [self.owner[name] for name in SHARD_LEASES if name in self.owner]
        return sorted(owners.count(member) for member in self.members)


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_even_and_then_nothing_moves(seed: int) -> None:
    """Whoever joins and dies, in whatever order turns come: all shards are held, each master's number differs
    from another's by one at most, and then nothing moves any longer.
    """
    chance, world = random.Random(seed), World()
    for round_ in range(12):
        if world.members and chance.random() < 0.4:
            world.die(chance.choice(sorted(world.members)))
        world.turn(f"m{round_}")
        for _ in range(3):
            for name in chance.sample(sorted(world.members), len(world.members)):
                world.turn(name)
        assert world.owner.keys() == set(ALL)
        assert sum(world.shards()) == SHARDS
        assert world.shards()[-1] - world.shards()[0] <= 1
        moves = world.moves
        for name in world.members:
            world.turn(name)
        assert world.moves == moves


class StubDuty:
    """Work that does nothing, until it is told to fail."""

    consumers: Sequence[Consumer] = ()

    def __init__(self, holding: Holding) -> None:
        self.holding = holding
        self.running = False
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        self.running = True
        try:
            await self.failure
        finally:
            self.running = False


class StubBus:
    """A connection to the broker that is there or not."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.there.set()

    @property
    def connected(self) -> bool:
        return self.there.is_set()

    async def wait_connected(self) -> None:
        await self.there.wait()


class Running:
    """A keeper at work, and all duties it ever began."""

    def __init__(self, db: Database, holder: str, ttl: float, lock: ProcessLock | None) -> None:
        self.db = db
        self.duties: list[StubDuty] = []
        self.bus = StubBus()
        self.keeper = Keeper(Leases(db, holder, ttl), self._begin, self.bus, lock)

    def _begin(self, holding: Holding) -> StubDuty:
        self.duties.append(StubDuty(holding))
        return self.duties[-1]

    @property
    def shards(self) -> int:
        """How many it has the work of."""
        return len(self.active.keys() - SINGLE)

    @property
    def active(self) -> dict[str, StubDuty]:
        """By lease; one at most is at work for each."""
        active = [duty for duty in self.duties if duty.running]
        named = {duty.holding.name: duty for duty in active}
        assert len(named) == len(active)
        return named


@asynccontextmanager
async def running(
    url: str, holder: str, lock: ProcessLock | None = None, *, ttl: float = TTL
) -> AsyncIterator[Running]:
    async with Database(url) as db:
        made = Running(db, holder, ttl, lock)
        task = asyncio.create_task(made.keeper.run())
        try:
            yield made
        finally:
            await cancelled(task)


async def test_work_follows_the_leases(new_postgres_url: Callable[[], str]) -> None:
    """A second one gets half of the work; what each does is under its own fence; who leaves leaves all."""
    url = new_postgres_url()
    async with running(url, "one") as one:
        await until(lambda: set(one.active) == set(ALL))
        async with running(url, "two") as two:
            await until(lambda: one.shards == two.shards == SHARDS // 2)
            assert not set(one.active) & set(two.active)
            for made in (one, two):
                for duty in made.active.values():
                    async with FencedDatabase(made.db, duty.holding).write():
                        pass
        assert two.active == {}
        await until(lambda: set(one.active) == set(ALL))


async def test_lost_work_is_begun_anew(new_postgres_url: Callable[[], str]) -> None:
    """Who finds the fence against it ends; the lease, when it is had again, is another holding."""
    async with running(new_postgres_url(), "one", ttl=STEADY) as one:
        await until(lambda: len(one.active) == len(ALL))
        first = one.active["shard/3"]
        first.failure.set_exception(LeaseLost("passed to another"))
        await until(lambda: "shard/3" in one.active and one.active["shard/3"] is not first)
        assert one.active["shard/3"].holding.fence == first.holding.fence + 1
        assert len(one.duties) == len(ALL) + 1


async def test_work_ends_while_nothing_can_be_renewed(own_postgres: Postgres) -> None:
    """A database that says nothing any longer: within the time of the leases no work is left. It comes back
    with the database, as new holdings.
    """
    async with running(own_postgres.new_database(), "one") as one:
        await until(lambda: len(one.active) == len(ALL))
        own_postgres.pause()
        started = asyncio.get_running_loop().time()
        await until(lambda: not one.active)
        assert asyncio.get_running_loop().time() - started < 2 * TTL
        own_postgres.resume()
        await until(lambda: len(one.active) == len(ALL))
        assert one.keeper.health() is None
        fences = {duty.holding.name: duty.holding.fence for duty in one.duties[: len(ALL)]}
        for name, duty in one.active.items():
            assert duty.holding.fence > fences[name]


async def test_who_has_no_broker_leaves_the_work_to_others(new_postgres_url: Callable[[], str]) -> None:
    """Cut off for as long as a lease lasts, a master holds nothing and is no member; then it comes back."""
    url = new_postgres_url()
    async with running(url, "one") as one, running(url, "two") as two:
        await until(lambda: one.shards == two.shards == SHARDS // 2)
        one.bus.there.clear()
        await until(lambda: set(two.active) == set(ALL) and not one.active)
        assert one.keeper.status() == "stands by without a connection to the broker"
        one.bus.there.set()
        await until(lambda: one.shards == SHARDS // 2)


async def test_without_a_broker_nobody_takes_anything(new_postgres_url: Callable[[], str]) -> None:
    """Where nobody reaches the broker nothing moves; the first one that is back serves all."""
    url = new_postgres_url()
    async with running(url, "one") as one, running(url, "two") as two:
        await until(lambda: one.shards == two.shards == SHARDS // 2)
        for made in (one, two):
            made.bus.there.clear()
        await until(lambda: not one.active and not two.active)
        begun = len(one.duties) + len(two.duties)
        await asyncio.sleep(2.0)
        assert len(one.duties) + len(two.duties) == begun
        two.bus.there.set()
        await until(lambda: set(two.active) == set(ALL))


async def test_short_cut_changes_nothing(new_postgres_url: Callable[[], str]) -> None:
    """A broker that is back before a lease would have ended finds everything as it was."""
    async with running(new_postgres_url(), "one", ttl=STEADY) as one:
        await until(lambda: len(one.active) == len(ALL))
        one.bus.there.clear()
        await asyncio.sleep(STEADY / 4)
        one.bus.there.set()
        await asyncio.sleep(STEADY / 4)
        assert len(one.duties) == len(ALL) == len(one.active)


async def test_successor_on_sqlite_need_not_wait(tmp_path: Path) -> None:
    """With the lock of the one process that is served, leases that a dead one left are void at once; and
    while it is held another one has nothing.
    """
    file = tmp_path / "atlhyper.db"
    url = f"sqlite+aiosqlite:///{file}"
    await migrate.upgrade(url)
    async with Database(url) as db:
        dead = Leases(db, "dead", 60.0)
        await dead.declare(ALL)
        await dead.turn([], lambda situation: situation.free)
    lock = tmp_path / "lock"
    async with running(url, "two", lock=ProcessLock(lock)) as two:
        await until(lambda: set(two.active) == set(ALL))
        async with running(url, "three", lock=ProcessLock(lock)) as three:
            await until(lambda: three.keeper.status().startswith("stands by for two: "))
            assert three.duties == []
            two.bus.there.clear()
            await until(lambda: set(three.active) == set(ALL))
            assert two.active == {}
