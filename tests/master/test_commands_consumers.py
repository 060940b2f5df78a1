"""Commands and the broker: consumers that are missing or differ, and a store that was lost."""

import asyncio
import shutil

import pytest

from schemas import topology
from schemas.commands import CommandState
from services.master.commands import consumers
from services.master.commands.duty import CommandsDuty
from services.runtime.bus.client import Bus
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.commanding import CommandAgent, Commands, command_for
from tests.master.duty import (
    Takers,
    all_in_state,
    at_work,
    consumer_of,
    has_consumer,
    has_ended,
    in_state,
    parts_of,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

STREAM = topology.COMMANDS.name
A, B = AGENTS


async def test_an_agent_has_its_consumer_before_its_first_command(
    bus: Connect, commands: Commands, takers: Takers
) -> None:
    """Else nobody could tell that an earlier consumer has not handed it out."""
    await takers.meet()
    several = [command_for(A) for _ in range(3)]
    for command in several:
        await commands.accept(command)
    master = await bus("master", wait=True)
    async with at_work(master, commands.db):
        for command in several:
            await until(lambda id_=command.id: in_state(commands, id_, CommandState.SENT))
    info = await master.api(f"$JS.API.CONSUMER.INFO.{topology.COMMANDS.name}.{A.durable}")
    assert info["config"]["metadata"][consumers.SINCE] == "0"
    assert [(await commands.row(command.id)).stream_sequence for command in several] == [1, 2, 3]


async def test_an_agents_consumer_is_made_when_it_is_first_heard_of(
    duty: CommandsDuty, commands: Commands, takers: Takers, operator: Bus
) -> None:
    """And made again when it is gone; a command that waits then comes to its agent all the same."""
    agent = await takers.meet()
    await until(lambda: has_consumer(operator, A))
    info = await consumer_of(operator, A)
    for name, value in consumers.consumer_config(A).items():
        assert info["config"][name] == value  # type: ignore[index]
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: in_state(commands, command.id, CommandState.SENT))
    await operator.api(f"$JS.API.CONSUMER.DELETE.{STREAM}.{A.durable}")
    await takers.start(agent)
    await until(lambda: command.id in agent.confirmed)
    assert agent.effects == [command.id]


async def test_a_consumer_that_differs_is_changed(
    own_broker: RunningBroker, bus: Connect, commands: Commands, takers: Takers, operator: Bus
) -> None:
    """What the broker knows of deliveries is kept."""
    await takers.meet()
    config = consumers.consumer_config(A) | {"max_ack_pending": 7, "metadata": {consumers.SINCE: "3"}}
    await operator.api(
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{A.durable}",
        {"stream_name": STREAM, "config": config, "action": "create"},
    )
    async with at_work(await bus("master", wait=True), commands.db):

        async def changed() -> bool:
            info = await consumer_of(operator, A)
            return bool(info["config"]["max_ack_pending"] == 256)  # type: ignore[index]

        await until(changed)
    info = await consumer_of(operator, A)
    assert info["config"]["metadata"][consumers.SINCE] == "3"  # type: ignore[index]


async def test_what_a_new_consumer_may_have_missed_is_not_called_unsent(
    duty: CommandsDuty, commands: Commands, takers: Takers, taker: CommandAgent, operator: Bus
) -> None:
    """The consumer that handed it out is gone; the next one has handed out nothing. That proves nothing."""
    taker.takes = lambda _: False
    await until(lambda: has_consumer(operator, A))
    await takers.meet(B)
    other = command_for(B)  # stays in the stream: a new consumer begins with it
    await commands.accept(other)
    await until(lambda: in_state(commands, other.id, CommandState.SENT))
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: taker.deliveries)
    await taker.bus.close()
    await operator.api(f"$JS.API.CONSUMER.DELETE.{STREAM}.{A.durable}")
    await commands.hurry(command.id, finish=4.0)
    await until(lambda: has_ended(commands, command.id), 40)
    assert await commands.state(command.id) is CommandState.UNKNOWN


async def test_a_broker_that_lost_everything_loses_no_command(
    own_broker: RunningBroker, duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """Commands that waited there, commands that are being done and results that were on their way: all end as
    if nothing had been, and nothing is done twice.
    """
    idle, busy = await takers.meet(), await takers.meet(B)
    await takers.start(busy)
    slow: set[str] = set()
    busy.performs = lambda command: command.id not in slow
    waiting, running = [command_for(A) for _ in range(5)], [command_for(B) for _ in range(5)]
    slow |= {command.id for command in running}
    for command in waiting + running:
        await commands.accept(command)
    await until(lambda: len(busy.journal) == 5)
    await until(lambda: all_in_state(commands, waiting, CommandState.SENT))
    await until(lambda: all_in_state(commands, running, CommandState.RECEIVED))
    await own_broker.broker.stop()
    for command in running[:2]:
        await busy.finish(command.id)  # nobody hears it
    shutil.rmtree(own_broker.home / "nats" / "data")
    await own_broker.broker.start()
    await asyncio.sleep(1.0)
    await own_broker.apply()
    await takers.start(idle)
    for command in running[2:]:
        await busy.finish(command.id)
    await until(lambda: all_in_state(commands, waiting + running, CommandState.SUCCEEDED), 40)
    assert sorted(idle.effects) == sorted(command.id for command in waiting)
    assert sorted(busy.effects) == sorted(command.id for command in running)


async def test_a_broker_that_was_killed_proves_nothing_of_before(
    own_broker: RunningBroker, duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """What it has handed out in its last moments it may not remember: without its agent's word it is unknown,
    not expired.
    """
    await takers.meet()
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: in_state(commands, command.id, CommandState.SENT))
    await own_broker.broker.stop()
    await own_broker.broker.start()
    await commands.hurry(command.id, start=2.0, finish=6.0)
    await until(lambda: has_ended(commands, command.id), 40)
    assert await commands.state(command.id) is CommandState.UNKNOWN


async def test_what_was_said_while_no_master_read_counts(
    own_broker: RunningBroker,
    bus: Connect,
    commands: Commands,
    taker: CommandAgent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A result that lies in the stream when `finish_by` is long over ends its command, not the clock; however
    long it takes to read it.
    """
    async with at_work(await bus("master", wait=True), commands.db):
        taker.performs = lambda _: False
        command = command_for(A)
        await commands.accept(command)
        await until(lambda: in_state(commands, command.id, CommandState.RECEIVED))
    await taker.finish(command.id)
    await commands.hurry(command.id, start=-60.0, finish=-30.0)
    late = CommandsDuty(parts_of(await bus("master", wait=True), commands.db))
    [consumer] = late.consumers
    read = consumer.run

    async def read_later() -> None:
        await asyncio.sleep(3.0)
        await read()

    monkeypatch.setattr(consumer, "run", read_later)
    task = asyncio.create_task(late.run())
    await until(lambda: has_ended(commands, command.id))
    await cancelled(task)
    assert await commands.state(command.id) is CommandState.SUCCEEDED
