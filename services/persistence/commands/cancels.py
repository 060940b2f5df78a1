"""Commands that are to be ended on request, and have not ended."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from schemas.commands import OPEN_STATES
from schemas.ids import Target
from services.persistence import tables
from services.persistence.commands import outbox, states
from services.persistence.database import clock
from services.persistence.database.engine import Database
from services.persistence.targets import target_of

_COMMAND = tables.table_of(tables.Command)
_WANTED = (_COMMAND.c.cancel_requested_at.is_not(None), _COMMAND.c.finished_at.is_(None))


@dataclass(frozen=True, slots=True)
class CancelWanted:
    """One that its agent may have: the agent is to end it."""

    command_id: str
    target: Target
    reason: str
    requested_at: datetime


async def wanted(db: Database, limit: int) -> tuple[list[CancelWanted], list[str]]:
    """Those that their agents have to be told of, the longest first; and those that were never sent.

    Raises DatabaseUnavailable.
    """
    columns = [
        _COMMAND.c[name]
        for name in ("id", "target_kind", "target_id", "cancel_reason", "cancel_requested_at", "attempts")
    ]
    async with db.read() as connection:
        found = await connection.execute(
            sa.select(*columns).where(*_WANTED).order_by(_COMMAND.c.cancel_requested_at).limit(limit)
        )
        rows = found.all()
    told = [
        CancelWanted(row.id, target_of(row), row.cancel_reason, row.cancel_requested_at)
        for row in rows
        if row.attempts
    ]
    return told, [row.id for row in rows if not row.attempts]


async def end_unsent(db: Database, command_ids: list[str]) -> list[str]:
    """End those of them that are still unsent; which. Raises LeaseLost, DatabaseUnavailable."""
    async with db.write(durable=True) as connection:
        now = await clock.now(connection)
        locked = await states.lock(connection, command_ids)
        ends = [
            outbox.canceled(row, now)
            for row in locked.values()
            if row.attempts == 0 and row.state in OPEN_STATES and row.cancel_requested_at is not None
        ]
        await states.advance_all(connection, ends, now)
    return [move.command_id for move in ends]
