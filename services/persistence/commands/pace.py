"""When a command is looked at again, and noting that in the outbox."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import CommandState
from services.persistence import tables

_OUTBOX = tables.table_of(tables.Outbox)

MARGIN = timedelta(seconds=2)
"""After `start_by` until it is judged whether a command was handed out: the broker counts whole seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When a command is looked at again: as long from now as it is old, within these seconds, with jitter."""

    first: float
    slowest: float

    def next(self, now: datetime, row: Any, grace: timedelta) -> datetime:
        """Of a row of `tables.Command`; not beyond its next deadline."""
        age = (now - row.created_at).total_seconds()
        delay = min(max(age, self.first), self.slowest) * random.uniform(0.8, 1.2)
        at = now + timedelta(seconds=delay)
        deadlines: list[datetime] = [row.finish_by + grace]
        if row.state in (CommandState.ACCEPTED, CommandState.SENT):
            deadlines.append(row.start_by + MARGIN)
        return min([at, *(deadline for deadline in deadlines if deadline > now)])


async def postpone(connection: AsyncConnection, due: Mapping[str, datetime]) -> None:
    """When these are to be looked at next."""
    if due:
        await connection.execute(_POSTPONE, [{"k_id": key, "due": due[key]} for key in sorted(due)])


_POSTPONE = (
    sa.update(_OUTBOX)
    .where(_OUTBOX.c.command_id == sa.bindparam("k_id"))
    .values(due_at=sa.bindparam("due", type_=_OUTBOX.c.due_at.type))
)
