"""Commands for agents that are away: nothing is handed to the broker that nobody could take back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.commands import Command, CommandState, ErrorCode
from schemas.ids import Target
from schemas.presence import Health, Heartbeat
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.commands import BusCommands
from services.agent.scheduler.commands import attempts
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from services.master.commands import cancels
from services.master.commands.duty import CommandsDuty
from services.persistence.database.engine import Database
from services.persistence.presence.liveness import Beat
from services.persistence.presence.store import Sign, store_signs
from services.runtime.bus.cursor import Cursor
from tests.agent.commands.desk import command as change
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.commanding import Commands, command_for
from tests.master.conftest import Fleet
from tests.master.duty import Takers, at_work, cancel
from tests.persistence.sending import NOW, beat
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

A, B = AGENTS
LONG = 1000.0
"""Seconds between two beats of the clock, so that it has no gap."""


async def clock(db: Database, *seconds: int) -> None:
    """The broker's clock goes on to these seconds."""
    beats = [Beat(NOW + timedelta(seconds=second), LONG) for second in seconds]
    await store_signs(db, [], beats, Cursor("clock", "HEARTBEATS", NOW, 10_000 + seconds[-1]))


async def say_stopping(db: Database, target: Target, journal: str, second: int) -> None:
    health = Health(healthy=True, status="stopping", start_time=NOW)
    body = Heartbeat(version="1", interval=15, health=health, journal=journal)
    sign = Sign(target, body, NOW + timedelta(seconds=second))
    await store_signs(db, [sign], [], Cursor("h", "HEARTBEATS", NOW, second + 1))


@pytest.fixture
async def commands(fleet: Fleet) -> Commands:
    return Commands(fleet.db)


@pytest.fixture
async def takers(own_broker: RunningBroker, bus: Connect, commands: Commands) -> AsyncIterator[Takers]:
    async with AsyncExitStack() as stack:
        yield Takers(bus, commands.db, stack)


@pytest.fixture
async def duty(own_broker: RunningBroker, bus: Connect, commands: Commands) -> AsyncIterator[CommandsDuty]:
    async with at_work(await bus("master", wait=True), commands.db) as made:
        yield made


@pytest.fixture(params=["lost", "stopping"])
async def absent(request: pytest.FixtureRequest, takers: Takers, commands: Commands) -> object:
    """The agent `a`, which is lost, or has said that it is going."""
    agent = await takers.meet()
    if request.param == "lost":
        await clock(commands.db, 0, 100)
    else:
        await clock(commands.db, 0, 20)
        await say_stopping(commands.db, A, agent.journal_id, 20)
    return agent


async def held(commands: Commands, command: Command) -> None:
    """It is accepted, and nobody has sent it, for a while."""
    await asyncio.sleep(1.5)
    row = await commands.row(command.id)
    assert (row.state, row.attempts) == (CommandState.ACCEPTED, 0)


async def has(commands: Commands, command: Command, state: CommandState) -> None:
    async def is_so() -> bool:
        return await commands.state(command.id) is state

    await until(is_so)


async def test_what_is_held_is_canceled_at_once(
    absent: object, duty: CommandsDuty, commands: Commands, bus: Connect
) -> None:
    """A command for an agent that is away stays accepted, so that its cancellation is certain."""
    command = command_for(A)
    await commands.accept(command)
    await held(commands, command)
    await cancel(commands, command.id)
    await commands.hint(await bus("api"))
    async with asyncio.timeout(20.0):  # it would be looked at after 30 s, and ends after 60 s
        await has(commands, command, CommandState.CANCELED)
    error = (await commands.result(command.id)).error
    assert error
    assert "nothing was done" in error.message


async def test_what_is_held_expires_at_its_time(
    absent: object, duty: CommandsDuty, commands: Commands
) -> None:
    """At `start_by`, without a margin: it was never sent; its end says why."""
    command = command_for(A, start_within=8.0)
    await commands.accept(command)
    await held(commands, command)
    assert await commands.waiting() == {command.id: command.start_by}
    await has(commands, command, CommandState.EXPIRED)
    row = await commands.row(command.id)
    assert timedelta(0) <= row.finished_at - command.start_by < timedelta(seconds=10)
    error = (await commands.result(command.id)).error
    assert error
    assert (error.code, "its agent was away" in error.message) == (ErrorCode.LATE, True)


