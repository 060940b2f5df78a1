"""The outbox: what is due, what is counted before it is sent, and what the broker can say of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from schemas import ids
from schemas.commands import Command, CommandState, ErrorCode
from schemas.ids import Target
from schemas.presence import Health, Heartbeat
from services.persistence import retention, tables
from services.persistence.commands import cancels, outbox, states
from services.persistence.commands.attempts import Attempt, Outcome, Outgoing, Place
from services.persistence.commands.figures import figures
from services.persistence.commands.pace import Pace
from services.persistence.commands.requests import request_cancel
from services.persistence.commands.states import Move, ending
from services.persistence.database.engine import Database
from services.persistence.presence.liveness import Beat
from services.persistence.presence.store import Sign, store_signs
from services.runtime.bus.cursor import Cursor
from tests.master.commanding import Commands, command_for

pytestmark = pytest.mark.timeout(180)

A, B = ids.kubernetes("a"), ids.kubernetes("b")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PACE, GRACE = Pace(10.0, 60.0), timedelta(seconds=10)
HERE = Place(datetime(2026, 11, 1, tzinfo=UTC), "run-1")
_OUTBOX = tables.table_of(tables.Outbox)


@pytest.fixture
def commands(db: Database) -> Commands:
    return Commands(db)


async def beat(db: Database, target: Target, journal: str, second: int = 0) -> None:
    """A heartbeat of an agent that names this journal."""
    body = Heartbeat(version="1", interval=15, health=Health(healthy=True, start_time=NOW), journal=journal)
    sign = Sign(target, body, NOW + timedelta(seconds=second))
    await store_signs(db, [sign], [], Cursor("h", "HEARTBEATS", NOW, second + 1))


async def send_new(db: Database, *made: Attempt, limit: int = 100, sendable: bool = True) -> outbox.Turn:
    return await outbox.send_new(db, made, PACE, GRACE, limit, sendable=sendable)


async def again(db: Database, *, count: int = 100) -> list[Any]:
    """What is due of that which was sent."""
    _, rows, _ = await outbox.due_again(db, count)
    return rows


async def make_due(db: Database) -> None:
    async with db.write() as session:
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        await (await session.connection()).execute(sa.update(_OUTBOX).values(due_at=long_ago))


async def set_due(db: Database, command: Command, at: datetime | None = None) -> None:
    """At that time, or not while the test lasts."""
    at = at or datetime.now(UTC) + timedelta(hours=1)
    which = _OUTBOX.c.command_id == command.id
    async with db.write() as session:
        await (await session.connection()).execute(sa.update(_OUTBOX).where(which).values(due_at=at))


def stored(item: Outgoing, sequence: int, place: Place = HERE) -> Attempt:
    return Attempt(item.command_id, item.attempt, Outcome.STORED, place, sequence)


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
    async with db.write(durable=True) as session:
        connection = await session.connection()
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


async def test_what_cannot_be_reached_yet_is_held(db: Database, commands: Commands) -> None:
    """An agent without a consumer; when it has one, its commands go in their order."""
    await beat(db, A, "j1")
    await commands.accept(first := command_for(A))
    turn = await outbox.send_new(db, [], PACE, GRACE, 100, sendable=True, reachable=lambda _: False)
    assert turn.held
    assert turn.outgoing == []
    await set_due(db, first)  # it is held for a moment only
    await commands.accept(second := command_for(A))
    assert (await send_new(db)).soon
    await set_due(db, second)
    assert await outbox.hasten_returned(db, judging=True) == 2
    assert [item.command_id for item in (await send_new(db)).outgoing] == [first.id, second.id]


async def test_what_is_due_goes_after_what_was_accepted_before_it(db: Database, commands: Commands) -> None:
    """Held for a moment, the older one is due later; and it does not wait for what waits behind it."""
    await beat(db, A, "j1")
    first, second, third = (command_for(A) for _ in range(3))
    for command in (first, second, third):
        await commands.accept(command)
    await set_due(db, first)
    turn = await send_new(db, limit=1)
    assert (turn.soon, turn.full, turn.outgoing) == (True, True, [])
    assert (await send_new(db)).outgoing == []
    for command in (second, third):
        await set_due(db, command)  # they are held for a moment only
    await set_due(db, first, NOW)
    assert [item.command_id for item in (await send_new(db)).outgoing] == [first.id]
    await set_due(db, third, NOW)
    assert (await send_new(db)).outgoing == []
    await set_due(db, second, NOW + timedelta(seconds=1))
    await set_due(db, third, NOW)
    assert [item.command_id for item in (await send_new(db)).outgoing] == [second.id, third.id]


async def test_what_the_broker_did_not_take_keeps_its_place(db: Database, commands: Commands) -> None:
    """In the order of acceptance, whatever pauses they have, and from the moment that it is known on."""
    await beat(db, A, "j1")
    first, second = command_for(A), command_for(A)
    for command in (first, second):
        await commands.accept(command)
    assert len((await send_new(db)).outgoing) == 2
    third = command_for(A)
    await commands.accept(third)
    withheld = [Attempt(one.id, 1, Outcome.WITHHELD, HERE, reason="no room") for one in (first, second)]
    turn = await outbox.send_new(db, withheld, PACE, GRACE, 100, sendable=True, holding=False)
    assert (turn.held, turn.outgoing) == (True, [])
    await set_due(db, first, datetime.now(UTC) + timedelta(seconds=20))
    await set_due(db, second, NOW)
    assert await outbox.any_held(db)
    assert (await send_new(db)).outgoing == []
    await make_due(db)
    sent = [item.command_id for item in (await send_new(db)).outgoing]
    assert sent == [first.id, second.id, third.id]


async def test_what_was_tried_is_looked_at_soon_when_its_agent_is_away(
    db: Database, commands: Commands
) -> None:
    """Nobody hastens it when its agent is back, and what was accepted later waits for it."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    await send_new(db)
    await send_new(db, Attempt(command.id, 1, Outcome.WITHHELD, HERE, reason="no room"))
    beats = [Beat(NOW, 1000.0), Beat(NOW + timedelta(seconds=90), 1000.0)]
    await store_signs(db, [], beats, Cursor("h", "HEARTBEATS", NOW, 3))
    await make_due(db)
    assert (await send_new(db)).held
    assert (await commands.waiting())[command.id] - datetime.now(UTC) < timedelta(seconds=5)


