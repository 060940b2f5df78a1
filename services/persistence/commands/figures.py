"""How many commands are under way."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from schemas.commands import OPEN_STATES
from services.persistence import tables
from services.persistence.database import clock
from services.persistence.database.engine import Database

_COMMAND = tables.table_of(tables.Command)
_OUTBOX = tables.table_of(tables.Outbox)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one moment."""

    by_state: Mapping[str, int]
    due: int
    """Commands that are to be looked at now."""
    oldest: float
    """For how many seconds the one that waits longest has been due."""


async def figures(db: Database) -> Figures:
    """Count them. Raises DatabaseUnavailable."""
    async with db.read() as connection:
        now = await clock.now(connection)
        found = await connection.execute(
            sa.select(_COMMAND.c.state, sa.func.count().label("number"))
            .where(_COMMAND.c.state.in_(OPEN_STATES))
            .group_by(_COMMAND.c.state)
        )
        by_state = {row.state: row.number for row in found}
        due, oldest = (
            await connection.execute(
                sa.select(sa.func.count(), sa.func.min(_OUTBOX.c.due_at)).where(_OUTBOX.c.due_at <= now)
            )
        ).one()
    return Figures(by_state, due, (now - oldest).total_seconds() if oldest is not None else 0.0)
