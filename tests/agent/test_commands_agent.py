"""Commands in a whole agent, whose thing is a file: what its heartbeat says, and when it takes none."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas import registry, subjects
from schemas.commands import TargetReference
from schemas.control import Superseded
from schemas.frames import Scope
from schemas.ids import AgentKind, kubernetes
from schemas.presence import Collection, CollectionState, Heartbeat
from services.agent import app
from services.agent.capability import Identity, Sink
from services.agent.settings import AgentSettings
from tests.agent.commands.desk import Desk, command
from tests.agent.commands.world import ACTIONS, World, WorldActions
from tests.agent.fixtures import Heard, RunAgent
from tests.bus.fixtures import Connect
from tests.waiting import until


class WorldCapability:
    """Serves a World: there is nothing to be observed in it."""

    kind = AgentKind.KUBERNETES
    logs: Any = None

    def __init__(self, world: World) -> None:
        self.actions = WorldActions(world)

    async def identify(self) -> Identity:
        return Identity("uid-of-the-world", "v1")

    async def announce(self) -> Sequence[str]:
        return [f"act:{name}" for name in ACTIONS]

    def scope(self) -> Scope:
        return Scope(resources=[])

    async def observe(self, sink: Sink) -> None:
        await asyncio.get_running_loop().create_future()

    async def follow_events(self, sink: Sink) -> None:
        await asyncio.get_running_loop().create_future()

    def collection(self) -> list[Collection]:
        return [Collection(resource="things", state=CollectionState.SYNCED)]

    def counters(self) -> dict[str, int]:
        return {}


@pytest.fixture
def capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorldCapability:
    capability = WorldCapability(World(tmp_path / "world.db"))

    @asynccontextmanager
    async def build(_: AgentSettings) -> AsyncIterator[WorldCapability]:
        yield capability

    monkeypatch.setitem(app.CAPABILITIES, AgentKind.KUBERNETES, build)
    return capability


def last(heard: Heard) -> Heartbeat:
    return heard.heartbeats[-1]


@pytest.fixture
def quiet_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture's reader hears all channels but results, which the desk hears."""
    hear = Heard.hear

    async def without_results(self: Heard, subject: str, envelope: Any) -> None:
        parsed = subjects.parse(subject)
        if isinstance(parsed, subjects.Up) and parsed.channel != "result":
            await hear(self, subject, envelope)

    monkeypatch.setattr(Heard, "hear", without_results)


@pytest.mark.usefixtures("quiet_reader")
async def test_whole_agent(
    run_agent: RunAgent, bus: Connect, capability: WorldCapability, cluster_id: str
) -> None:
    """The heartbeat names the journal, what it can do and what it has done; a standby takes nothing."""
    target = kubernetes(cluster_id)
    about = command(target=TargetReference(kind=target.kind, id=target.id))
    other = command(target=TargetReference(kind=target.kind, id=target.id))
    settings = {
        "AGENT_READ_ONLY": "false",
        "AGENT_HEARTBEAT_INTERVAL": "300ms",
        "AGENT_TIMEOUT_COMMAND_POLL": "1s",
        "AGENT_COMMAND_POLL_INTERVAL": "100ms",
    }
    async with run_agent(**settings) as heard:
        await heard.until(lambda h: h.heartbeats and last(h).journal and last(h).capabilities)
        journal = last(heard).journal
        assert {f"act:{name}" for name in ACTIONS} <= set(last(heard).capabilities)
        await heard.until(lambda h: "no command could be asked for" in last(h).health.last_error)
        desk = Desk(await bus("master"), await bus("reader"), target, journal)
        await desk.open()
        await heard.until(lambda h: last(h).health.healthy)
        await desk.send(about)
        assert (await desk.end(about)).success
        await heard.until(lambda h: last(h).counters.get("commands_done") == 1)
        await heard.until(lambda h: last(h).counters["results_unconfirmed"] == 0)

        await until(lambda: heard.frames)
        told = Superseded(epoch=heard.frames[-1].epoch, by="another", instance="")
        envelope = registry.EPOCH_SUPERSEDED.envelope(told, source=subjects.service_source("master", "test"))
        await desk.master.send(subjects.control(target, "superseded"), envelope)
        await heard.until(lambda h: last(h).health.status == "standby")
        await desk.send(other)
        await asyncio.sleep(1.0)
        assert not desk.heard or other.id not in {body.command_id for _, body in desk.heard}
        assert (last(heard).journal, last(heard).health.last_error.count("no command")) == (journal, 0)
    assert capability.actions.world.effects() == {about.id: 1}
