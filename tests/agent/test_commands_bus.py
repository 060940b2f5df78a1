"""Commands over a real broker: from the master's publish to the confirmed result."""

import asyncio
import json
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import registry, subjects
from schemas.commands import CommandReceived, CommandStarted, CommandState, ResultPart
from schemas.control import ResultsConfirmed
from schemas.envelope import Envelope
from schemas.ids import uuid7
from schemas.topology import COMMANDS
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.clock import CoreClock
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

LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def actions(tmp_path: Path) -> WorldActions:
    return WorldActions(World(tmp_path / "world.db"))


async def kill(broker: RunningBroker) -> None:
    """At once; what it has not written is gone."""
    pid = broker.broker.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    await broker.broker.stop()


class Agent:
    """The agent's side of commands, on a bus."""

    def __init__(self, scheduler: CommandScheduler, commands: BusCommands, gateway: BusGateway) -> None:
        self.scheduler = scheduler
        self.commands = commands
        self.gateway = gateway
        self.journal = scheduler.journal


@pytest.fixture
async def agent(
    running_broker: RunningBroker, bus: Connect, tmp_path: Path, actions: WorldActions
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
            yield Agent(scheduler, commands, gateway)


@pytest.fixture
async def desk(own_broker: RunningBroker, agent: Agent, bus: Connect) -> Desk:
    return Desk(await bus("master"), await bus("reader"), journal=agent.journal.id)


async def test_from_publish_to_confirmed_result(agent: Agent, desk: Desk, actions: WorldActions) -> None:
    """A command is received, begun, done once and confirmed; a question is answered from the journal, which
    has its bytes as they came, and the signature over them.
    """
    await desk.open()
    wanted = command()
    await desk.send(wanted, signature="b3ZlciB0aGUgYm9keQ==")
    end = await desk.end(wanted)
    assert (end.state, end.success, end.data["version"], end.warnings) == (
        CommandState.SUCCEEDED, True, 1, ["a warning"],
    )  # fmt: skip
    (received,) = desk.bodies(wanted, CommandReceived)
    assert received.journal == agent.journal.id
    assert len(desk.bodies(wanted, CommandStarted)) == 1
    await until(lambda: not agent.journal.unconfirmed)
    found = await agent.journal.read(wanted.id)
    assert found
    assert found[0].body == wanted.model_dump_json().encode()
    assert found[0].extensions["signature"] == "b3ZlciB0aGUgYm9keQ=="
    await desk.send(wanted)
    await until(lambda: len(desk.ends(wanted)) == 2)
    assert desk.ends(wanted)[1] == end
    assert actions.world.effects() == {wanted.id: 1}


async def test_consumer_that_comes_later(agent: Agent, desk: Desk) -> None:
    """Until a master has made the consumer the agent asks again and again, and says so after a while."""
    await desk.open(consumer=False)
    about = command()
    await desk.send(about)
    await until(lambda: TARGET.durable in agent.scheduler.trouble())
    await desk.make_consumer()
    assert (await desk.end(about, seconds=10)).success
    await until(lambda: not agent.scheduler.trouble())


async def test_consumer_that_is_deleted(agent: Agent, desk: Desk) -> None:
    """Made again, it hands everything out once more: answered from the journal."""
    await desk.open()
    first, second = command(), command()
    await desk.send(first)
    assert (await desk.end(first)).success
    await desk.master.api(f"$JS.API.CONSUMER.DELETE.{COMMANDS.name}.{TARGET.durable}")
    await desk.send(second)
    await asyncio.sleep(0.5)
    await desk.make_consumer()
    assert (await desk.end(second, seconds=10)).success
    await until(lambda: agent.scheduler.custody.redelivered == 1)
    assert agent.scheduler.executor.done == 2


async def test_broker_that_is_killed(agent: Agent, desk: Desk, own_broker: RunningBroker) -> None:
    """Commands go on within seconds of its return; what ended meanwhile is reported then."""
    await desk.open()
    about = command(params={"seconds": 1.0})
    await desk.send(about)
    await until(lambda: agent.scheduler.executor.in_hand)
    await kill(own_broker)
    await until(lambda: agent.journal.unconfirmed)
    await own_broker.broker.start()
    assert (await desk.end(about, seconds=15)).success
    second = command()
    await until(lambda: desk.master.connected)
    await desk.send(second)
    assert (await desk.end(second, seconds=15)).success


async def test_broker_whose_store_is_lost(
    agent: Agent, desk: Desk, own_broker: RunningBroker, actions: WorldActions
) -> None:
    """Streams and consumer are made again, everything is sent again: done once, reported again."""
    desk.confirming = False
    await desk.open()
    several = [command(name=f"n{number}") for number in range(20)]
    for about in several:
        await desk.send(about)
    for about in several:
        await desk.end(about)
    await kill(own_broker)
    shutil.rmtree(own_broker.home / "nats" / "data")
    await own_broker.broker.start()
    await own_broker.apply()
    await until(lambda: desk.master.connected)
    desk.heard.clear()
    desk.confirming = True
    await desk.make_consumer()
    for about in several[:5]:
        await desk.send(about)
    for about in several:
        assert (await desk.end(about)).success
    await until(lambda: not agent.journal.unconfirmed)
    assert set(actions.world.effects().values()) == {1}


async def test_cancel_overtakes(agent: Agent, desk: Desk) -> None:
    """A cancel comes through while others run, and however many wait."""
    await desk.open()
    running_ = [command("empty", name=f"n{number}", params={"seconds": 30}) for number in range(6)]
    for about in running_:
        await desk.send(about)
    await until(lambda: len(agent.scheduler.executor.in_hand) == 6)
    for about in reversed(running_):
        await desk.cancel(about, "enough")
        end = await desk.end(about, seconds=5)
        assert end.state is CommandState.CANCELED
        assert end.error
        assert "enough" in end.error.message


async def test_large_result(agent: Agent, desk: Desk) -> None:
    """More than a message holds comes in parts, through the broker's limit."""
    await desk.open()
    about = command("read", params={"size": 3_000_000})
    await desk.send(about)
    end = await desk.end(about)
    parts = sorted(desk.bodies(about, ResultPart), key=lambda part: part.index)
    assert (len(parts), end.data) == (end.parts, None)
    assert len(json.loads("".join(part.data for part in parts))["text"]) == 3_000_000


async def test_message_that_breaks_the_contract(agent: Agent, desk: Desk) -> None:
    """It is put where people look for it, once, and holds nobody up."""
    await desk.open()
    letters: list[Any] = []

    async def hear(_: str, envelope: Envelope) -> None:
        letters.append(registry.lookup(envelope.type).decode(envelope.data))

    await desk.reader.subscribe(subjects.dead(TARGET), hear)
    source = subjects.service_source("master", "test")
    subject = subjects.command(TARGET, "change")
    about, other = command(), command()
    bodies = [b"{", about.model_dump_json().encode()]
    for body in bodies:
        envelope = Envelope(type=registry.COMMAND_SENT.name, source=source, data=body, id=other.id)
        await desk.master.publish(subject, envelope, message_id=uuid7())
    await desk.send(about)
    assert (await desk.end(about)).success
    assert len(letters) == 2
    assert "command.sent" in letters[0].reason
    assert other.id in letters[1].reason
    info = await desk.reader.api(f"$JS.API.CONSUMER.INFO.{COMMANDS.name}.{TARGET.durable}")
    assert (info["num_ack_pending"], info["num_pending"]) == (0, 0)


async def test_agent_with_a_wrong_clock(agent: Agent, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour off it works all the same once it has heard a command, and tells the core's times; what comes
    over `ctl` has the time of its sender, which may be an hour off as well.
    """
    await desk.open()
    for hours in (1, -1):
        set_clock(agent, timedelta(hours=hours), monkeypatch)
        await asyncio.sleep(1)  # the pull waits, so what comes is fresh
        about = command()
        await desk.send(about)
        end = await desk.end(about)
        assert end.success
        assert abs(end.executed_at - datetime.now(UTC)) < timedelta(minutes=1)
        body = ResultsConfirmed(command_ids=["nobody"])
        source = subjects.service_source("master", "test")
        envelope = registry.RESULTS_CONFIRMED.envelope(body, source=source)
        wrong = replace(envelope, time=envelope.time + timedelta(hours=1))
        await desk.master.send(subjects.control(TARGET, "results"), wrong)
        about = command()
        await desk.send(about)
        assert (await desk.end(about)).success
        late = command(start_by=datetime.now(UTC) - timedelta(minutes=1))
        await desk.send(late)
        assert (await desk.end(late)).state is CommandState.EXPIRED


def set_clock(agent: Agent, off: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own clock is so far off, and it has not heard the core's time."""
    agent.gateway.clock = CoreClock(wall=lambda: datetime.now(UTC) + off)
    scheduler = agent.scheduler
    for part in (
        *(scheduler.custody, scheduler.custody._checks),
        *(scheduler.executor, scheduler.executor._attempts),
    ):
        monkeypatch.setattr(part, "_now", agent.gateway.clock.now)


async def test_what_has_waited_for_an_agent_an_hour_ahead(
    agent: Agent, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not refused as late by a clock that nothing has confirmed; a question tells the time."""
    set_clock(agent, timedelta(hours=1), monkeypatch)
    about = command()
    await desk.send(about)
    await desk.open()
    await asyncio.sleep(1.5)
    assert not agent.scheduler.custody._journal.knows(about.id)
    await desk.send(about)
    assert (await desk.end(about)).success


@pytest.mark.parametrize("hours", [1, -1])
async def test_deadlines_by_another_clock(agent: Agent, desk: Desk, hours: int) -> None:
    """The broker's clock is an hour off the database's: deadlines and times are by the latter."""
    await desk.open()
    await asyncio.sleep(1)
    there = datetime.now(UTC) - timedelta(hours=hours)
    ahead = f"{3600 * hours}.000"
    minute = timedelta(minutes=1)
    about = command(created_at=there, start_by=there + minute, finish_by=there + 2 * minute)
    await desk.send(about, clockahead=ahead)
    end = await desk.end(about)
    assert end.success
    assert timedelta(0) <= end.executed_at - there < minute
    late = command(created_at=there, start_by=there - minute, finish_by=there + minute)
    await desk.send(late, clockahead=ahead)
    assert (await desk.end(late)).state is CommandState.EXPIRED


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_five_hundred_each_twenty_times(agent: Agent, desk: Desk, actions: WorldActions) -> None:
    """Ten thousand deliveries in any order, past the duplicate window: five hundred effects, one end each."""
    await desk.open()
    several = [command(name=f"n{number % 50}", finish_by=LATER, start_by=LATER) for number in range(500)]
    deliveries = several * 20
    random.Random(1).shuffle(deliveries)
    for start in range(0, len(deliveries), 200):
        await asyncio.gather(*(desk.send(about) for about in deliveries[start : start + 200]))
    for about in several:
        assert (await desk.end(about, seconds=120)).success
    await until(lambda: agent.scheduler.custody.redelivered > 0)
    await until(lambda: not agent.journal.open and not agent.journal.unconfirmed, 60)
    assert actions.world.effects() == {about.id: 1 for about in several}
    for about in several:
        assert {end.state for end in desk.ends(about)} == {CommandState.SUCCEEDED}
