"""What agents announce of their actions: now and then, so what they have said once is kept."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from schemas.presence import ActionSchemas, Heartbeat
from services.persistence import tables
from services.persistence.database.dialects import upsert
from services.persistence.targets import any_target, target_of

_ANNOUNCEMENT = tables.table_of(tables.Announcement)
_CHUNK = 500
"""Agents in one statement."""


class _Announced(Struct, frozen=True):
    """The body of a row."""

    version: str
    actions: ActionSchemas


async def keep(connection: AsyncConnection, said: Mapping[Target, tuple[Heartbeat, datetime]]) -> None:
    """Store what heartbeats that have `actions` announce, each with its time, unless that is stored."""
    if not said:
        return
    bodies = {
        target: heartbeat.model_dump_json(include={"version", "actions"}).encode()
        for target, (heartbeat, _) in said.items()
    }
    stored = await _bodies(connection, list(bodies))
    rows = [
        {
            "target_kind": target.kind.value,
            "target_id": target.id,
            "announced_at": said[target][1],
            "body": body,
        }
        for target, body in bodies.items()
        if stored.get(target) != body
    ]
    await upsert(connection, tables.Announcement, rows, newer_by=("announced_at",))


async def announced(
    connection: AsyncConnection, versions: Mapping[Target, str]
) -> dict[Target, ActionSchemas]:
    """What agents have announced, by the versions that they have now.

    Without those that have announced nothing, and those whose code was another when they did.
    """
    found: dict[Target, ActionSchemas] = {}
    read: dict[bytes, _Announced] = {}  # agents by the thousand say the same
    ordered = sorted(versions)
    for start in range(0, len(ordered), _CHUNK):
        for target, body in (await _bodies(connection, ordered[start : start + _CHUNK])).items():
            if body not in read:
                read[body] = msgspec.json.decode(body, type=_Announced)
            if read[body].version == versions[target]:
                found[target] = read[body].actions
    return found


async def _bodies(connection: AsyncConnection, targets: list[Target]) -> dict[Target, bytes]:
    rows = await connection.execute(sa.select(_ANNOUNCEMENT).where(any_target(_ANNOUNCEMENT.c, targets)))
    return {target_of(row): row.body for row in rows}
