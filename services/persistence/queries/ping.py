"""Whether the database answers."""

import sqlalchemy as sa

from services.persistence.engine import Database


async def ping(db: Database) -> None:
    """Raises DatabaseUnavailable when the database cannot be read."""
    async with db.read() as session:
        await (await session.connection()).execute(sa.text("SELECT 1"))
