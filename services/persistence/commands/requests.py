"""What people ask of a command that is under way."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import OPEN_STATES
from services.persistence import tables

_COMMAND = tables.table_of(tables.Command)


async def request_cancel(
    connection: AsyncConnection, command_id: str, now: datetime, reason: str = ""
) -> bool:
    """Ask for the end of a command; False when it has ended, or there is none.

    The first request counts, its reason too. Whether the command was handed out only the master can tell,
    which sends: it ends at once what was not, and tells the agent of the rest.
    """
    await connection.execute(
        sa.update(_COMMAND)
        .where(
            _COMMAND.c.id == command_id,
            _COMMAND.c.state.in_(OPEN_STATES),
            _COMMAND.c.cancel_requested_at.is_(None),
        )
        .values(cancel_requested_at=now, cancel_reason=reason)
    )
    still_open = sa.select(_COMMAND.c.id).where(
        _COMMAND.c.id == command_id, _COMMAND.c.state.in_(OPEN_STATES)
    )
    return await connection.scalar(still_open) is not None


async def request_cancel_of_operation(
    connection: AsyncConnection, operation_id: str, now: datetime, reason: str = ""
) -> None:
    """The same for all commands of an operation whose row is locked, so that none is added meanwhile.

    They are locked in the order of their ids, as everybody does who locks several (`states.lock`).
    """
    wanted = (
        _COMMAND.c.operation_id == operation_id,
        _COMMAND.c.operation_id != sa.literal_column("''"),  # the index asks for it
        _COMMAND.c.state.in_(OPEN_STATES),
        _COMMAND.c.cancel_requested_at.is_(None),
    )
    await connection.execute(
        sa.select(_COMMAND.c.id).where(*wanted).order_by(_COMMAND.c.id).with_for_update()
    )
    await connection.execute(
        sa.update(_COMMAND).where(*wanted).values(cancel_requested_at=now, cancel_reason=reason)
    )
