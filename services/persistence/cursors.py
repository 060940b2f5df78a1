"""How far the consumers have read their streams."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from services.persistence import tables
from services.persistence.database.dialects import upsert
from services.persistence.database.engine import Database
from services.runtime.bus.cursor import Cursor


class CursorStore:
    """The cursors of `services.runtime.bus.consumer`, in the database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self, name: str, stream: str) -> Cursor | None:
        """The cursor of that consumer on that stream; None before its first commit."""
        model = tables.Cursor
        async with self._db.read() as connection:
            found = await connection.execute(
                sa.select(col(model.created), col(model.sequence)).where(
                    col(model.name) == name, col(model.stream) == stream
                )
            )
            values = found.first()
        return Cursor(name, stream, *values) if values else None

    async def save(self, cursor: Cursor) -> None:
        """Keep it, in a transaction of its own."""
        async with self._db.write() as connection:
            await save(connection, cursor)


async def save(connection: AsyncConnection, cursor: Cursor) -> None:
    """Keep it, in the transaction that commits what it has read."""
    await upsert(
        connection,
        tables.Cursor,
        [
            {
                "name": cursor.name,
                "stream": cursor.stream,
                "created": cursor.created,
                "sequence": cursor.sequence,
            }
        ],
    )
