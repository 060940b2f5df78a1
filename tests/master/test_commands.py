"""What the holder of the lease `commands` does, on a real broker: from the row to the agent and back."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import pytest

from schemas import registry, subjects, topology
from schemas.commands import CommandCompleted, CommandState, ErrorCode
from schemas.ids import Target
from services.master.commands import durables, questions
from services.master.commands.duty import CommandsDuty
from services.master.confirmations import Confirmations
from services.master.nudges import Nudges
from services.master.parts import Parts
from services.master.resync import Resyncs, Superseding
from services.master.settings import MasterSettings
from services.master.teller import Teller
from services.master.work import DatabaseWork
from services.persistence.commands.requests import request_cancel
from services.persistence.database.engine import Database
from services.runtime.bus.client import Bus
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.commanding import CommandAgent, Commands, command_for
from tests.master.conftest import Fleet
from tests.persistence.test_commands_sending import beat
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

STREAM = topology.COMMANDS.name
A, B = AGENTS


def parts_of(bus: Bus, db: Database, resend: float = 0.5) -> Parts:
    """A master's, with short times; `resend`: seconds until a command is asked about."""
    teller = Teller(bus)
    return Parts(
        settings=MasterSettings(command_resend_interval=resend, command_grace=1.0),
        bus=bus,
        db=db,
        work=DatabaseWork(),
        resyncs=Resyncs(teller, 1, 1.0, 1.0),
        superseding=Superseding(teller, 1.0),
        nudges=Nudges(teller),
        confirmations=Confirmations(teller),
    )


@pytest.fixture
async def commands(fleet: Fleet) -> Commands:
    return Commands(fleet.db)


@pytest.fixture
async def operator(own_broker: RunningBroker, bus: Connect) -> Bus:
    return await bus("operator")


@pytest.fixture
def resend() -> float:
    """Seconds until a command is asked about; more for a test of one that is answered before."""
    return 0.5


@pytest.fixture
async def duty(
    own_broker: RunningBroker, bus: Connect, commands: Commands, resend: float
) -> AsyncIterator[CommandsDuty]:
    """The duty at work."""
    async with at_work(await bus("master", wait=True), commands.db, resend) as made:
        yield made


@asynccontextmanager
async def at_work(bus: Bus, db: Database, resend: float = 0.5) -> AsyncIterator[CommandsDuty]:
    made = CommandsDuty(parts_of(bus, db, resend))
    task = asyncio.create_task(made.run())
    try:
        yield made
        assert not task.done(), task.result()
    finally:
        await cancelled(task)


class Takers:
    """Agents that take commands, known to the master."""

    def __init__(self, bus: Connect, db: Database, stack: AsyncExitStack) -> None:
        self._bus = bus
        self._db = db
        self._stack = stack

    async def meet(self, target: Target = A) -> CommandAgent:
        """An agent that has sent its heartbeat and does nothing yet."""
        made = CommandAgent(await self._bus(target.durable), target)
        await beat(self._db, target, made.journal_id)
        return made

    async def start(self, agent: CommandAgent) -> asyncio.Task[None]:
        task = asyncio.create_task(agent.run())
        self._stack.push_async_callback(cancelled, task)
        return task


@pytest.fixture
async def takers(own_broker: RunningBroker, bus: Connect, commands: Commands) -> AsyncIterator[Takers]:
    async with AsyncExitStack() as stack:
        yield Takers(bus, commands.db, stack)


@pytest.fixture
async def taker(takers: Takers) -> CommandAgent:
    """The agent `a` at work."""
    made = await takers.meet()
    await takers.start(made)
    return made


async def consumer_of(operator: Bus, target: Target) -> dict[str, object]:
    return await operator.api(f"$JS.API.CONSUMER.INFO.{STREAM}.{target.durable}")


@pytest.mark.parametrize("resend", [30.0])
async def test_a_command_is_sent_done_and_confirmed(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent, bus: Connect
) -> None:
    """From accepted to succeeded, with all its times. The agent may forget it, the outbox is empty, and what
    the agent got is what is stored, byte for byte, with the signature over these bytes.
    """
    command = command_for(A)
    await commands.accept(command, signature="b3ZlciB0aGUgYm9keQ==")
    await commands.hint(await bus("api"))
    await until(lambda: command.id in taker.confirmed)
    row = await commands.row(command.id)
    assert (row.state, row.attempts, row.journal) == (CommandState.SUCCEEDED, 1, taker.journal_id)
    assert None not in (row.sent_at, row.received_at, row.started_at, row.executed_at, row.finished_at)
    assert (await commands.result(command.id)).data == {"replicas": 2}
    assert taker.effects == [command.id]
    assert await commands.waiting() == {}
    [(_, message)] = taker.deliveries
    assert message.data == row.body
    assert message.subject == subjects.command(A, "scale")
    assert message.headers["Nats-Msg-Id"] == f"{command.id}.1"
    assert message.headers["ce-id"] == command.id
    assert message.headers["ce-journal"] == taker.journal_id
    assert message.headers["ce-signature"] == "b3ZlciB0aGUgYm9keQ=="
    assert datetime.fromisoformat(message.headers["ce-expirytime"]) == command.start_by
    assert 30 <= int(message.headers["Nats-TTL"]) <= 60


