"""Commands over a real broker: from the master's publish to the confirmed result."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.commands import CommandReceived, CommandStarted, CommandState
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.commands import BusCommands
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from tests.agent.commands.desk import TARGET, Desk, command
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.bus.fixtures import Connect, RunningBroker
from tests.waiting import until


@pytest.fixture
def actions(tmp_path: Path) -> WorldActions:
    return WorldActions(World(tmp_path / "world.db"))


class Agent:
    """The agent's side of commands, on a bus."""

    def __init__(self, scheduler: CommandScheduler, gateway: BusCommands) -> None:
        self.scheduler = scheduler
        self.gateway = gateway
        self.journal = scheduler.journal


@pytest.fixture
async def agent(
    own_broker: RunningBroker, bus: Connect, tmp_path: Path, actions: WorldActions
) -> AsyncIterator[Agent]:
    connection = await bus(TARGET.durable)
    gateway = BusGateway(connection, TARGET)
    commands = BusCommands(connection, TARGET, gateway, poll_interval=0.2, patience=1.0)
    async with StateFile(tmp_path / "agent.db", journal_rows.TABLES) as file:
        scheduler = CommandScheduler(
            TARGET,
            "uid",
            actions,
            Journal(file, gateway.clock.now),
            commands,
            read_only=False,
            patience=1.0,
            now=gateway.clock.now,
        )
        async with running(scheduler):
            yield Agent(scheduler, commands)


@pytest.fixture
async def desk(agent: Agent, bus: Connect) -> Desk:
    return Desk(await bus("master"), await bus("reader"), journal=agent.journal.id)


async def test_from_publish_to_confirmed_result(agent: Agent, desk: Desk, actions: WorldActions) -> None:
    """A command is received, begun, done once and confirmed; a question is answered from the journal."""
    await desk.open()
    wanted = command()
    await desk.send(wanted)
    end = await desk.end(wanted)
    assert (end.state, end.success, end.data["version"], end.warnings) == (
        CommandState.SUCCEEDED, True, 1, ["a warning"],
    )  # fmt: skip
    (received,) = desk.bodies(wanted, CommandReceived)
    assert received.journal == agent.journal.id
    assert len(desk.bodies(wanted, CommandStarted)) == 1
    await until(lambda: not agent.journal.unconfirmed)
    await desk.send(wanted)
    await until(lambda: len(desk.ends(wanted)) == 2)
    assert desk.ends(wanted)[1] == end
    assert actions.world.effects() == {wanted.id: 1}
