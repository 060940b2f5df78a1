"""Several real agents under one id, with a real master: one serves, the others stand by and are told why."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from schemas import subjects
from schemas.frames import Phase
from services.cli.cluster.control_plane import ControlPlane
from services.persistence.presence.liveness import AgentState
from tests.agent.fixtures import Heard
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.faults.apiserver import ApiServer
from tests.master import conftest as core
from tests.master.conftest import Fleet, MasterProcess
from tests.processes import ServiceProcess
from tests.waiting import until

pytestmark = [pytest.mark.timeout(400), pytest.mark.alone]

fleet, master = core.fleet, core.master

TARGET = AGENTS[0]
INTERVAL = 3.0
"""Seconds between heartbeats; news travel within this as well. A slow machine, too, beats once in three."""
OWNER = 6.0
"""The same of an agent with another interval."""
LOST = 3 * INTERVAL + 0.5
"""Seconds after its last sign when an agent is lost: three intervals, and the master's next beat."""
SLACK = 5.0
"""Seconds that a machine under load may add to what takes an interval."""


class Stage:
    """Agents, and what is heard and known of their id."""

    def __init__(self, broker: RunningBroker, fleet: Fleet, heard: Heard, folder: Path) -> None:
        self._broker = broker
        self._fleet = fleet
        self._folder = folder
        self.heard = heard
        self.agents: list[ServiceProcess] = []

    async def agent(self, plane: ControlPlane, **variables: str) -> ServiceProcess:
        """One more agent of that cluster."""
        name = f"agent-{len(self.agents)}"
        agent = ServiceProcess(
            "agent kubernetes",
            {
                "ATLHYPER_HOME": str(self._broker.home),
                "AGENT_MASTER_URL": self._broker.url,
                "AGENT_CLUSTER_ID": TARGET.id,
                "AGENT_KUBECONFIG": str(plane.kubeconfig),
                "AGENT_STATE": str(self._folder / f"{name}.db"),
                "AGENT_METRICS_LISTEN": "127.0.0.1:0",
                "AGENT_HEARTBEAT_INTERVAL": f"{INTERVAL}s",
                "AGENT_SNAPSHOT_INTERVAL": "1s",
                "AGENT_SNAPSHOT_FULL_INTERVAL": "1h",
                **variables,
            },
            self._folder / f"{name}.log",
        )
        self.agents.append(agent)
        await agent.start()
        return agent

    @property
    def epochs(self) -> list[str]:
        """In the order of their begin."""
        return [frame.epoch for frame in self.heard.phases(Phase.BEGIN)]

    async def serving(self) -> str:
        """The epoch of the agent that serves, is live and in sync; empty for none."""
        status = await self._fleet.status(TARGET)
        if status is None or status.heartbeat is None or not status.in_sync:
            return ""
        live = status.state is AgentState.LIVE and status.heartbeat.epoch == status.epoch
        return status.epoch if live and status.heartbeat.health.status != "standby" else ""

    async def until_serving(self, not_in: str = "", seconds: float = 60.0) -> str:
        """Until an agent serves, in another epoch than that; its epoch."""

        async def serves() -> bool:
            return await self.serving() not in ("", not_in)

        await until(serves, seconds)
        return await self.serving()

    async def until_rival(self, reason: str) -> None:
        """Until another agent is shown, for a reason with these words."""

        async def shown() -> bool:
            status = await self._fleet.status(TARGET)
            return bool(status and status.rival and reason in status.rival.reason)

        await until(shown, 60)

    async def names(self, resource: str) -> set[str]:
        """The names of the rows of that resource."""
        return {name for kind, _, name in await self._fleet.rows(TARGET) if kind == resource}

    def relists(self, resource: str) -> int:
        """Full lists of it, by the last heartbeat."""
        said = self.heard.heartbeats[-1].collection
        return sum(item.relists for item in said if item.resource == resource)

    async def instance(self) -> str:
        status = await self._fleet.status(TARGET)
        return status.instance if status else ""


@asynccontextmanager
async def _stage(
    broker: RunningBroker,
    fleet: Fleet,
    bus: Connect,
    folder: Path,
) -> AsyncIterator[Stage]:
    heard = Heard(TARGET)
    await (await bus("reader")).subscribe(subjects.up(TARGET), heard.hear)
    stage = Stage(broker, fleet, heard, folder)
    async with AsyncExitStack() as ends:

        async def end() -> None:
            for agent in stage.agents:
                await agent.stop(signal.SIGKILL)

        ends.push_async_callback(end)
        yield stage


