"""The outbox: what is due, what is counted before it is sent, and what the broker can say of it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from schemas.commands import CommandState, ErrorCode
from services.persistence.commands import cancels, outbox, states
from services.persistence.commands.attempts import Attempt, Outcome, Place
from services.persistence.commands.requests import request_cancel
from services.persistence.commands.states import ending
from services.persistence.database.engine import Database
from tests.master.commanding import Commands, command_for
from tests.persistence.sending import (
    GRACE,
    HERE,
    NOW,
    PACE,
    A,
    B,
    again,
    beat,
    make_due,
    send_new,
    stored,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def commands(db: Database) -> Commands:
    return Commands(db)


async def test_an_attempt_is_counted_before_it_is_made(db: Database, commands: Commands) -> None:
    """With the journal it is for; it is not given out again before its time, whatever became of it."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    [item] = (await send_new(db)).outgoing
    row = await commands.row(command.id)
    assert (row.state, row.attempts, row.journal) == (CommandState.ACCEPTED, 1, "j1")
    assert (item.attempt, item.body, item.journal) == (1, row.body, "j1")
    assert 30 <= item.ttl <= 60
    assert (await send_new(db)).outgoing == []
    assert await again(db) == []


async def test_the_longest_due_are_sent_first(db: Database, commands: Commands) -> None:
    """Up to the limit, which says that there are more."""
    await beat(db, A, "j1")
    made = [command_for(A, now=datetime.now(UTC) - timedelta(seconds=10 - n)) for n in range(5)]
    for command in reversed(made):
        await commands.accept(command)
    turn = await send_new(db, limit=3)
    assert [item.command_id for item in turn.outgoing] == [command.id for command in made[:3]]
    assert turn.full
    turn = await send_new(db, limit=3)
    assert [item.command_id for item in turn.outgoing] == [command.id for command in made[3:]]
    assert not turn.full


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "asked for"])
async def test_what_is_canceled_while_it_is_looked_at_is_not_sent(
    db: Database, commands: Commands, *, ended: bool
) -> None:
    """Whether it was ended meanwhile or its end was only asked for: nothing of it is sent any more."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    async with db.write(durable=True) as connection:
        now = datetime.now(UTC)
        assert await request_cancel(connection, command.id, now)
        if ended:
            [row] = (await states.lock(connection, [command.id])).values()
            await states.advance_all(connection, [outbox.canceled(row, now)], now)
        sending = asyncio.create_task(send_new(db))
        await asyncio.sleep(0.5)  # it has looked, and waits for the row
    turn = await sending
    assert turn.outgoing == []
    row = await commands.row(command.id)
    assert (row.state, row.attempts) == (CommandState.CANCELED, 0)


async def test_what_the_broker_has_is_sent(db: Database, commands: Commands) -> None:
    """Where its first attempt stands is kept for as long as all attempts are in one stream of one run."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    [item] = (await send_new(db)).outgoing
    turn = await send_new(db, stored(item, 7))
    assert turn.changed == [command.id]
    row = await commands.row(command.id)
    assert (row.state, row.stream_sequence, row.stream_created, row.broker) == (
        CommandState.SENT,
        7,
        HERE.created,
        HERE.broker,
    )
    first_sent = row.sent_at
    await make_due(db)
    turn = await outbox.send_again(db, await again(db), {}, [], PACE, GRACE)
    [item] = turn.outgoing
    assert (item.attempt, item.journal) == (2, "j1")
    assert await outbox.note(db, [stored(item, 9)]) == []
    row = await commands.row(command.id)
    assert (row.stream_sequence, row.attempts, row.sent_at) == (7, 2, first_sent)
    await make_due(db)
    [item] = (await outbox.send_again(db, await again(db), {}, [], PACE, GRACE)).outgoing
    there = Place(HERE.created, "run-2")
    await outbox.note(db, [stored(item, 11, there)])
    row = await commands.row(command.id)
    assert (row.stream_sequence, row.broker) == (0, "run-2")


async def test_an_attempt_that_nobody_noted_leaves_no_place(db: Database, commands: Commands) -> None:
    """The master died after it had counted it: the next one is the second, and proves nothing."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    await send_new(db)
    assert await outbox.hasten(db, HERE, unnoted=True) == 1
    [item] = (await outbox.send_again(db, await again(db), {}, [], PACE, GRACE)).outgoing
    assert item.attempt == 2
    assert await outbox.note(db, [stored(item, 3)]) == []
    row = await commands.row(command.id)
    assert (row.state, row.attempts, row.stream_sequence) == (CommandState.SENT, 2, 0)


@pytest.mark.parametrize(
    ("outcome", "attempts", "state"),
    [
        (Outcome.WITHHELD, 0, CommandState.ACCEPTED),
        (Outcome.DOUBTFUL, 1, CommandState.ACCEPTED),
        (Outcome.IMPOSSIBLE, 0, CommandState.FAILED),
    ],
)
async def test_what_was_not_stored_is_not_sent(
    db: Database, commands: Commands, outcome: Outcome, attempts: int, state: CommandState
) -> None:
    """What was certainly not stored is as if it had never been tried; what may have been is a question."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    [item] = (await send_new(db)).outgoing
    await send_new(db, Attempt(command.id, 1, outcome, HERE, reason="no room"))
    row = await commands.row(command.id)
    assert (row.state, row.attempts, row.sent_at) == (state, attempts, None)
    if state is CommandState.FAILED:
        assert await commands.waiting() == {}
        error = (await commands.result(command.id)).error
        assert error
        assert error.code == ErrorCode.TOO_LARGE
        assert "no room" in error.message
    else:
        soon = (await commands.waiting())[command.id] - datetime.now(UTC)
        assert soon < timedelta(seconds=2)
    assert item.attempt == 1


