"""Commands over a real broker: from the master's publish to the confirmed result."""

import asyncio
import base64
import json
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest

from schemas import registry, subjects
from schemas.commands import Command, CommandReceived, CommandStarted, CommandState, ResultPart
from schemas.control import ResultsConfirmed
from schemas.envelope import Envelope
from schemas.ids import uuid7
from schemas.topology import COMMANDS
from services.agent.gateway import commands as commands_module
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.clock import CoreClock
from services.agent.gateway.commands import BusCommands
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from services.runtime.bus.config import stream_config
from services.runtime.bus.topology import parse_time
from tests.agent.commands.desk import TARGET, Desk, command
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.bus.fixtures import Connect, RunningBroker
from tests.waiting import until

LATER = datetime.now(UTC) + timedelta(hours=1)
PATIENT = 60.0
"""Seconds until a broker hands out again: no agent is so slow that it does while its answer is under way."""
WINDOW = 0.2
"""Seconds: the duplicate window of the test that waits for its end, again and again."""


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


IMPATIENT = pytest.mark.parametrize("agent", [1.0], indirect=True)
"""For a test that sees results sent again: how many seconds the agent waits for a confirmation."""


@pytest.fixture
async def agent(
    request: pytest.FixtureRequest,
    running_broker: RunningBroker,
    bus: Connect,
    tmp_path: Path,
    actions: WorldActions,
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
            patience=getattr(request, "param", 30.0),
            now=gateway.clock.now,
        )
        async with running(scheduler):
            yield Agent(scheduler, commands, gateway)


@pytest.fixture
async def desk(own_broker: RunningBroker, agent: Agent, bus: Connect) -> Desk:
    return Desk(await bus("master"), await bus("reader"), journal=agent.journal.id)


async def consumer(desk: Desk) -> dict[str, Any]:
    """How the agent's consumer stands."""
    return await desk.reader.api(f"$JS.API.CONSUMER.INFO.{COMMANDS.name}.{TARGET.durable}")


async def handed_out(desk: Desk) -> bool:
    """Whether the consumer has handed out anything."""
    return bool((await consumer(desk))["delivered"]["consumer_seq"])


async def ask(desk: Desk, about: Command) -> None:
    """Send it, again and again until it has ended, as a master does: what came when a pull had just begun
    does not tell the time."""
    async with asyncio.timeout(40):
        while not desk.ends(about):
            await desk.send(about)
            with suppress(TimeoutError):
                await desk.end(about, seconds=1.7)


async def waits(desk: Desk) -> None:
    """Until the agent's pull has waited at the broker so long that what comes now is fresh."""

    async def asked() -> bool:
        return bool((await consumer(desk))["num_waiting"])

    loop, waited = asyncio.get_running_loop(), 0.0
    while not 1 <= waited < 3:  # after some seconds the agent asks anew
        await until(asked)
        since = loop.time()
        await asyncio.sleep(1)
        waited = loop.time() - since


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
    assert (await desk.end(about)).success
    await until(lambda: not agent.scheduler.trouble())


async def test_consumer_that_is_deleted(agent: Agent, desk: Desk) -> None:
    """Made again, it hands everything out once more: answered from the journal."""
    await desk.open(consumer=False)
    await desk.make_consumer(PATIENT)
    first, second = command(), command()
    await desk.send(first)
    assert (await desk.end(first)).success
    await desk.master.api(f"$JS.API.CONSUMER.DELETE.{COMMANDS.name}.{TARGET.durable}")
    await desk.send(second)
    await asyncio.sleep(0.5)
    await desk.make_consumer(PATIENT)
    assert (await desk.end(second)).success
    await until(lambda: agent.scheduler.custody.redelivered == 1)
    assert agent.scheduler.executor.done == 2


@IMPATIENT  # the agent may be back at the broker before who hears it
async def test_broker_that_is_killed(
    agent: Agent, desk: Desk, own_broker: RunningBroker, actions: WorldActions
) -> None:
    """Commands go on within seconds of its return; what ended meanwhile is reported then."""
    await desk.open()
    about = command(params={"seconds": 60})
    await desk.send(about)
    await until(lambda: actions.running)
    await kill(own_broker)
    actions.hurry()
    await until(lambda: agent.journal.unconfirmed)
    await own_broker.broker.start()
    assert (await desk.end(about)).success
    second = command()
    await until(lambda: desk.master.connected)
    await desk.send(second)
    assert (await desk.end(second)).success


@IMPATIENT
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
    running_ = [command("empty", name=f"n{number}", params={"seconds": 400}) for number in range(6)]
    for about in running_:
        await desk.send(about)
    await until(lambda: len(agent.scheduler.executor.in_hand) == 6)
    for about in reversed(running_):
        await desk.cancel(about, "enough")
        end = await desk.end(about)
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