async def test_a_full_batch_leaves_nothing_older_behind(db: Database, commands: Commands) -> None:
    """Both are due, the newer one for longer: the older one goes first all the same."""
    await beat(db, A, "j1")
    first, second = command_for(A), command_for(A)
    for command in (first, second):
        await commands.accept(command)
    await set_due(db, first, NOW + timedelta(seconds=1))
    await set_due(db, second, NOW)
    turn = await outbox.send_new(db, [], PACE, GRACE, 1, sendable=True, holding=False)
    assert (turn.full, turn.outgoing) == (True, [])
    turn = await outbox.send_new(db, [], PACE, GRACE, 1, sendable=True, holding=turn.held)
    assert [item.command_id for item in turn.outgoing] == [first.id]


async def test_what_is_for_an_agent_that_is_away_is_held(db: Database, commands: Commands) -> None:
    """By the broker's clock, unless it stands; sent in the order of acceptance when its agent is back."""
    await beat(db, A, "j1")
    await beat(db, B, "j2", 1)
    held = [command_for(A), command_for(A)]
    for command in held:
        await commands.accept(command)
    beats = [Beat(NOW, 1000.0), Beat(NOW + timedelta(seconds=90), 1000.0)]
    await store_signs(db, [], beats, Cursor("h", "HEARTBEATS", NOW, 3))
    assert not await outbox.any_held(db)
    turn = await send_new(db)
    assert turn.held
    assert turn.outgoing == []
    assert await outbox.any_held(db)
    assert (await commands.row(held[0].id)).attempts == 0
    assert await outbox.hasten_returned(db, judging=True) == 0
    await beat(db, B, "j2", 90)
    assert await outbox.hasten_returned(db, judging=True) == 0
    assert await outbox.hasten_returned(db, judging=False) == 2
    await commands.accept(last := command_for(A))
    assert (await send_new(db)).outgoing == []
    await beat(db, A, "j1", 91)
    await commands.accept(newest := command_for(A))
    turn = await send_new(db)  # before anybody has looked who is back
    assert turn.soon
    assert turn.outgoing == []
    await set_due(db, newest)
    assert await outbox.hasten_returned(db, judging=True) == 4
    turn = await send_new(db)
    assert not turn.held
    assert [item.command_id for item in turn.outgoing] == [held[0].id, held[1].id, last.id, newest.id]
    await send_new(db, Attempt(last.id, 1, Outcome.WITHHELD, HERE, reason="no room"))
    assert (await commands.row(last.id)).attempts == 0
    assert await outbox.hasten_returned(db, judging=True) == 0


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
    async with db.write() as session:
        for command in (sent, unsent):
            assert await request_cancel(await session.connection(), command.id, NOW, "a mistake")
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
    async with db.write() as session:
        await request_cancel(await session.connection(), command.id, NOW)
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
    async with db.write() as session:
        assert await states.advance(
            await session.connection(), command.id, CommandState.SUCCEEDED, NOW, result=b"{}"
        )
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
    async with db.write() as session:
        await states.advance(await session.connection(), made[1].id, CommandState.SUCCEEDED, NOW)
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


