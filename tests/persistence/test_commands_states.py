"""States of commands: when they are looked at, how they move on, and when they are forgotten."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from schemas.commands import CommandState
from services.persistence import retention, tables
from services.persistence.commands import states
from services.persistence.commands.figures import figures
from services.persistence.commands.states import Move
from services.persistence.database.engine import Database
from tests.master.commanding import Commands, command_for
from tests.persistence.sending import GRACE, NOW, PACE, A, beat, send_new, stored

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def commands(db: Database) -> Commands:
    return Commands(db)


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
            async with db.write() as connection:
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
    async with db.write() as connection:
        await states.advance_all(connection, moves, NOW)
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
        async with db.write() as connection:
            part = {"command_id": command.id, "index": 0, "data": "x"}
            await connection.execute(sa.insert(tables.table_of(tables.CommandPart)).values(part))
            if command is not still_open:
                await states.advance(connection, command.id, CommandState.SUCCEEDED, old)
    keep = retention.Keep(rows=timedelta(days=30), tombstones=timedelta(hours=1))
    assert await retention.forget(db, keep, datetime.now(UTC)) == 1
    assert (await commands.states()).keys() == {fresh.id, still_open.id}
    async with db.read() as connection:
        parts = await connection.scalars(sa.select(tables.table_of(tables.CommandPart).c.command_id))
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
