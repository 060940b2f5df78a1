"""Commands for agents that are away, silent or forgetful."""

import asyncio
from datetime import UTC, datetime

import pytest

from schemas.commands import CommandCompleted, CommandState, ErrorCode
from services.master.commands import questions
from services.master.commands.duty import CommandsDuty
from tests.bus.fixtures import AGENTS
from tests.master.commanding import CommandAgent, Commands, command_for
from tests.master.duty import Takers, in_state
from tests.persistence.sending import beat
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

A = AGENTS[0]


async def test_a_command_waits_for_its_agent(duty: CommandsDuty, commands: Commands, takers: Takers) -> None:
    """It is given to the broker once: nobody has to be asked what became of it while it waits there."""
    agent = await takers.meet()
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: in_state(commands, command.id, CommandState.SENT))
    await asyncio.sleep(2.5)
    assert (await commands.row(command.id)).attempts == 1
    await takers.start(agent)
    await until(lambda: command.id in agent.confirmed)
    assert agent.effects == [command.id]


async def test_what_was_never_handed_out_expires(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """For certain: the broker has it no longer, so an agent that comes back later gets nothing of it."""
    agent = await takers.meet()
    command = command_for(A, start_within=8)  # by the broker's count too, so that it gives it to nobody later
    await commands.accept(command)
    await until(lambda: in_state(commands, command.id, CommandState.SENT))
    await until(lambda: in_state(commands, command.id, CommandState.EXPIRED), 40)
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
    await until(lambda: in_state(commands, command.id, CommandState.UNKNOWN), 40)
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

    def seconds() -> int:
        """For which the broker hands out what came last."""
        return int(taker.deliveries[-1][1].headers["Nats-TTL"])

    taker.takes = lambda _: seconds() > 8  # more than the command had from the first on: asked after it
    command = command_for(A, start_within=8.0, timeout=40.0)
    await commands.accept(command)
    await until(lambda: taker.deliveries)
    await until(lambda: in_state(commands, command.id, CommandState.EXPIRED), 40)
    assert taker.effects == []
    assert 10 < seconds() <= 40


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
    await until(lambda: in_state(commands, first.id, CommandState.RECEIVED))
    taker.lose_journal()
    await beat(commands.db, A, taker.journal_id, 20)
    await until(lambda: in_state(commands, first.id, CommandState.UNKNOWN))
    await commands.accept(second)
    await until(lambda: in_state(commands, second.id, CommandState.RECEIVED))
    taker.lose_journal()
    taker.answers = False
    await beat(commands.db, A, taker.journal_id, 40)
    await until(lambda: in_state(commands, second.id, CommandState.UNKNOWN), 40)
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
    await until(lambda: in_state(commands, command.id, CommandState.EXPIRED))
    assert agent.deliveries == []
    assert (await commands.row(command.id)).attempts == 0