def test_pace_grows_and_keeps_the_deadlines() -> None:
    """Ten seconds at first, then as old as it is, a minute at most; never beyond the next deadline."""
    command = command_for(A, start_within=300, timeout=300, now=NOW)

    class Row:
        created_at, start_by, finish_by = command.created_at, command.start_by, command.finish_by
        state = CommandState.SENT

    def seconds(age: float) -> float:
        now = NOW + timedelta(seconds=age)
        return (PACE.next(now, Row, GRACE) - now).total_seconds()

    assert 8 <= seconds(0) <= 12
    assert 24 <= seconds(30) <= 36
    assert 48 <= seconds(200) <= 72
    assert seconds(298) == 4  # start_by and the margin
    assert seconds(599) == 11  # finish_by and the grace
    Row.state = CommandState.RUNNING
    assert seconds(298) > 40


async def test_states_only_move_on(db: Database, commands: Commands) -> None:
    """From each state to each: forwards, and from a terminal one nowhere. An end leaves the outbox."""
    for before in CommandState:
        for after in CommandState:
            command = command_for(A)
            await commands.accept(command)
            await commands.set(command.id, state=before.value)
            async with db.write() as session:
                connection = await session.connection()
                assert await states.advance(connection, command.id, after, NOW) is before.may_become(after)
            row = await commands.row(command.id)
            assert row.state == (after if before.may_become(after) else before)
            assert (row.finished_at is not None) is (after.terminal and before.may_become(after))
            assert (command.id not in await commands.waiting()) is (after.terminal and not before.terminal)


async def test_many_move_at_once(db: Database, commands: Commands) -> None:
    """Each with its own columns; what cannot move stays."""
    made = [command_for(A) for _ in range(4)]
    for command in made:
        await commands.accept(command)
    await commands.set(made[3].id, state=CommandState.REJECTED.value)
    moves = [
        Move(made[0].id, CommandState.SENT),
        Move(made[1].id, CommandState.RUNNING, {"started_at": NOW}),
        Move(made[2].id, CommandState.FAILED, {"result": b"{}", "executed_at": NOW}),
        Move(made[3].id, CommandState.SUCCEEDED, {"result": b"{}", "executed_at": NOW}),
    ]
    async with db.write() as session:
        await states.advance_all(await session.connection(), moves, NOW)
    rows = [await commands.row(command.id) for command in made]
    assert [row.state for row in rows] == ["sent", "running", "failed", "rejected"]
    assert [row.started_at for row in rows] == [None, NOW, None, None]
    assert [row.result for row in rows] == [None, None, b"{}", None]


async def test_ended_commands_are_forgotten_with_their_parts(db: Database, commands: Commands) -> None:
    """After their time and the retention; open ones never."""
    old = datetime.now(UTC) - timedelta(days=40)
    ended, fresh, still_open = command_for(A, now=old), command_for(A), command_for(A, now=old)
    for command in (ended, fresh, still_open):
        await commands.accept(command)
        async with db.write() as session:
            connection = await session.connection()
            part = {"command_id": command.id, "index": 0, "data": "x"}
            await connection.execute(sa.insert(tables.table_of(tables.CommandPart)).values(part))
            if command is not still_open:
                await states.advance(connection, command.id, CommandState.SUCCEEDED, old)
    keep = retention.Keep(rows=timedelta(days=30), tombstones=timedelta(hours=1))
    assert await retention.forget(db, keep, datetime.now(UTC)) == 1
    assert (await commands.states()).keys() == {fresh.id, still_open.id}
    async with db.read() as session:
        parts = await (await session.connection()).scalars(
            sa.select(tables.table_of(tables.CommandPart).c.command_id)
        )
        assert set(parts) == {fresh.id, still_open.id}


async def test_figures_count_what_is_under_way(db: Database, commands: Commands) -> None:
    await beat(db, A, "j1")
    made = [command_for(A) for _ in range(3)]
    for command in made:
        await commands.accept(command)
    [item] = (await send_new(db, limit=1)).outgoing
    await send_new(db, stored(item, 1), limit=0)
    now = await figures(db)
    assert now.by_state == {"accepted": 2, "sent": 1}
    assert now.due == 2
    assert 0 < now.oldest < 10
