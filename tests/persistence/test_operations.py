"""Operations: one command for each target, never more at one time than wanted, on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import sqlalchemy as sa

from schemas.commands import CommandCompleted, CommandError, CommandObject, CommandState, TargetReference
from schemas.ids import AgentKind, uuid7
from schemas.operations import Operation, OperationState, Strategy
from services.persistence import retention, tables
from services.persistence.commands import operations
from services.persistence.commands.states import advance
from services.persistence.database.engine import Database
from services.persistence.queries import MAX_LISTED
from services.persistence.queries.operations import get_operation, list_operations, list_turns

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
CLUSTERS = ("a", "b", "c", "d", "e")
COMMAND = tables.table_of(tables.Command)
OUTBOX = tables.table_of(tables.Outbox)


async def accepted(db: Database, key: str = "", **strategy: int) -> str:
    """A restart on five clusters."""
    operation = Operation(
        id=uuid7(),
        action="restart",
        object=CommandObject(resource="deployments", namespace="shop", name="web"),
        targets=[TargetReference(kind=AgentKind.KUBERNETES, id=id_) for id_ in CLUSTERS],
        strategy=Strategy(**strategy),
        created_at=NOW,
        actor="token/test",
    )
    async with db.write() as connection:
        assert await operations.insert_operation(connection, operation, idempotency_key=key)
    return operation.id


async def end(db: Database, command_id: str, state: CommandState = CommandState.SUCCEEDED) -> None:
    good = state == CommandState.SUCCEEDED
    error = None if good else CommandError(code="conflict", message="409 it has changed")
    result = CommandCompleted(command_id=command_id, state=state, success=good, error=error, executed_at=NOW)
    async with db.write() as connection:
        body = result.model_dump_json().encode()
        assert await advance(connection, command_id, state, NOW, result=body)


async def states(db: Database, id_: str) -> list[str]:
    async with db.read() as connection:
        return [turn.state for turn in await list_turns(connection, id_)]


async def state_of(db: Database, id_: str) -> tuple[str, str]:
    async with db.read() as connection:
        stored = await get_operation(connection, id_)
    assert stored is not None
    return stored.state, stored.reason


async def test_one_after_the_other(db: Database) -> None:
    """With max_unavailable 1 a command is accepted when the one before has ended, in the given order."""
    id_ = await accepted(db)
    for number in range(len(CLUSTERS)):
        [command] = await operations.step(db, id_)
        assert await operations.step(db, id_) == []
        assert await states(db, id_) == ["succeeded"] * number + ["accepted"] + [""] * (4 - number)
        await end(db, command)
    assert await operations.step(db, id_) == []
    assert await state_of(db, id_) == ("succeeded", "5 of 5 succeeded")
    async with db.read() as connection:
        found = await connection.execute(
            sa.select(COMMAND.c.target_id, COMMAND.c.operation_id).order_by(COMMAND.c.id)
        )
        assert [tuple(row) for row in found] == [(cluster, id_) for cluster in CLUSTERS]
        page = await list_operations(connection, limit=10)
        assert page.items[0].counts == {"succeeded": 5}


@pytest.mark.parametrize("length", [3, 2000, 4084, 4085])
async def test_a_large_operation_is_listed_without_its_params(db: Database, length: int) -> None:
    """Where they are larger than a list has them, however many targets there are; by its id it is whole."""
    params = {"t": '"\u20ac\\' + "x" * (length - 3)}
    assert len(msgspec.json.encode(params)) == length + 12
    made = Operation(
        id=uuid7(),
        action="restart",
        params=params | {"f": True} if length == 3 else params,
        dry_run=True,
        targets=[TargetReference(kind=AgentKind.KUBERNETES, id=f"c-{n}") for n in range(200)],
        created_at=NOW,
        actor="token/\u20ac",
    )
    async with db.write() as connection:
        assert await operations.insert_operation(connection, made)
    await accepted(db)
    async with db.read() as connection:
        small, large = (await list_operations(connection, limit=10)).items
        whole = await get_operation(connection, made.id)
    assert whole is not None
    assert (whole.operation, whole.has_params) == (made, True)
    kept = made.model_copy(update={"targets": made.targets[:1]})
    fits = length + 12 <= MAX_LISTED
    assert (large.operation, large.has_params) == (
        kept if fits else kept.model_copy(update={"params": {}}),
        fits,
    )
    assert small.has_params
    assert len(small.operation.targets) == len(CLUSTERS)


async def test_as_many_at_a_time_as_wanted(db: Database) -> None:
    """The next one begins as soon as any of those under way has ended."""
    id_ = await accepted(db, max_unavailable=2)
    first, second = await operations.step(db, id_)
    await end(db, second)
    [third] = await operations.step(db, id_)
    assert await states(db, id_) == ["accepted", "succeeded", "accepted", "", ""]
    await end(db, first)
    await end(db, third)
    assert len(await operations.step(db, id_)) == 2


@pytest.mark.parametrize(
    "state",
    [
        CommandState.FAILED,
        CommandState.REJECTED,
        CommandState.EXPIRED,
        CommandState.CANCELED,
        CommandState.UNKNOWN,
    ],
)
async def test_failures_pause_it(db: Database, state: CommandState) -> None:
    """Whatever is not a success counts; nothing new begins, and the reason has the last one's words."""
    id_ = await accepted(db, max_failures=1)
    for _ in range(2):
        [command] = await operations.step(db, id_)
        await end(db, command, state)
    assert await operations.step(db, id_) == []
    paused, reason = await state_of(db, id_)
    assert paused == OperationState.PAUSED
    assert reason == (
        f"2 of 5 did not succeed, last b ({state}): 409 it has changed; resume it to go on with the other 3"
    )
    assert await operations.running(db) == []
    # resumed: what failed so far is forgiven, the next failure but one pauses it again
    assert await operations.resume(db, id_) == OperationState.PAUSED
    for _ in range(2):
        [command] = await operations.step(db, id_)
        await end(db, command, state)
    assert await operations.step(db, id_) == []
    assert (await state_of(db, id_))[0] == OperationState.PAUSED
    assert await operations.resume(db, id_) == OperationState.PAUSED
    [command] = await operations.step(db, id_)
    await end(db, command)
    await operations.step(db, id_)
    assert (await state_of(db, id_))[0] == OperationState.FAILED