async def test_message_that_breaks_the_contract(
    agent: Agent, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put where people look for it, once, and holds nobody up."""
    monkeypatch.setattr(commands_module, "REJECT", PATIENT)  # what is given up is put there once more
    await desk.open()
    letters: list[Any] = []

    async def hear(_: str, envelope: Envelope) -> None:
        letters.append(registry.lookup(envelope.type).decode(envelope.data))

    await desk.reader.subscribe(subjects.dead(TARGET), hear)
    source = subjects.service_source("master", "test")
    subject = subjects.command(TARGET, "change")
    about, other = command(), command()
    bodies = [(other.id, b"{"), (other.id, about.model_dump_json().encode())]
    spoilt = (
        {"finish_by": "9999-12-31T23:59:59-23:59"},
        {"start_by": "2026-11-22T04:00:00"},
        {"id": "a.b.>"},
        {"id": "x" * 5000},
    )
    for wrong in spoilt:
        whole = json.loads(about.model_dump_json()) | {"id": uuid7()} | wrong
        bodies.append((whole["id"], json.dumps(whole).encode()))
    for command_id, body in bodies:
        envelope = Envelope(type=registry.COMMAND_SENT.name, source=source, data=body, id=command_id)
        await desk.master.publish(subject, envelope, message_id=uuid7())
    await desk.send(about)
    assert (await desk.end(about)).success

    async def all_settled() -> bool:
        info = await consumer(desk)
        return (info["num_ack_pending"], info["num_pending"]) == (0, 0)

    await until(all_settled)
    await until(lambda: len(letters) >= len(bodies))
    assert len(letters) == len(bodies)
    assert "command.sent" in letters[0].reason
    assert other.id in letters[1].reason
    for letter, wrong in zip(letters[2:], spoilt, strict=True):
        assert f"command.sent.v1: {min(wrong)}:" in letter.reason


async def test_agent_with_a_wrong_clock(agent: Agent, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour off it works all the same once it has heard a command, and tells the core's times; what comes
    over `ctl` has the time of its sender, which may be an hour off as well.
    """
    await desk.open()
    for hours in (1, -1):
        set_clock(agent, timedelta(hours=hours), monkeypatch)
        await waits(desk)
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
    with monkeypatch.context() as slow:
        # A machine that stood still between the pull and its answer would take the command for fresh.
        slow.setattr(commands_module, "FRESH", 20.0)
        await desk.open()
        await until(lambda: handed_out(desk))
        await asyncio.sleep(1.5)
        assert not agent.scheduler.custody._journal.knows(about.id)
    await ask(desk, about)
    assert desk.ends(about)[0].success


@pytest.mark.parametrize("hours", [1, -1])
async def test_deadlines_by_another_clock(agent: Agent, desk: Desk, hours: int) -> None:
    """The broker's clock is an hour off the database's: deadlines and times are by the latter."""
    await desk.open()
    await waits(desk)
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
@IMPATIENT
async def test_five_hundred_each_twenty_times(
    agent: Agent, desk: Desk, bus: Connect, actions: WorldActions
) -> None:
    """Ten thousand deliveries in any order, all of a command under one message id, which the stream drops
    inside its duplicate window and stores again after it: five hundred effects, one end each.
    """
    operator = await bus("operator")
    short = stream_config(COMMANDS) | {"duplicate_window": int(WINDOW * 1e9)}
    await operator.api(f"$JS.API.STREAM.UPDATE.{COMMANDS.name}", short)
    await desk.open()
    several = [command(name=f"n{number % 50}", finish_by=LATER, start_by=LATER) for number in range(500)]
    deliveries = several * 20
    random.Random(1).shuffle(deliveries)
    waiting = iter(deliveries)
    stored: dict[str, list[int]] = {about.id: [] for about in several}
    dropped: dict[str, list[int]] = {about.id: [] for about in several}

    async def deliver() -> None:
        for about in waiting:
            while True:
                sequence, duplicate = await desk.send_same(about)
                (dropped if duplicate else stored)[about.id].append(sequence)
                if not duplicate:
                    break
                await asyncio.sleep(WINDOW / 2)

    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(deliver())

    # What was dropped is answered with the sequence of a copy that was not; those are all in the stream.
    assert {len(sequences) for sequences in stored.values()} == {20}
    assert sorted(chain(*stored.values())) == list(range(1, len(deliveries) + 1))
    assert any(dropped.values())
    assert all(set(dropped[id_]) <= set(stored[id_]) for id_ in stored)
    one = several[0].id
    times = [await stored_at(desk, f"{one}.1", sequence) for sequence in sorted(stored[one])]
    assert all(later - earlier >= timedelta(seconds=WINDOW) for earlier, later in pairwise(times))

    async def all_acknowledged() -> bool:
        return bool((await consumer(desk))["ack_floor"]["stream_seq"] == len(deliveries))

    await until(all_acknowledged, 120)
    await until(lambda: not agent.journal.open and not agent.journal.unconfirmed, 60)
    assert actions.world.effects() == {about.id: 1 for about in several}
    for about in several:
        assert {end.state for end in desk.ends(about)} == {CommandState.SUCCEEDED}
    assert agent.scheduler.custody.received == len(several)


async def stored_at(desk: Desk, message_id: str, sequence: int) -> datetime:
    """When the stream stored the message, which has that id."""
    found = await desk.reader.api(f"$JS.API.STREAM.MSG.GET.{COMMANDS.name}", {"seq": sequence})
    headers = base64.b64decode(found["message"]["hdrs"]).decode().splitlines()
    assert f"Nats-Msg-Id: {message_id}" in headers
    return parse_time(found["message"]["time"])