async def test_a_command_for_an_agent_without_a_journal_waits_and_expires(
    db: Database, commands: Commands
) -> None:
    """It keeps nobody else's from being sent; nothing of it was ever sent."""
    await beat(db, A, "")
    await beat(db, B, "j2", 1)
    silent = [command_for(A) for _ in range(5)]
    for command in silent:
        await commands.accept(command)
    assert (await send_new(db, limit=5)).outgoing == []
    await commands.accept(command_for(B))
    assert len((await send_new(db, limit=5)).outgoing) == 1
    for command in silent:
        await commands.set(command.id, start_by=NOW)
    await make_due(db)
    turn = await send_new(db)
    assert {move.command_id for move in turn.ended} == {command.id for command in silent}
    result = await commands.result(silent[0].id)
    assert result.state is CommandState.EXPIRED
    assert result.error
    assert "never sent" in result.error.message
    assert len(await commands.waiting()) == 1


async def test_without_a_stream_nothing_is_counted(db: Database, commands: Commands) -> None:
    """What is past its time ends all the same."""
    await beat(db, A, "j1")
    late, early = command_for(A, start_within=-1), command_for(A)
    for command in (late, early):
        await commands.accept(command)
    turn = await send_new(db, sendable=False)
    assert turn.outgoing == []
    assert [move.command_id for move in turn.ended] == [late.id]
    assert (await commands.row(early.id)).attempts == 0


async def test_a_cancellation_before_the_first_attempt_ends_it(db: Database, commands: Commands) -> None:
    """At once and for certain: nothing was sent. After it the agent has to be told."""
    await beat(db, A, "j1")
    unsent, sent = command_for(A), command_for(A)
    await commands.accept(sent)
    assert len((await send_new(db)).outgoing) == 1
    await commands.accept(unsent)
    async with db.write() as connection:
        for command in (sent, unsent):
            assert await request_cancel(connection, command.id, NOW, "a mistake")
    told, ended = await cancels.wanted(db, 10)
    assert [one.command_id for one in told] == [sent.id]
    assert (told[0].target, told[0].reason) == (A, "a mistake")
    assert await cancels.end_unsent(db, [*ended, sent.id]) == [unsent.id]
    assert (await commands.states()) == {sent.id: "accepted", unsent.id: "canceled"}
    error = (await commands.result(unsent.id)).error
    assert error
    assert "a mistake" in error.message
    assert await cancels.wanted(db, 10) == (told, [])


async def test_what_was_canceled_is_not_sent_any_longer(db: Database, commands: Commands) -> None:
    """Also when the relay finds it first."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    async with db.write() as connection:
        await request_cancel(connection, command.id, NOW)
    turn = await send_new(db)
    assert turn.outgoing == []
    assert await commands.state(command.id) is CommandState.CANCELED


async def test_what_has_ended_meanwhile_is_neither_sent_nor_ended(db: Database, commands: Commands) -> None:
    """Its result came between the look and the transaction."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    [item] = (await send_new(db)).outgoing
    await send_new(db, stored(item, 1))
    await make_due(db)
    rows = await again(db)
    async with db.write() as connection:
        assert await states.advance(connection, command.id, CommandState.SUCCEEDED, NOW, result=b"{}")
    end = ending(command.id, CommandState.UNKNOWN, NOW, ErrorCode.TIMEOUT, "")
    turn = await outbox.send_again(db, rows, {}, [end], PACE, GRACE)
    assert (turn.outgoing, turn.ended) == ([], [])
    row = await commands.row(command.id)
    assert (row.state, row.attempts) == (CommandState.SUCCEEDED, 1)


async def test_another_stream_makes_everything_due(db: Database, commands: Commands) -> None:
    """What is in the stream that there is now waits; what has ended is not touched."""
    await beat(db, A, "j1")
    made = [command_for(A) for _ in range(3)]
    for command in made:
        await commands.accept(command)
    items = (await send_new(db)).outgoing
    other = Place(HERE.created + timedelta(hours=1), "run-2")
    await send_new(db, stored(items[0], 1), stored(items[1], 2), stored(items[2], 1, other))
    async with db.write() as connection:
        await states.advance(connection, made[1].id, CommandState.SUCCEEDED, NOW)
    assert await outbox.hasten(db, Place(HERE.created, "run-3"), unnoted=True) == 1
    assert [row.id for row in await again(db)] == [made[2].id]
    assert await outbox.hasten(db, other, unnoted=False) == 1
    assert {row.id for row in await again(db)} == {made[0].id, made[2].id}


async def test_another_journal_makes_due_what_the_old_one_may_hold(db: Database, commands: Commands) -> None:
    """What was not sent goes to the new one."""
    await beat(db, A, "j1")
    await beat(db, B, "j2", 1)
    to_a, to_b = command_for(A), command_for(B)
    for command in (to_a, to_b):
        await commands.accept(command)
    await send_new(db, *(stored(item, n) for n, item in enumerate((await send_new(db)).outgoing, 1)))
    assert await outbox.hasten_lost_journals(db) == 0
    await beat(db, A, "j3", 20)
    assert await outbox.hasten_lost_journals(db) == 1
    _, [row], journals = await outbox.due_again(db, 10)
    assert (row.id, row.journal, journals) == (to_a.id, "j1", {A: "j3"})
    later = command_for(A)
    await commands.accept(later)
    [item] = (await send_new(db)).outgoing
    assert (item.command_id, item.journal) == (later.id, "j3")