async def test_the_end_counts_before_failures(db: Database) -> None:
    """When nothing is left that could be held back, it has failed and is not paused."""
    id_ = await accepted(db, max_unavailable=5)
    for command in await operations.step(db, id_):
        await end(db, command, CommandState.FAILED)
    await operations.step(db, id_)
    assert (await state_of(db, id_))[0] == OperationState.FAILED


async def test_paused_by_hand(db: Database) -> None:
    """What is under way ends, nothing further begins until it is resumed."""
    id_ = await accepted(db)
    [command] = await operations.step(db, id_)
    assert await operations.pause(db, id_, "a look first") == OperationState.RUNNING
    await end(db, command)
    assert await operations.step(db, id_) == []
    assert await state_of(db, id_) == ("paused", "a look first")
    await operations.resume(db, id_)
    assert len(await operations.step(db, id_)) == 1


async def test_canceled(db: Database) -> None:
    """Nothing further begins, what is under way is asked to end, and it cannot be resumed."""
    id_ = await accepted(db, max_unavailable=2)
    commands = await operations.step(db, id_)
    assert await operations.cancel(db, id_, "wrong version") == OperationState.RUNNING
    async with db.read() as connection:
        found = await connection.execute(
            sa.select(COMMAND.c.id, COMMAND.c.cancel_reason).where(COMMAND.c.cancel_requested_at.is_not(None))
        )
        assert {tuple(row) for row in found} == {(id__, "wrong version") for id__ in commands}
    assert await operations.resume(db, id_) == OperationState.CANCELED
    assert await operations.step(db, id_) == []
    assert await operations.pause(db, "no such", "") is None


async def test_steps_at_one_time_accept_no_more(db: Database) -> None:
    """Two that take a step of the same operation at one moment begin as many commands as one does."""
    id_ = await accepted(db, max_unavailable=2)
    taken = await asyncio.gather(*(operations.step(db, id_) for _ in range(6)))
    assert sum(map(len, taken)) == 2


async def test_a_key_is_used_once(db: Database) -> None:
    """The same actor's key makes one operation."""
    await accepted(db, key="k")
    with pytest.raises(AssertionError):
        await accepted(db, key="k")
    async with db.read() as connection:
        assert len((await list_operations(connection, limit=10)).items) == 1


async def test_every_command_is_in_the_outbox(db: Database) -> None:
    """It is sent like any other."""
    id_ = await accepted(db, max_unavailable=3)
    commands = await operations.step(db, id_)
    async with db.read() as connection:
        due = await connection.scalars(sa.select(OUTBOX.c.command_id))
        assert sorted(due) == sorted(commands)


async def test_its_commands_are_kept_as_long_as_it_is(db: Database) -> None:
    """An agent that has had its turn has none again, however long the others take; then all goes."""
    id_ = await accepted(db)
    [first] = await operations.step(db, id_)
    await end(db, first)
    keep = retention.Keep(rows=timedelta(days=30), tombstones=timedelta(hours=1))
    much_later = datetime.now(UTC) + timedelta(days=365)
    assert await retention.forget(db, keep, much_later) == 0
    [second] = await operations.step(db, id_)
    assert await states(db, id_) == ["succeeded", "accepted", "", "", ""]
    await operations.cancel(db, id_, "enough")
    await end(db, second, CommandState.CANCELED)
    assert await retention.forget(db, keep, much_later) == 3
    assert await states(db, id_) == []
    async with db.read() as connection:
        assert (await list_operations(connection, limit=10)).items == []
