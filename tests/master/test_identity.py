"""Who has an id, over the bus: what agents are told, who is called, and that an outage loses nobody."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas import registry, subjects
from schemas.ids import Target, kubernetes
from schemas.presence import Health, Heartbeat
from services.persistence.presence.liveness import AgentState
from services.runtime.bus import broker as embedded
from services.runtime.bus import client, credentials
from services.runtime.bus.client import Bus, BusError
from services.runtime.tasks import cancelled
from tests.bus.fixtures import Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.master.conftest import Fleet, MasterProcess
from tests.persistence.frames import FrameSource
from tests.processes import ServiceProcess
from tests.waiting import until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

INTERVAL = 1.5


class Twin:
    """Another agent under the id of a BusAgent, on its connection; `ctl` is heard by the first one."""

    def __init__(self, agent: BusAgent, run: int, instance: str = "instance-1") -> None:
        self._agent = agent
        self._run = run
        self.instance = instance
        self.source = FrameSource(agent.source.target, resources=("pods",))

    async def begin(self, epoch: str, *names: str) -> None:
        self.source.held.clear()
        frames = [self.source.begin(epoch, self.instance)]
        frames += [self.source.put(name) for name in names]
        await self._agent.send(*frames, self.source.synced(), self.source.digest())

    async def beat(self, status: str = "running") -> None:
        """With a clock of its own that is an hour off, one way or the other."""
        off = datetime(2026, 11, 1, 12 + (1 if self._run % 2 else -1), self._run, tzinfo=UTC)
        health = Health(healthy=True, status=status, start_time=off)
        body = Heartbeat(
            version="1",
            interval=INTERVAL,
            health=health,
            epoch=self.source.epoch,
            instance=self.instance,
        )
        envelope = registry.HEARTBEAT_SENT.envelope(body, source=self._agent.source_name)
        await self._agent.bus.publish(subjects.heartbeat(self.source.target), envelope)

    @asynccontextmanager
    async def beating(self, status: str = "running") -> AsyncIterator[None]:
        """While inside; a beat that the bus does not take is left out."""

        async def run() -> None:
            while True:
                with suppress(BusError):
                    await self.beat(status)
                await asyncio.sleep(INTERVAL * random.uniform(0.8, 1.0))

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            await cancelled(task)


async def state(fleet: Fleet, target: Target) -> AgentState | None:
    status = await fleet.status(target)
    return status.state if status else None


async def is_live(fleet: Fleet, target: Target) -> bool:
    """A beat that came late, since the machine stood still, makes it stale for a moment."""
    return await state(fleet, target) is AgentState.LIVE


async def begun(fleet: Fleet, twin: Twin) -> None:
    """Until the epoch of that twin counts, and its heartbeat has come."""

    async def counts() -> bool:
        status = await fleet.status(twin.source.target)
        return bool(status and status.epoch == twin.source.epoch and status.last_seen)

    await until(counts)


async def test_loser_is_told_by_its_heartbeat(master: MasterProcess, fleet: Fleet, agent: BusAgent) -> None:
    """An agent whose cluster is quiet sends no frame for a while: its heartbeat is answered as well."""
    loser, winner = Twin(agent, 1), Twin(agent, 2)
    await loser.begin("e1")
    await winner.begin("e2")
    await winner.beat()
    await begun(fleet, winner)
    await loser.beat()
    await until(lambda: agent.heard)
    assert agent.heard[0] == ("superseded", {"epoch": "e1", "by": "e2", "instance": "instance-1"})


async def test_standby_is_called_at_each_beat_until_it_begins(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """While the winner beats nobody is called; once it is lost the one that stands by is, by its epoch."""
    loser, winner = Twin(agent, 1), Twin(agent, 2)
    await loser.begin("e1", "old")
    await winner.begin("e2", "new")
    async with loser.beating("standby"):
        async with winner.beating():
            await begun(fleet, winner)
            await asyncio.sleep(5 * INTERVAL)
            assert [what for what, _ in agent.heard if what == "resync"] == []
            await until(lambda: is_live(fleet, loser.source.target))
        await until(lambda: len([what for what, _ in agent.heard if what == "resync"]) >= 2)
        assert {body["epoch"] for what, body in agent.heard if what == "resync"} == {"e1"}
    await loser.begin("e3", "again")
    async with loser.beating():
        await fleet.until_rows(loser.source)
        await asyncio.sleep(2 * INTERVAL)
        called = len(agent.heard)
        await asyncio.sleep(3 * INTERVAL)
        assert len(agent.heard) == called


async def test_stranger_is_refused_until_the_owner_is_lost(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """Another cluster's begin changes nothing and is answered with the owner's instance."""
    owner, stranger = Twin(agent, 1), Twin(agent, 2, "instance-2")
    await owner.begin("e1", "ours")
    async with owner.beating():
        await begun(fleet, owner)
        await stranger.begin("s1", "theirs")
        await until(lambda: agent.heard)
        assert agent.heard[0] == ("superseded", {"epoch": "s1", "by": "e1", "instance": "instance-1"})
        async with stranger.beating("standby"):
            await asyncio.sleep(4 * INTERVAL)
            await until(lambda: is_live(fleet, owner.source.target))
            status = await fleet.status(owner.source.target)
            assert status is not None
            assert status.rival is not None
            assert status.rival.heartbeat.instance == "instance-2"
            assert (status.epoch, status.in_sync) == ("e1", True)
            assert await fleet.rows(owner.source.target) == owner.source.held
    await owner.beat("stopping")
    async with stranger.beating("standby"):

        async def stopping() -> bool:
            return await state(fleet, owner.source.target) is AgentState.STOPPING

        await until(stopping)
        assert not [what for what, _ in agent.heard if what == "resync"]
        await until(lambda: ("resync", "s1") in [(what, body["epoch"]) for what, body in agent.heard])
        assert await state(fleet, owner.source.target) is AgentState.LOST
    await stranger.begin("s2", "theirs")
    await fleet.until_rows(stranger.source)
    assert "the id now belongs to another instance" in master.log


@pytest.fixture
def quick_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents look for the broker more often, as they beat more often: with the default interval
    one that finds it within the usual five seconds has missed nothing.
    """
    monkeypatch.setattr(client, "RECONNECT_CAP", client.RECONNECT_CAP / 10)


