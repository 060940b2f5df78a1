"""Accepting a command: what is answered with 202 is in the database, and outlives a power cut."""

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import Command
from services.persistence import tables
from services.persistence.commands import idempotency
from services.persistence.commands.idempotency import Earlier
from services.persistence.commands.insertion import insert_command
from services.persistence.database.engine import Database
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import to_its_end

_COMMAND = tables.table_of(tables.Command)


async def earlier(connection: AsyncConnection, actor: str, key: str) -> Earlier | None:
    """The command that this actor's key was used for; None for a new key, and for no key (empty)."""
    return await idempotency.find(connection, _COMMAND, actor, key)


async def accept(
    database: Database, command: Command, *, idempotency_key: str = "", fingerprint: str = ""
) -> Earlier | None:
    """Store a command and its place in the outbox; None when it is accepted.

    Otherwise its actor has used the key before, maybe a moment ago on another replica: nothing is stored, and
    what the key was used for is given back. Raises DatabaseUnavailable; then it may have been stored all the
    same, and whoever asks again under the same key will know.
    """
    return await to_its_end(_accept(database, command, idempotency_key, fingerprint))


async def _accept(database: Database, command: Command, key: str, fingerprint: str) -> Earlier | None:
    async with database.write(durable=True) as connection:
        if not await insert_command(connection, command, idempotency_key=key, fingerprint=fingerprint):
            return await earlier(connection, command.actor, key)
        await reach(Point.COMMAND_BEFORE_ACCEPT)
    await reach(Point.COMMAND_AFTER_ACCEPT)
    return None