async def test_whoever_waits_hears_of_each_step(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent, bus: Connect
) -> None:
    """An api that listens need not look at the database all the time."""
    api = await bus("api")
    heard: list[tuple[list[str], list[str]]] = []

    async def hear(_: str, envelope: object) -> None:
        told = registry.COMMANDS_CHANGED.decode(envelope.data)  # type: ignore[attr-defined]
        heard.append((told.command_ids, told.ended))

    await api.subscribe(subjects.COMMANDS_CHANGED, hear)
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: heard and heard[-1][1])
    *before, end = heard
    assert before
    assert all(told == ([command.id], []) for told in before)
    assert end == ([command.id], [command.id])


async def test_the_order_of_an_agents_commands_is_kept(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """Each agent does its own in the order of their acceptance."""
    agents = [await takers.meet(target) for target in (A, B)]
    accepted: dict[Target, list[str]] = {A: [], B: []}
    for _ in range(20):
        for agent in agents:
            command = command_for(agent.target)
            accepted[agent.target].append(command.id)
            await commands.accept(command)
    for agent in agents:
        await takers.start(agent)
    await until(lambda: all(len(agent.confirmed) >= 20 for agent in agents))
    assert {agent.target: agent.effects for agent in agents} == accepted


async def test_large_results_come_in_parts(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent
) -> None:
    taker.data, taker.parts = {"rows": ["x" * 100] * 5000}, 3
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: command.id in taker.confirmed)
    assert await commands.data(command.id) == taker.data


# --- agents that are away, silent or forgetful -------------------------------------------------------


async def test_a_command_waits_for_its_agent(duty: CommandsDuty, commands: Commands, takers: Takers) -> None:
    """It is given to the broker once: nobody has to be asked what became of it while it waits there."""
    agent = await takers.meet()
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: _is(commands, command.id, CommandState.SENT))
    await asyncio.sleep(2.5)
    assert (await commands.row(command.id)).attempts == 1
    await takers.start(agent)
    await until(lambda: command.id in agent.confirmed)
    assert agent.effects == [command.id]


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
            await until(lambda id_=command.id: _is(commands, id_, CommandState.SENT))
    info = await master.api(f"$JS.API.CONSUMER.INFO.{topology.COMMANDS.name}.{A.durable}")
    assert info["config"]["metadata"][durables.SINCE] == "0"
    assert [(await commands.row(command.id)).stream_sequence for command in several] == [1, 2, 3]


async def test_what_was_never_handed_out_expires(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """For certain: the broker has it no longer, so an agent that comes back later gets nothing of it."""
    agent = await takers.meet()
    command = command_for(A, start_within=8)  # by the broker's count too, so that it gives it to nobody later
    await commands.accept(command)
    await until(lambda: _is(commands, command.id, CommandState.SENT))
    await until(lambda: _is(commands, command.id, CommandState.EXPIRED), 40)
    error = (await commands.result(command.id)).error
    assert error
    assert error.code == ErrorCode.LATE
    assert "never handed it out" in error.message
    assert datetime.now(UTC) < command.finish_by
    await takers.start(agent)
    await asyncio.sleep(1.0)
    assert agent.deliveries == []


async def test_what_was_handed_out_and_not_answered_is_unknown(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent
) -> None:
    """At its `finish_by`, after it was asked about; what the agent says later is evidence."""
    taker.answers = False
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: taker.effects)

    async def asked() -> bool:
        return bool((await commands.row(command.id)).attempts > 1)

    await until(asked)
    await commands.hurry(command.id, finish=2.0)
    await until(lambda: _is(commands, command.id, CommandState.UNKNOWN), 40)
    row = await commands.row(command.id)
    assert row.finished_at > row.finish_by
    error = (await commands.result(command.id)).error
    assert error
    assert error.code == ErrorCode.TIMEOUT
    assert taker.effects == [command.id]
    taker.answers = True
    await until(lambda: command.id in taker.confirmed)
    row = await commands.row(command.id)
    assert row.state == CommandState.UNKNOWN
    assert CommandCompleted.model_validate_json(row.evidence).state is CommandState.SUCCEEDED


