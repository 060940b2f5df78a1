"""What agents say of their commands becomes rows: forwards only, whatever comes twice or out of order."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from schemas import ids
from schemas.commands import (
    Command,
    CommandCompleted,
    CommandProgressed,
    CommandReceived,
    CommandStarted,
    CommandState,
    ErrorCode,
    ResultPart,
)
from schemas.errors import ContractError
from schemas.ids import Target
from services.persistence import tables
from services.persistence.commands import outbox, results, states
from services.persistence.commands.attempts import Attempt, Outcome, Place
from services.persistence.commands.pace import Pace
from services.persistence.commands.results import Applied, Body, Report
from services.persistence.commands.states import ending
from services.persistence.cursors import CursorStore
from services.persistence.database.engine import Database
from services.runtime.bus.cursor import Cursor
from tests.master.commanding import Commands, command_for
from tests.persistence.sending import again, beat

pytestmark = pytest.mark.timeout(180)

A, B = ids.kubernetes("a"), ids.kubernetes("b")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PACE, GRACE = Pace(10.0, 60.0), timedelta(seconds=10)
_PART = tables.table_of(tables.CommandPart)


@pytest.fixture
def commands(db: Database) -> Commands:
    return Commands(db)


def at(second: int) -> datetime:
    return NOW + timedelta(seconds=second)


def received(command: Command, second: int = 1) -> CommandReceived:
    return CommandReceived(command_id=command.id, journal="j1", at=at(second))


def started(command: Command, second: int = 2) -> CommandStarted:
    return CommandStarted(command_id=command.id, at=at(second))


def progressed(command: Command, sequence: int) -> CommandProgressed:
    return CommandProgressed(command_id=command.id, sequence=sequence, at=at(3), message=f"step {sequence}")


def completed(
    command: Command, state: CommandState = CommandState.SUCCEEDED, parts: int = 0, data: Any = None
) -> CommandCompleted:
    success = state is CommandState.SUCCEEDED
    return CommandCompleted(
        command_id=command.id, state=state, success=success, parts=parts, data=data, executed_at=at(4)
    )


def part(command: Command, index: int, count: int, data: str) -> ResultPart:
    return ResultPart(command_id=command.id, index=index, count=count, data=data)


async def say(db: Database, *bodies: Body, target: Target = A, sequence: int = 1) -> Applied:
    reports = [Report(target, body, body.model_dump_json().encode()) for body in bodies]
    return await results.store(db, reports, Cursor("results", "RESULTS", NOW, sequence), PACE, GRACE)


async def sent(db: Database, commands: Commands, target: Target = A) -> Command:
    """A command that its agent has."""
    await beat(db, target, "j1")
    command = command_for(target)
    await commands.accept(command)
    [item] = (await outbox.send_new(db, [], PACE, GRACE, 10, sendable=True)).outgoing
    made = Attempt(item.command_id, 1, Outcome.STORED, Place(NOW, "run-1"), 1)
    await outbox.send_new(db, [made], PACE, GRACE, 10, sendable=True)
    return command


async def test_reports_take_a_command_to_its_end(db: Database, commands: Commands) -> None:
    """One by one, each with its time by the agent's clock; the end is to be confirmed, the others are not."""
    command = await sent(db, commands)
    for body, state in (
        (received(command), "received"),
        (started(command), "running"),
        (progressed(command, 1), "running"),
    ):
        applied = await say(db, body)
        assert (applied.changed, applied.confirmed) == ([command.id], {})
        assert await commands.state(command.id) == state
    applied = await say(db, completed(command, data={"replicas": 2}))
    assert applied.confirmed == {A: [command.id]}
    assert applied.ended == {command.id: CommandState.SUCCEEDED}
    row = await commands.row(command.id)
    assert (row.received_at, row.started_at, row.executed_at) == (at(1), at(2), at(4))
    assert row.finished_at is not None
    assert (await commands.result(command.id)).data == {"replicas": 2}
    assert await commands.waiting() == {}


async def test_the_order_of_reports_does_not_matter(db: Database, commands: Commands) -> None:
    """In one batch or in several, in any order, twice: the end is the same, and nothing moves back."""
    for number, order in enumerate(itertools.permutations(range(4))):
        command = await sent(db, commands)
        bodies = [received(command), started(command), progressed(command, 1), completed(command)]
        shuffled = [bodies[index] for index in order] * 2
        if number % 2:
            await say(db, *shuffled)
        else:
            for body in shuffled:
                await say(db, body)
        row = await commands.row(command.id)
        assert row.state == CommandState.SUCCEEDED
        assert row.evidence is None


async def test_an_end_that_is_said_again_is_confirmed_again(db: Database, commands: Commands) -> None:
    """The confirmation may have been lost. Nothing changes."""
    command = await sent(db, commands)
    await say(db, completed(command))
    before = await commands.row(command.id)
    applied = await say(db, received(command), completed(command), sequence=2)
    assert (applied.changed, applied.confirmed) == ([], {A: [command.id]})
    assert await commands.row(command.id) == before


async def test_only_its_own_agent_may_report(db: Database, commands: Commands) -> None:
    """Another one's report is an error of the contract, and its whole batch changes nothing."""
    command, other = await sent(db, commands), await sent(db, commands)
    with pytest.raises(ContractError, match=f"kubernetes/b reports on command {command.id}"):
        await results.store(
            db,
            [
                Report(A, completed(other), b"{}"),
                Report(B, completed(command), b"{}"),
            ],
            Cursor("results", "RESULTS", NOW, 5),
            PACE,
            GRACE,
        )
    assert set((await commands.states()).values()) == {"sent"}
    assert await CursorStore(db).load("results", "RESULTS") is None


