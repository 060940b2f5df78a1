"""The one place where a command's state changes: it only ever moves on, whoever reports what and when."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import CommandCompleted, CommandError, CommandState, ErrorCode
from services.persistence import tables

_COMMAND = tables.table_of(tables.Command)
_OUTBOX = tables.table_of(tables.Outbox)
_WIDE = {"body", "result", "evidence", "progress"}
_NARROW = [column for column in _COMMAND.columns if column.name not in _WIDE]


@dataclass(frozen=True, slots=True)
class Move:
    """A command that is to move to a state, with further columns that are set then."""

    command_id: str
    state: CommandState
    values: Mapping[str, Any] = field(default_factory=dict)


async def lock(connection: AsyncConnection, command_ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    """These commands as they are, without their wide columns; nobody else changes them until our end.

    In the order of their ids, so that two who lock several never wait for each other in turn.
    """
    if not command_ids:
        return {}
    found = await connection.execute(
        sa.select(*_NARROW)
        .where(_COMMAND.c.id.in_(sorted(command_ids)))
        .order_by(_COMMAND.c.id)
        .with_for_update()
    )
    return {row.id: row for row in found}


async def lock_again(
    connection: AsyncConnection, rows: Sequence[sa.Row[Any]], others: Collection[str] = ()
) -> dict[str, sa.Row[Any]]:
    """Lock rows that this transaction has read without, and `others`; these rows as they are now.

    Between the two somebody may have changed them, on PostgreSQL. SQLite has one writer at a time.
    """
    if connection.dialect.name == "postgresql":
        return await lock(connection, [*(row.id for row in rows), *others])
    return {row.id: row for row in rows}


async def advance(
    connection: AsyncConnection, command_id: str, state: CommandState, now: datetime, **values: Any
) -> bool:
    """Move a command to `state`, and set further columns with it; whether it could move there.

    One that has ended, or is further already, stays as it is, the columns too. A terminal state takes the
    command out of the outbox and sets `finished_at` to `now`.
    """
    row = (await lock(connection, [command_id])).get(command_id)
    if row is None or not CommandState(row.state).may_become(state):
        return False
    await advance_all(connection, [Move(command_id, state, values)], now)
    return True


async def advance_all(connection: AsyncConnection, moves: Sequence[Move], now: datetime) -> None:
    """`advance` for many, a few statements in all. Who wants to know which could move locks them before."""
    alike: dict[tuple[CommandState, tuple[str, ...]], list[dict[str, Any]]] = {}
    for move in moves:
        values = dict(move.values)
        if move.state.terminal:
            values["finished_at"] = now
        names = tuple(sorted(values))
        alike.setdefault((move.state, names), []).append({"k_id": move.command_id, **values})
    for (state, names), rows in alike.items():
        await connection.execute(_advance(state, names), rows)
    if ended := [{"k_id": move.command_id} for move in moves if move.state.terminal]:
        await connection.execute(_LEAVE_OUTBOX, ended)


@cache
def _advance(state: CommandState, names: tuple[str, ...]) -> sa.Executable:
    here = sa.or_(*(_COMMAND.c.state == before.value for before in state.before))
    return (
        sa.update(_COMMAND)
        .where(_COMMAND.c.id == sa.bindparam("k_id"), here)
        .values(
            state=state.value, **{name: sa.bindparam(name, type_=_COMMAND.c[name].type) for name in names}
        )
    )


_LEAVE_OUTBOX = sa.delete(_OUTBOX).where(_OUTBOX.c.command_id == sa.bindparam("k_id"))


def ending(command_id: str, state: CommandState, now: datetime, code: ErrorCode, message: str) -> Move:
    """The end of a command that its agent has not told us: `message` says why in words."""
    error = CommandError(code=code, message=message)
    completed = CommandCompleted(
        command_id=command_id, state=state, success=False, error=error, executed_at=now
    )
    return Move(command_id, state, {"result": completed.model_dump_json().encode()})