async def test_a_report_that_was_lost_is_asked_for(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """A second attempt is a question: it is answered from the journal, and nothing is done twice."""
    taker = await takers.meet()
    taker.answers, taker.repeat = False, 1000.0
    await takers.start(taker)
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: taker.effects == [command.id])
    taker.answers = True
    await until(lambda: command.id in taker.confirmed)
    assert await commands.state(command.id) is CommandState.SUCCEEDED
    assert taker.effects == [command.id]
    assert taker.deliveries[0][1].headers["Nats-Msg-Id"] == f"{command.id}.1"
    assert (await commands.row(command.id)).attempts > 1


async def test_after_its_time_a_question_goes_on_until_the_end(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent
) -> None:
    """An agent that got it and let it fall says, when it is asked after `start_by`, that it is late."""
    taker.takes = lambda command: datetime.now(UTC) > command.start_by
    command = command_for(A, start_within=8.0, timeout=40.0)
    await commands.accept(command)
    await until(lambda: taker.deliveries)
    await until(lambda: _is(commands, command.id, CommandState.EXPIRED), 40)
    assert taker.effects == []
    ttl = int(taker.deliveries[-1][1].headers["Nats-TTL"])
    assert 10 < ttl <= 40


async def test_a_lost_journal_leaves_nothing_in_doubt_for_long(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent says itself that it does not know; one that says nothing is not waited for until
    `finish_by`. Nothing is done again.
    """
    monkeypatch.setattr(questions, "JOURNALS", 0.5)
    monkeypatch.setattr(questions, "ANSWER", 1.5)
    taker.performs = lambda _: False
    first, second = command_for(A), command_for(A)
    await commands.accept(first)
    await until(lambda: _is(commands, first.id, CommandState.RECEIVED))
    taker.lose_journal()
    await beat(commands.db, A, taker.journal_id, 20)
    await until(lambda: _is(commands, first.id, CommandState.UNKNOWN))
    await commands.accept(second)
    await until(lambda: _is(commands, second.id, CommandState.RECEIVED))
    taker.lose_journal()
    taker.answers = False
    await beat(commands.db, A, taker.journal_id, 40)
    await until(lambda: _is(commands, second.id, CommandState.UNKNOWN), 40)
    error = (await commands.result(second.id)).error
    assert error
    assert error.code == ErrorCode.JOURNAL_LOST
    assert taker.effects == []


async def test_an_agent_without_a_journal_gets_nothing(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    agent = await takers.meet()
    await beat(commands.db, A, "", 10)
    await takers.start(agent)
    command = command_for(A, start_within=1.5)
    await commands.accept(command)
    await until(lambda: _is(commands, command.id, CommandState.EXPIRED))
    assert agent.deliveries == []
    assert (await commands.row(command.id)).attempts == 0


# --- cancellation ------------------------------------------------------------------------------------


async def test_an_agent_is_told_to_end_a_command_until_it_has(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent, bus: Connect
) -> None:
    taker.performs = lambda _: False
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: _is(commands, command.id, CommandState.RECEIVED))
    taker.answers = False
    await cancel(commands, command.id)
    await commands.hint(await bus("api"))
    await until(lambda: len(taker.cancels) >= 2)
    taker.answers = True
    await until(lambda: _is(commands, command.id, CommandState.CANCELED))
    told = len(taker.cancels)
    await asyncio.sleep(2.0)
    assert len(taker.cancels) <= told + 1


async def test_what_was_not_sent_is_canceled_at_once(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    await beat(commands.db, A, "")
    command = command_for(A)
    await commands.accept(command)
    await cancel(commands, command.id)
    await until(lambda: _is(commands, command.id, CommandState.CANCELED))


async def cancel(commands: Commands, command_id: str) -> None:
    async with commands.db.write() as session:
        assert await request_cancel(await session.connection(), command_id, datetime.now(UTC), "enough")


# --- consumers ---------------------------------------------------------------------------------------


async def test_an_agents_consumer_is_made_when_it_is_first_heard_of(
    duty: CommandsDuty, commands: Commands, takers: Takers, operator: Bus
) -> None:
    """And made again when it is gone; a command that waits then comes to its agent all the same."""
    agent = await takers.meet()
    await until(lambda: _has_consumer(operator, A))
    info = await consumer_of(operator, A)
    for name, value in durables.consumer_config(A).items():
        assert info["config"][name] == value  # type: ignore[index]
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: _is(commands, command.id, CommandState.SENT))
    await operator.api(f"$JS.API.CONSUMER.DELETE.{STREAM}.{A.durable}")
    await takers.start(agent)
    await until(lambda: command.id in agent.confirmed)
    assert agent.effects == [command.id]


async def test_a_consumer_that_differs_is_changed(
    own_broker: RunningBroker, bus: Connect, commands: Commands, takers: Takers, operator: Bus
) -> None:
    """What the broker knows of deliveries is kept."""
    await takers.meet()
    config = durables.consumer_config(A) | {"max_ack_pending": 7, "metadata": {durables.SINCE: "3"}}
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
    assert info["config"]["metadata"][durables.SINCE] == "3"  # type: ignore[index]


async def test_what_a_new_consumer_may_have_missed_is_not_called_unsent(
    duty: CommandsDuty, commands: Commands, takers: Takers, taker: CommandAgent, operator: Bus
) -> None:
    """The consumer that handed it out is gone; the next one has handed out nothing. That proves nothing."""
    taker.takes = lambda _: False
    await until(lambda: _has_consumer(operator, A))
    await takers.meet(B)
    other = command_for(B)  # stays in the stream: a new consumer begins with it
    await commands.accept(other)
    await until(lambda: _is(commands, other.id, CommandState.SENT))
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: taker.deliveries)
    await taker.bus.close()
    await operator.api(f"$JS.API.CONSUMER.DELETE.{STREAM}.{A.durable}")
    await commands.hurry(command.id, finish=4.0)
    await until(lambda: _ended(commands, command.id), 40)
    assert await commands.state(command.id) is CommandState.UNKNOWN


# --- what agents may not say, and what is no longer known --------------------------------------------


async def test_reports_on_others_commands_are_dead_letters(
    duty: CommandsDuty, commands: Commands, takers: Takers, operator: Bus
) -> None:
    """B cannot end what A was asked to do, and A not on the subject of another command."""
    agent = await takers.meet()
    impostor = await takers.meet(B)
    command = command_for(A, timeout=60)
    await commands.accept(command)
    await until(lambda: _is(commands, command.id, CommandState.SENT))
    body = CommandCompleted(
        command_id=command.id, state=CommandState.SUCCEEDED, success=True, executed_at=datetime.now(UTC)
    )
    await impostor.report(registry.COMMAND_COMPLETED, body)
    envelope = registry.COMMAND_COMPLETED.envelope(body, source=subjects.agent_source(A))
    await agent.bus.publish(subjects.result(A, "another"), envelope)

    async def buried() -> bool:
        info = await operator.api(f"$JS.API.STREAM.INFO.{topology.DEAD_LETTERS.name}")
        return bool(info["state"]["messages"] == 2)

    await until(buried)
    assert await commands.state(command.id) is CommandState.SENT


async def test_results_of_unknown_commands_are_confirmed(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent
) -> None:
    """Else their agents would say them for ever."""
    command = command_for(A)
    await taker.finish(command.id)
    await until(lambda: command.id in taker.confirmed)


# --- the broker --------------------------------------------------------------------------------------


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
    await until(lambda: _are(commands, waiting, CommandState.SENT))
    await until(lambda: _are(commands, running, CommandState.RECEIVED))
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
    await until(lambda: _are(commands, waiting + running, CommandState.SUCCEEDED), 40)
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
    await until(lambda: _is(commands, command.id, CommandState.SENT))
    await own_broker.broker.stop()
    await own_broker.broker.start()
    await commands.hurry(command.id, start=2.0, finish=6.0)
    await until(lambda: _ended(commands, command.id), 40)
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
        await until(lambda: _is(commands, command.id, CommandState.RECEIVED))
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
    await until(lambda: _ended(commands, command.id))
    await cancelled(task)
    assert await commands.state(command.id) is CommandState.SUCCEEDED


async def _is(commands: Commands, command_id: str, state: CommandState) -> bool:
    return await commands.state(command_id) is state


async def _ended(commands: Commands, command_id: str) -> bool:
    return (await commands.state(command_id)).terminal


async def _are(commands: Commands, some: list[object], state: CommandState) -> bool:
    now = await commands.states()
    return all(now[command.id] == state for command in some)  # type: ignore[attr-defined]


async def _has_consumer(operator: Bus, target: Target) -> bool:
    page = await operator.api(f"$JS.API.CONSUMER.NAMES.{STREAM}")
    return target.durable in (page.get("consumers") or [])
