"""Removing what nobody needs any longer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel, col

from schemas.commands import CommandState
from schemas.frames import MAX_ITEMS
from services.persistence import revisions, tables
from services.persistence.database.dialects import delete
from services.persistence.database.engine import Database


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what is kept."""

    rows: timedelta
    """Events since they were last seen, dead letters since they were stored, confirmations since the last,
    commands that have ended since their `finish_by`, operations since their end. A command of an operation is
    kept as long as that: without it, its agent would be one whose turn has not come."""
    tombstones: timedelta


async def forget(db: Database, keep: Keep, now: datetime) -> int:
    """Remove what is older than that; how many rows that were."""
    event, letter, tombstone = tables.Event, tables.DeadLetter, tables.Tombstone
    confirmation, operation, command = tables.Confirmation, tables.Operation, tables.Command
    return (
        await _forget(db, event, col(event.last_seen) < now - keep.rows)
        + await _forget(db, letter, col(letter.received_at) < now - keep.rows)
        + await _forget(db, confirmation, col(confirmation.updated_at) < now - keep.rows)
        + await _forget(db, operation, col(operation.finished_at) < now - keep.rows)
        + await _forget(db, command, _HAS_ENDED & _STANDS_ALONE & (col(command.finish_by) < now - keep.rows))
        + await _forget(db, tombstone, col(tombstone.removed_at) < now - keep.tombstones)
    )


_HAS_ENDED = col(tables.Command.state).in_([state for state in CommandState if state.terminal])
_STANDS_ALONE = ~sa.exists().where(col(tables.Operation.id) == col(tables.Command.operation_id))


async def _forget(db: Database, model: type[SQLModel], which: sa.ColumnElement[bool]) -> int:
    keys = list(tables.table_of(model).primary_key)
    forgotten = 0
    while True:
        async with db.write() as connection:
            found = await connection.execute(sa.select(*keys).where(which).limit(MAX_ITEMS))
            gone = [dict(row) for row in found.mappings()]
            await delete(connection, model, gone)
            if model is tables.Tombstone:
                await _note_forgotten(connection, gone)
            if model is tables.Command:
                await _forget_rest(connection, tables.CommandPart, "command_id", gone)
            if model is tables.Operation:
                await _forget_rest(connection, tables.OperationTarget, "operation_id", gone)
        forgotten += len(gone)
        if len(gone) < MAX_ITEMS:
            return forgotten


async def _note_forgotten(connection: AsyncConnection, tombstones: Sequence[dict[str, Any]]) -> None:
    newest: dict[int, int] = {}
    for key in tombstones:
        newest[key["shard"]] = max(key["rev"], newest.get(key["shard"], 0))
    await revisions.forget(connection, newest)


async def _forget_rest(
    connection: AsyncConnection, model: type[SQLModel], name: str, gone: Sequence[dict[str, Any]]
) -> None:
    """Remove what belongs to rows that are gone: it has their ids in the column `name`."""
    table = tables.table_of(model)
    await connection.execute(sa.delete(table).where(table.c[name].in_([row["id"] for row in gone])))
