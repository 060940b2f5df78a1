"""The journals of agents, as they name them."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from services.persistence import tables
from services.persistence.presence import heartbeats
from services.persistence.targets import any_target, target_of

_AGENT = tables.table_of(tables.Agent)
_CHUNK = 500
"""Agents in one statement."""


async def journals_of(connection: AsyncConnection, targets: Collection[Target]) -> dict[Target, str]:
    """The journals that agents name in their last heartbeats; without those that name none."""
    journals: dict[Target, str] = {}
    ordered = sorted(targets)
    for start in range(0, len(ordered), _CHUNK):
        found = await connection.execute(
            sa.select(_AGENT.c.target_kind, _AGENT.c.target_id, _AGENT.c.heartbeat).where(
                any_target(_AGENT.c, ordered[start : start + _CHUNK])
            )
        )
        for row in found:
            if journal := heartbeats.read(row.heartbeat).journal:
                journals[target_of(row)] = journal
    return journals
