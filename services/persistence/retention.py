"""Removing what nobody needs any longer."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import SQLModel, col

from schemas.frames import MAX_ITEMS
from services.persistence import tables
from services.persistence.dialects import delete
from services.persistence.engine import Database


async def forget(db: Database, older_than: timedelta, now: datetime) -> int:
    """Remove Events last seen before `now - older_than`, and dead letters as old; how many rows that were."""
    limit = now - older_than
    event, letter = tables.Event, tables.DeadLetter
    return await _forget(db, event, col(event.last_seen) < limit) + await _forget(
        db, letter, col(letter.received_at) < limit
    )


async def _forget(db: Database, model: type[SQLModel], which: sa.ColumnElement[bool]) -> int:
    keys = list(tables.table_of(model).primary_key)
    forgotten = 0
    while True:
        async with db.write() as session:
            connection = await session.connection()
            found = await connection.execute(sa.select(*keys).where(which).limit(MAX_ITEMS))
            gone = [dict(row) for row in found.mappings()]
            await delete(connection, model, gone)
        forgotten += len(gone)
        if len(gone) < MAX_ITEMS:
            return forgotten
