"""The database's clock: the one that all replicas share, whatever their own say."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection


async def now(connection: AsyncConnection) -> datetime:
    """The present; SQLite serves one host, whose clock is the database's."""
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    present = await connection.scalar(sa.select(sa.func.clock_timestamp()))
    assert isinstance(present, datetime)
    return present
