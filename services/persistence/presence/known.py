"""Which agents were ever heard of: the first heartbeat of an agent makes its row."""

import sqlalchemy as sa

from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.engine import Database

_AGENT = tables.table_of(tables.Agent)


async def count_known(db: Database) -> int:
    """How many agents there are. Raises DatabaseUnavailable."""
    async with db.read() as connection:
        return await connection.scalar(sa.select(sa.func.count()).select_from(_AGENT)) or 0


async def known_targets(db: Database) -> list[Target]:
    """All of them. Raises DatabaseUnavailable."""
    async with db.read() as connection:
        found = await connection.execute(sa.select(_AGENT.c.target_kind, _AGENT.c.target_id))
        return [Target.parse(kind, name) for kind, name in found]