@pytest.fixture
async def stage(
    own_broker: RunningBroker,
    fleet: Fleet,
    master: MasterProcess,
    bus: Connect,
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    async with _stage(own_broker, fleet, bus, tmp_path) as stage:
        yield stage


async def test_one_of_two_agents_serves_and_the_other_stands_by(
    stage: Stage, own_control_plane: ControlPlane
) -> None:
    """One serves through all its full intervals; killed or stopped, it is replaced by the other."""
    full = {"AGENT_SNAPSHOT_FULL_INTERVAL": "5s"}
    agents = [await stage.agent(own_control_plane, **full)]
    await stage.until_serving()
    agents.append(await stage.agent(own_control_plane, **full))
    await stage.until_rival(f"another agent serves {TARGET}")
    winner, loser = await roles(agents)

    settled, beaten, since = len(stage.epochs), len(stage.heard.heartbeats), time.monotonic()
    while time.monotonic() - since < 30:
        await asyncio.sleep(0.2)
        beats = stage.heard.heartbeats[beaten:]
        assert len({beat.health.start_time for beat in beats if beat.health.status != "standby"}) <= 1
    assert len(stage.epochs) - settled <= (time.monotonic() - since) / 4.5 + 1
    assert "serving again" not in winner.log + loser.log

    lasts = await stage.serving()
    await winner.stop(signal.SIGKILL)
    since = time.monotonic()
    await until(lambda: "serving again" in loser.log, 60)
    await stage.until_serving(lasts)
    assert time.monotonic() - since <= LOST + INTERVAL + SLACK

    await winner.start()
    await until(lambda: len(re.findall("standing by", winner.log + loser.log)) == 2, 60)
    winner, loser = await roles(agents)
    called = loser.log.count("serving again")
    stopped = time.monotonic()
    await winner.stop(signal.SIGTERM)
    await until(lambda: loser.log.count("serving again") > called, 60)
    await stage.until_serving()
    assert time.monotonic() - stopped <= INTERVAL + SLACK


async def roles(agents: list[ServiceProcess]) -> tuple[ServiceProcess, ServiceProcess]:
    """Which of two serves, and which stands by.

    As a rule the one that began last serves, unless the other's full interval ended in that moment.
    """
    ready = [await agent.readyz() for agent in agents]
    standing = ["[-] serving: another agent serves" in text for text in ready]
    assert sorted(standing) == [False, True], ready
    return agents[standing.index(False)], agents[standing.index(True)]


async def test_id_of_another_cluster_is_refused_by_name(
    stage: Stage, control_plane: ControlPlane, own_control_plane: ControlPlane
) -> None:
    """An agent of another cluster changes no row and hides no heartbeat, until the owner is lost."""

    def uid(plane: ControlPlane) -> str:
        return plane.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")

    own_control_plane.kubectl("create", "namespace", "only-there")
    ours, theirs = uid(control_plane), uid(own_control_plane)
    owner = await stage.agent(control_plane, AGENT_HEARTBEAT_INTERVAL=f"{OWNER}s")
    await stage.until_serving()
    stranger = await stage.agent(own_control_plane)
    await stage.until_rival(f"belongs to another instance, {ours}; this one is {theirs}")
    assert "AGENT_CLUSTER_ID" in await stranger.readyz()
    since = time.monotonic()
    while time.monotonic() - since < 5 * INTERVAL:
        assert await stage.serving()
        assert await stage.instance() == ours
        assert "only-there" not in await stage.names("namespaces")
        await asyncio.sleep(0.1)
    assert sum(frame.instance == theirs for frame in stage.heard.phases(Phase.BEGIN)) == 1
    assert await stranger.stop() == 0
    await stranger.start()
    await stage.until_rival(f"belongs to another instance, {ours}")
    assert await stage.instance() == ours

    # An owner that is started again keeps its id.
    before = await stage.serving()
    await owner.stop(signal.SIGTERM)
    await owner.start()
    await stage.until_serving(before)
    assert await stage.instance() == ours

    before = await stage.serving()
    await owner.stop(signal.SIGKILL)
    since = time.monotonic()
    await stage.until_serving(before)
    assert time.monotonic() - since <= 3 * OWNER + 0.5 + INTERVAL + SLACK
    assert await stage.instance() == theirs
    assert "only-there" in await stage.names("namespaces")


async def test_epoch_outlives_connections(
    stage: Stage, own_broker: RunningBroker, own_control_plane: ControlPlane
) -> None:
    """A new epoch costs a whole list and all rows: neither the broker's restart nor a 410 is worth one."""
    agent = await stage.agent(own_control_plane)
    epoch = await stage.until_serving()
    await own_broker.broker.stop()
    await own_broker.start()

    async def seen(name: str) -> bool:
        return name in await stage.names("namespaces")

    own_control_plane.kubectl("create", "namespace", "after-the-broker")
    await until(lambda: seen("after-the-broker"), 60)
    api_server = ApiServer(own_control_plane)
    lists = stage.relists("namespaces")
    agent.send(signal.SIGSTOP)
    await api_server.stop()
    await api_server.start()
    own_control_plane.kubectl("create", "namespace", "after-the-compaction")
    await api_server.compact()
    await api_server.stop()
    await api_server.start()  # its cache begins after what the agent has seen
    agent.send(signal.SIGCONT)
    await until(lambda: seen("after-the-compaction"), 60)
    await stage.until_serving()
    await until(lambda: stage.relists("namespaces") > lists)
    assert stage.epochs == [epoch]