@pytest.mark.usefixtures("quick_agents")  # before there is an agent
async def test_outage_of_the_bus_is_one_alarm(
    master: MasterProcess, own_broker: RunningBroker, fleet: Fleet, agent: BusAgent, tmp_path: Path
) -> None:
    """The broker is away for longer than three heartbeats: that is told by master and api, and no agent is
    called lost, then or afterwards; but one that has gone meanwhile is found out."""
    environment = {
        "ATLHYPER_HOME": str(own_broker.home),
        "NATS_URL": own_broker.url,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}",
        "API_LISTEN": "127.0.0.1:0",
    }
    api = ServiceProcess("api", environment, tmp_path / "api.log")
    await api.start()
    twin = Twin(agent, 1)
    target = twin.source.target
    await twin.begin("e1", "p")
    seen: set[AgentState | None] = set()

    async def watch() -> None:
        while True:
            seen.add(await state(fleet, target))
            await asyncio.sleep(0.05)

    try:
        async with twin.beating():
            await begun(fleet, twin)
            watching = asyncio.create_task(watch())
            await own_broker.broker.stop()

            async def told() -> bool:
                return all(["bus" in await service.trouble() for service in (master, api)])

            await until(told)
            await asyncio.sleep(5 * INTERVAL)
            await own_broker.start()
            await until(lambda: agent.bus.connected)
            before = await fleet.status(target)

            async def back() -> bool:
                status = await fleet.status(target)
                assert before is not None
                return bool(status and status.last_seen and status.last_seen != before.last_seen)

            await until(back)
            await asyncio.sleep(4 * INTERVAL)
            assert seen <= {AgentState.LIVE, AgentState.STALE}, seen
            await own_broker.broker.stop()
        await own_broker.start()

        async def lost() -> bool:
            return await state(fleet, target) is AgentState.LOST

        await until(lost)
        await cancelled(watching)
    finally:
        await api.stop(signal.SIGKILL)


class Herd:
    """Agents that all miss a frame, and send everything when they are asked."""

    def __init__(self, took: float) -> None:
        self._took = took
        self._tasks: set[asyncio.Task[None]] = set()
        self.at_work: set[Target] = set()
        self.most = 0
        self.sources: list[FrameSource] = []

    async def join(self, bus: Bus, target: Target) -> None:
        source = FrameSource(target, resources=("pods",))
        agent = BusAgent(bus, source)
        self.sources.append(source)

        async def hear(subject: str, envelope: object) -> None:
            if subject.endswith(".resync") and target not in self.at_work and source.epoch == "e1":
                self.at_work.add(target)
                self.most = max(self.most, len(self.at_work))
                task = asyncio.create_task(self._collect(agent))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        await bus.subscribe(subjects.controls(target), hear)
        await agent.send(source.begin("e1"), source.put("p1"), source.synced())
        source.put("lost on the way")
        await agent.send(source.put("p2"))

    async def _collect(self, agent: BusAgent) -> None:
        await agent.send(agent.source.begin("e2"))
        await asyncio.sleep(self._took * random.uniform(0.5, 1.5))
        frames = agent.source.all()
        # From here on the master may hold it complete before we know that it was sent.
        self.at_work.discard(agent.source.target)
        await agent.send(*frames, agent.source.digest())


@pytest.mark.timeout(400)
async def test_resync_storm_is_taken_a_few_at_a_time(
    master: MasterProcess, own_broker: RunningBroker, fleet: Fleet, bus: Connect
) -> None:
    """200 agents miss a frame in the same moment: never more than 8 collect at once, and all converge."""
    targets = [kubernetes(f"storm-{number}") for number in range(200)]
    for target in targets:
        credentials.issue(own_broker.home, target.durable)
    embedded.reload(own_broker.home)
    herd = Herd(took=0.1)
    limit = asyncio.Semaphore(20)

    async def join(target: Target) -> None:
        async with limit:
            connection = await bus(target.durable, wait=True)
            async with asyncio.timeout(60):
                await connection.wait_connected()
            await herd.join(connection, target)

    await asyncio.gather(*(join(target) for target in targets))

    async def all_whole() -> bool:
        return not herd.at_work and all(source.epoch == "e2" for source in herd.sources)

    await until(all_whole, 180)
    for source in herd.sources:
        await fleet.until_rows(source)
    assert 1 < herd.most <= 8
