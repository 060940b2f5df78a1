"""One large cluster arrives in the shard of others: whose frames come first, and what a crash does to it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from schemas.ids import Target, kubernetes
from services.master.confirmations import Confirmations
from services.master.nudges import Nudges
from services.master.parts import Parts
from services.master.resync import Resyncs, Superseding
from services.master.settings import MasterSettings
from services.master.snapshots import AHEAD, SnapshotReader
from services.master.teller import Teller
from services.master.work import DatabaseWork
from services.persistence import tables
from services.persistence.database.engine import Database
from services.runtime.bus import credentials
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.master.conftest import Fleet, MasterProcess
from tests.persistence.frames import FrameSource, body_of
from tests.waiting import until

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("own_broker")]

SHARD = AGENTS[0].shard
LARGE = next(
    target for number in range(1000) if (target := kubernetes(f"large-{number}")).shard == SHARD
)  # in one shard with the agent `a`
PODS = 15_000


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    """With a credential for the large cluster too."""
    running = RunningBroker(tmp_path / "own-broker")
    credentials.issue(running.home, LARGE.durable)
    await running.start()
    await running.apply()
    yield running
    await running.broker.stop()


@pytest.fixture
async def large(bus: Connect) -> BusAgent:
    """An agent with many pods, of which it has said nothing yet."""
    source = FrameSource(LARGE, resources=("pods",))
    source.held = {("pods", "ns", f"p{number}"): body_of(f"p{number}", "ns") for number in range(PODS)}
    return BusAgent(await bus(LARGE.durable), source)


class Reading:
    """The reader of the shard, in this process."""

    def __init__(self, bus: Connect, db: Database) -> None:
        self._bus = bus
        self._db = db

    async def start(self) -> "asyncio.Task[None]":
        bus = await self._bus("master")
        teller = Teller(bus)
        parts = Parts(
            settings=MasterSettings(),
            bus=bus,
            db=self._db,
            work=DatabaseWork(),
            resyncs=Resyncs(teller, 1, 1.0, 10.0),
            superseding=Superseding(teller, 1.0),
            nudges=Nudges(teller),
            confirmations=Confirmations(teller),
        )
        return asyncio.create_task(SnapshotReader(parts, SHARD).consumer.run())


async def applied(db: Database, target: Target) -> int:
    """Frames of an agent, as its version says."""
    table = tables.table_of(tables.Epoch)
    async with db.read() as connection:
        query = sa.select(table.c.version).where(table.c.target_id == target.id)
        return int(await connection.scalar(query) or 0)


async def test_changes_overtake_a_large_cluster(
    bus: Connect, fleet: Fleet, agent: BusAgent, large: BusAgent
) -> None:
    """Behind a whole large state in the log, and while it is applied: the changes of an agent in sync wait
    for a transaction or two of it, also right after a start. In the end both are complete."""
    small = agent.source
    await agent.send(small.begin("e1"), small.put("p"), small.synced())
    reading = Reading(bus, fleet.db)
    task = await reading.start()
    await fleet.until_rows(small)
    await cancelled(task)

    await large.send(large.source.begin("l1"), *large.source.all())
    await agent.send(small.put("p", body_of("p", state="Failed")))
    frames = large.source.sequence
    task = await reading.start()
    waited = []
    for number in range(5):
        if number:
            await agent.send(small.put("p", body_of("p", state=f"State{number}")))
        before = await applied(fleet.db, LARGE)
        await fleet.until_rows(small)
        waited.append(await applied(fleet.db, LARGE) - before)
    assert await applied(fleet.db, LARGE) < frames, "it was over before anything could be seen"
    assert max(waited) < frames / 3, waited
    assert 0 < AHEAD.used <= AHEAD.limit
    await fleet.until_rows(large.source)
    await until(lambda: AHEAD.used == 0)
    assert await applied(fleet.db, LARGE) == frames
    await cancelled(task)


async def test_epoch_of_the_same_agent_is_in_order(bus: Connect, fleet: Fleet, large: BusAgent) -> None:
    """An agent in sync that begins anew waits with all that follows its begin."""
    source = large.source
    task = await Reading(bus, fleet.db).start()
    await large.send(source.begin("l1"), *source.all(), source.digest())
    await fleet.until_rows(source)
    await large.send(
        source.put("before", namespace="ns"),
        source.begin("l2"),
        *source.all(),
        source.put("after", namespace="ns"),
        source.delete("before", namespace="ns"),
        source.digest(),
    )
    await fleet.until_rows(source)
    await until(lambda: AHEAD.used == 0)
    status = await fleet.status(LARGE)
    assert status is not None
    assert (status.epoch, status.in_sync, status.resync_reason) == ("l2", True, "")
    await cancelled(task)


async def test_master_killed_while_others_overtake(
    master: MasterProcess, fleet: Fleet, agent: BusAgent, large: BusAgent
) -> None:
    """kill -9 with frames applied that are ahead of the cursor: they come again and change nothing."""
    small = agent.source
    await agent.send(small.begin("e1"), small.synced())

    async def change() -> None:
        for number in range(150):
            await agent.send(small.put(f"p{number % 10}", body_of(f"p{number % 10}", state=f"State{number}")))
            await asyncio.sleep(0.02)
        await agent.send(small.digest())

    async def kill() -> None:
        for pause in (1.5, 1.2, 1.0):
            await asyncio.sleep(pause)
            await master.stop(signal.SIGKILL)
            await master.start()

    await asyncio.gather(
        large.send(large.source.begin("l1"), *large.source.all(), large.source.digest()), change(), kill()
    )
    for source in (small, large.source):
        await fleet.until_rows(source)

        async def counted(source: FrameSource = source) -> bool:
            return await applied(fleet.db, source.target) == source.sequence

        await until(counted)
        status = await fleet.status(source.target)
        assert status is not None
        assert (status.in_sync, status.resync_reason) == (True, "")
