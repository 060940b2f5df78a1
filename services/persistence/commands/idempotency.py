"""Idempotency keys: what an actor has asked for under one before."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an idempotency key was used for."""

    id: str
    """Of the command, or of the operation."""
    fingerprint: str


async def find(connection: AsyncConnection, table: sa.Table, actor: str, key: str) -> Earlier | None:
    """The row of `table` that this actor's key was used for; None for a new key, and for no key (empty)."""
    if not key:
        return None
    found = await connection.execute(
        sa.select(table.c.id, table.c.fingerprint).where(
            table.c.actor == actor,
            table.c.idempotency_key == key,
            table.c.idempotency_key != sa.literal_column("''"),  # the index asks for it
        )
    )
    row = found.first()
    return Earlier(row.id, row.fingerprint) if row else None
