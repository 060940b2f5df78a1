"""Operations: a command on each of many agents, a few at a time.

An api accepts an operation and may pause, resume or cancel it. The holder of the lease `commands` takes the
steps: one transaction looks at how far it is and accepts the next commands, so that each target has exactly
one, whoever is killed when.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import OPEN_STATES, Command, CommandCompleted, CommandState, TargetReference
from schemas.ids import uuid7
from schemas.operations import Operation, OperationState
from services.persistence import tables
from services.persistence.commands import idempotency
from services.persistence.commands.idempotency import Earlier
from services.persistence.commands.insertion import insert_command
from services.persistence.commands.requests import request_cancel_of_operation
from services.persistence.database import clock, dialects
from services.persistence.database.engine import Database
from services.runtime.tasks import to_its_end

_OPERATION = tables.table_of(tables.Operation)
_TARGET = tables.table_of(tables.OperationTarget)
_COMMAND = tables.table_of(tables.Command)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One target and what has become of it; no state: its turn has not come."""

    position: int
    target: TargetReference
    state: CommandState | None
    command_id: str

    @property
    def under_way(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def failed(self) -> bool:
        return self.state is not None and self.state.terminal and self.state != CommandState.SUCCEEDED


async def insert_operation(
    connection: AsyncConnection, operation: Operation, *, idempotency_key: str = "", fingerprint: str = ""
) -> bool:
    """Store an operation, whose first step follows; False when its actor has used the key already."""
    row = {
        "id": operation.id,
        "actor": operation.actor,
        "idempotency_key": idempotency_key,
        "fingerprint": fingerprint,
        "body": operation.model_dump_json().encode(),
        "state": OperationState.RUNNING.value,
        "reason": "",
        "forgiven": 0,
        "created_at": operation.created_at,
        "updated_at": operation.created_at,
    }
    if not await dialects.insert_unless_there(connection, tables.Operation, row):
        return False
    await connection.execute(
        sa.insert(_TARGET),
        [
            {
                "operation_id": operation.id,
                "position": position,
                "target_kind": target.kind.value,
                "target_id": target.id,
                "command_id": "",
            }
            for position, target in enumerate(operation.targets)
        ],
    )
    return True


async def earlier(connection: AsyncConnection, actor: str, key: str) -> Earlier | None:
    """The operation that this actor's key was used for; None for a new key, and for no key (empty)."""
    return await idempotency.find(connection, _OPERATION, actor, key)


async def accept(
    db: Database, operation: Operation, *, idempotency_key: str = "", fingerprint: str = ""
) -> Earlier | None:
    """Store an operation, whose first step follows; None when it is accepted.

    Otherwise its actor has used the key before: nothing is stored, and what the key was used for is given
    back. Raises DatabaseUnavailable; then it may have been stored all the same (`commands.accept`).
    """
    return await to_its_end(_accept_operation(db, operation, idempotency_key, fingerprint))


async def _accept_operation(db: Database, operation: Operation, key: str, fingerprint: str) -> Earlier | None:
    async with db.write(durable=True) as connection:
        if await insert_operation(connection, operation, idempotency_key=key, fingerprint=fingerprint):
            return None
        return await earlier(connection, operation.actor, key)


async def running(db: Database) -> list[str]:
    """The operations that go on, the oldest first."""
    async with db.read() as connection:
        found = await connection.execute(
            sa.select(_OPERATION.c.id)
            .where(_OPERATION.c.state == OperationState.RUNNING)
            .order_by(_OPERATION.c.id)
        )
        return list(found.scalars())


async def step(db: Database, operation_id: str) -> list[str]:
    """Take an operation as far as it may go now; the ids of the commands that were accepted."""
    async with db.write(durable=True) as connection:
        row, now = await _locked(connection, operation_id), await clock.now(connection)
        if row is None or row.state != OperationState.RUNNING:
            return []
        operation = Operation.model_validate_json(row.body)
        turns = await _turns(connection, operation_id)
        under_way = sum(turn.under_way for turn in turns)
        failed = [turn for turn in turns if turn.failed]
        waiting = [turn for turn in turns if turn.state is None]
        strategy = operation.strategy
        if not waiting and not under_way:
            state = OperationState.FAILED if failed else OperationState.SUCCEEDED
            await _set(connection, operation_id, now, state, await _summary(connection, turns, failed))
            return []
        if waiting and len(failed) - row.forgiven > strategy.max_failures:
            summary = await _summary(connection, turns, failed)
            reason = f"{summary}; resume it to go on with the other {len(waiting)}"
            await _set(connection, operation_id, now, OperationState.PAUSED, reason)
            return []
        next_ones = waiting[: max(0, strategy.max_unavailable - under_way)]
        return [await _accept(connection, operation, turn, now) for turn in next_ones]


async def pause(db: Database, operation_id: str, reason: str) -> OperationState | None:
    """Begin nothing further; what is under way ends. The state it was in; None: there is no such one."""
    return await _decide(db, operation_id, OperationState.PAUSED, reason)


async def resume(db: Database, operation_id: str) -> OperationState | None:
    """Go on; failures so far are forgiven. The state it was in; None: there is no such one."""
    return await _decide(db, operation_id, OperationState.RUNNING, "")


async def cancel(db: Database, operation_id: str, reason: str) -> OperationState | None:
    """Begin nothing further and cancel what is under way. The state it was in; None: there is no such one."""
    return await _decide(db, operation_id, OperationState.CANCELED, reason)


async def _decide(
    db: Database, operation_id: str, state: OperationState, reason: str
) -> OperationState | None:
    """What a person has decided; one that has ended stays as it is."""
    async with db.write(durable=True) as connection:
        row, now = await _locked(connection, operation_id), await clock.now(connection)
        if row is None:
            return None
        before = OperationState(row.state)
        if before.terminal or before == state:
            return before
        turns = await _turns(connection, operation_id)
        await _set(connection, operation_id, now, state, reason, forgiven=sum(turn.failed for turn in turns))
        if state == OperationState.CANCELED:
            await request_cancel_of_operation(connection, operation_id, now, reason)
        return before


async def _locked(connection: AsyncConnection, operation_id: str) -> sa.Row[Any] | None:
    """The row, which nobody else changes until our end."""
    found = await connection.execute(
        sa.select(_OPERATION).where(_OPERATION.c.id == operation_id).with_for_update()
    )
    return found.first()


async def _turns(connection: AsyncConnection, operation_id: str) -> list[_Turn]:
    found = await connection.execute(
        sa.select(_TARGET, _COMMAND.c.state)
        .join_from(_TARGET, _COMMAND, _TARGET.c.command_id == _COMMAND.c.id, isouter=True)
        .where(_TARGET.c.operation_id == operation_id)
        .order_by(_TARGET.c.position)
    )
    return [
        _Turn(
            row.position,
            TargetReference(kind=row.target_kind, id=row.target_id),
            CommandState(row.state) if row.state else None,
            row.command_id,
        )
        for row in found
    ]


async def _accept(connection: AsyncConnection, operation: Operation, turn: _Turn, now: datetime) -> str:
    limit = timedelta(seconds=operation.strategy.timeout)
    command = Command(
        id=uuid7(),
        target=turn.target,
        action=operation.action,
        object=operation.object,
        params=operation.params,
        dry_run=operation.dry_run,
        created_at=now,
        start_by=now + limit,
        finish_by=now + limit,
        actor=operation.actor,
        operation=operation.id,
    )
    await insert_command(connection, command)
    await connection.execute(
        sa.update(_TARGET)
        .where(_TARGET.c.operation_id == operation.id, _TARGET.c.position == turn.position)
        .values(command_id=command.id)
    )
    return command.id


async def _set(
    connection: AsyncConnection,
    operation_id: str,
    now: datetime,
    state: OperationState,
    reason: str,
    **values: Any,
) -> None:
    if state.terminal:
        values["finished_at"] = now
    await connection.execute(
        sa.update(_OPERATION)
        .where(_OPERATION.c.id == operation_id)
        .values(state=state, reason=reason, updated_at=now, **values)
    )


async def _summary(connection: AsyncConnection, turns: Sequence[_Turn], failed: Sequence[_Turn]) -> str:
    """How it went, with the last failure in its own words: the only result that is read here."""
    if not failed:
        return f"{len(turns)} of {len(turns)} succeeded"
    last = failed[-1]
    result = await connection.scalar(sa.select(_COMMAND.c.result).where(_COMMAND.c.id == last.command_id))
    error = CommandCompleted.model_validate_json(result).error if result else None
    words = f": {error.message}" if error else ""
    return f"{len(failed)} of {len(turns)} did not succeed, last {last.target.id} ({last.state}){words}"
