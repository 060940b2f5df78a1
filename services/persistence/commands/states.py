"""The one place where a command's state changes: it only ever moves on, whoever reports what and when."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import CommandState
from services.persistence import tables

_COMMAND = tables.table_of(tables.Command)
_OUTBOX = tables.table_of(tables.Outbox)


async def advance(
    connection: AsyncConnection, command_id: str, state: CommandState, now: datetime, **values: Any
) -> bool:
    """Move a command to `state`, and set further columns with it; whether it could move there.

    One that has ended, or is further already, stays as it is, the columns too. A terminal state takes the
    command out of the outbox and sets `finished_at` to `now`.
    """
    if state.terminal:
        values["finished_at"] = now
    moved = await connection.execute(
        sa.update(_COMMAND)
        .where(_COMMAND.c.id == command_id, _COMMAND.c.state.in_(state.before))
        .values(state=state, **values)
    )
    if not moved.rowcount:
        return False
    if state.terminal:
        await connection.execute(sa.delete(_OUTBOX).where(_OUTBOX.c.command_id == command_id))
    return True