@pytest.mark.alone
async def test_an_agent_that_is_back_gets_what_was_held(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """Within two seconds of its heartbeat, in order; what is for another one that is away goes on waiting."""
    agent, other = await takers.meet(), await takers.meet(B)
    await clock(commands.db, 0, 100)
    others = command_for(B)
    await commands.accept(others)
    await takers.start(agent)
    await takers.start(other)
    took: list[float] = []
    while not took or (took[-1] > 2.0 and len(took) < 3):  # the machine may have stood still
        agent.effects.clear()
        agent.deliveries.clear()
        wanted = [command_for(A) for _ in range(5)]
        for command in wanted:
            await commands.accept(command)
        await held(commands, wanted[0])
        ids = {command.id for command in wanted}
        assert ids.isdisjoint(id_ for id_, _ in agent.deliveries)  # what was done before may be asked about
        await beat(commands.db, A, agent.journal_id, 100 * (len(took) + 1))
        back = time.monotonic()
        await until(lambda: len(agent.effects) == 5)
        took.append(time.monotonic() - back)
        assert agent.effects == [command.id for command in wanted]
        await clock(commands.db, 100 * (len(took) + 1))
    assert took[-1] <= 2.0, took
    await held(commands, others)


async def test_a_clock_that_stands_judges_nobody(
    duty: CommandsDuty, commands: Commands, takers: Takers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no beat of a master is seen nobody knows who is away: commands are sent."""
    agent = await takers.meet()
    await clock(commands.db, 0, 100)
    monkeypatch.setattr(duty._clock, "_silent", 1.0)
    await asyncio.sleep(1.5)
    command = command_for(A)
    await commands.accept(command)
    await takers.start(agent)
    await until(lambda: agent.effects == [command.id])


async def test_canceled_before_it_was_fetched(duty: CommandsDuty, commands: Commands, takers: Takers) -> None:
    """One that waits in the stream until its `start_by` was certainly not handed out: it ends as canceled."""
    await takers.meet()
    command = command_for(A)
    await commands.accept(command)
    await has(commands, command, CommandState.SENT)
    await cancel(commands, command.id)
    await commands.hurry(command.id)
    await has(commands, command, CommandState.CANCELED)
    error = (await commands.result(command.id)).error
    assert error
    assert "before its agent fetched it, nothing was done: enough" in error.message


@asynccontextmanager
async def real_agent(bus: Connect, folder: Path) -> AsyncIterator[tuple[CommandScheduler, WorldActions]]:
    """The agent's side of commands, as it is, at work and connected until the block ends."""
    connection = await bus(A.durable)
    gateway = BusGateway(connection, A)
    commands = BusCommands(connection, A, gateway, poll_interval=0.2, patience=1.0)
    actions = WorldActions(World(folder / "world.db"))
    async with StateFile(folder / "agent.db", journal_rows.TABLES) as file:
        scheduler = CommandScheduler(
            A,
            "uid",
            actions,
            Journal(file, gateway.clock.now),
            commands,
            read_only=False,
            patience=1.0,
            now=gateway.clock.now,
        )
        async with running(scheduler):
            yield scheduler, actions
    await connection.close()


async def test_canceled_while_its_agent_was_away(
    duty: CommandsDuty,
    commands: Commands,
    bus: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sent, since nobody knew yet that its agent was away; canceled; then the agent comes back, and takes it.
    It is told before it begins: nothing is done.
    """
    monkeypatch.setattr(cancels, "FIRST", 1000.0)  # told once, and then only when its agent has it
    monkeypatch.setattr(cancels, "SLOWEST", 1000.0)
    monkeypatch.setattr(attempts, "HOLD", 8.0)
    async with real_agent(bus, tmp_path) as (scheduler, _):
        await beat(commands.db, A, scheduler.journal.id)
    command, other = change(name="one"), change(name="two")
    for about in (command, other):
        await commands.accept(about)
        await has(commands, about, CommandState.SENT)
    await cancel(commands, command.id)
    await commands.hint(await bus("api"))
    await asyncio.sleep(attempts.WAITED.total_seconds() + 1.0)
    async with real_agent(bus, tmp_path) as (_, actions):
        await has(commands, command, CommandState.CANCELED)
        await has(commands, other, CommandState.SUCCEEDED)
        assert actions.world.effects() == {other.id: 1}
    error = (await commands.result(command.id)).error
    assert error
    assert "enough; nothing was done" in error.message