async def test_the_end_of_an_unknown_command_is_confirmed(db: Database) -> None:
    """A database that was restored does not know it; its agent would repeat it for ever."""
    command = command_for(A)
    applied = await say(db, received(command), completed(command))
    assert applied.confirmed == {A: [command.id]}
    assert applied.strange == [(A, command.id)]
    assert applied.changed == []


@pytest.mark.parametrize("state", [CommandState.UNKNOWN, CommandState.EXPIRED, CommandState.CANCELED])
async def test_a_late_result_is_evidence(db: Database, commands: Commands, state: CommandState) -> None:
    """The end that was stored stays; what the agent says is kept beside it, once, and confirmed."""
    command = await sent(db, commands)
    async with db.write() as connection:
        end = ending(command.id, state, NOW, ErrorCode.TIMEOUT, "nobody knows")
        await states.advance_all(connection, [end], NOW)
    applied = await say(db, received(command), completed(command))
    assert (applied.contradicted, applied.confirmed) == ([command.id], {A: [command.id]})
    row = await commands.row(command.id)
    assert row.state == state
    assert (await commands.result(command.id)).error is not None
    assert CommandCompleted.model_validate_json(row.evidence) == completed(command)
    again = await say(db, completed(command), sequence=2)
    assert (again.contradicted, again.confirmed) == ([], {A: [command.id]})


async def test_only_the_newest_progress_counts(db: Database, commands: Commands) -> None:
    command = await sent(db, commands)
    assert (await say(db, progressed(command, 2))).changed == [command.id]
    assert (await say(db, progressed(command, 1))).changed == []
    row = await commands.row(command.id)
    assert row.progress_sequence == 2
    assert msgspec.json.decode(row.progress)["message"] == "step 2"


async def test_a_report_puts_the_next_question_off(db: Database, commands: Commands) -> None:
    """Who has just said something is not asked at once."""
    command = await sent(db, commands)
    await outbox.hasten(db, Place(at(1), "run-2"), unnoted=True)
    before = (await commands.waiting())[command.id]
    await say(db, received(command))
    assert (await commands.waiting())[command.id] - before > timedelta(seconds=5)


async def test_an_end_waits_for_its_parts(db: Database, commands: Commands) -> None:
    """Without them it is neither applied nor confirmed; its agent says all of it again."""
    command = await sent(db, commands)
    text = msgspec.json.encode({"rows": list(range(50))}).decode()
    first, second = text[:40], text[40:]
    applied = await say(db, part(command, 1, 2, second), completed(command, parts=2))
    assert (applied.confirmed, await commands.state(command.id)) == ({}, CommandState.SENT)
    applied = await say(
        db, part(command, 0, 2, first), part(command, 1, 2, second), completed(command, parts=2)
    )
    assert applied.confirmed == {A: [command.id]}
    assert await commands.state(command.id) is CommandState.SUCCEEDED
    assert await commands.data(command.id) == {"rows": list(range(50))}


async def test_parts_have_a_bound(db: Database, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a result may have is refused, also over several messages; so is a part that cannot be."""
    monkeypatch.setattr(results, "MAX_RESULT", 100)
    command = await sent(db, commands)
    await say(db, part(command, 0, 9, "x" * 60))
    await say(db, part(command, 0, 9, "y" * 60))  # the same one again
    with pytest.raises(ContractError, match="over 100 characters"):
        await say(db, part(command, 1, 9, "x" * 60))
    with pytest.raises(ContractError, match="part 2 of 2"):
        await say(db, part(command, 2, 2, ""))


async def test_parts_of_what_has_succeeded_are_not_replaced(db: Database, commands: Commands) -> None:
    command = await sent(db, commands)
    await say(db, part(command, 0, 1, "[1]"), completed(command, parts=1))
    await say(db, part(command, 0, 1, "[2]"))
    assert await commands.data(command.id) == [1]


async def test_sending_and_reporting_do_not_lock_each_other(db: Database, commands: Commands) -> None:
    """Both write the same rows all the time, in batches of any order: every command comes to its end."""
    chance = random.Random(1)
    await beat(db, A, "j1")
    made = [command_for(A) for _ in range(60)]
    for command in made:
        await commands.accept(command)

    counted: list[Command] = []

    async def send() -> None:
        attempts: Sequence[Attempt] = ()
        while True:
            turn = await outbox.send_new(db, attempts, PACE, GRACE, 5, sendable=True)
            if not turn.outgoing:
                return
            attempts = [
                Attempt(item.command_id, 1, Outcome.STORED, Place(NOW, "run-1"), n)
                for n, item in enumerate(turn.outgoing)
            ]
            chance.shuffle(attempts)
            counted.extend(command for command in made if command.id in {a.command_id for a in attempts})

    async def report(kind: Any) -> None:
        while len(counted) < len(made):
            some = chance.sample(counted, min(20, len(counted)))
            await say(db, *(kind(command) for command in some))
            await asyncio.sleep(0)

    async def look() -> None:
        while len(counted) < len(made):
            await outbox.hasten(db, Place(NOW, "run-1"), unnoted=True)
            rows = await again(db, count=20)
            await outbox.send_again(db, chance.sample(rows, len(rows)), {}, [], PACE, GRACE)

    await asyncio.gather(send(), look(), *(report(kind) for kind in (received, started, received)))
    await say(db, *(completed(command) for command in made))
    assert set((await commands.states()).values()) == {"succeeded"}
    rows = [await commands.row(command.id) for command in made]
    assert all(row.sent_at and row.stream_created == NOW for row in rows)


async def test_no_part_is_left_behind_by_the_unknown(db: Database) -> None:
    """A part of a command that the database does not know is not stored."""
    await say(db, part(command_for(A), 0, 1, "[1]"))
    async with db.read() as connection:
        assert not (await connection.execute(sa.select(_PART))).all()
