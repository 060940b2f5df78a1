"""What agents announce of their actions: now and then, so what they have said once is kept."""

from collections.abc import Iterator, Mapping, Sequence
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

    Without those that have announced nothing, and those whose code was another when they did. Agents by the
    thousand announce the same: that is read once, and is one object here.
    """
    speakers = await _speakers(connection, sorted(versions))
    bodies = await _bodies(connection, sorted(set(speakers.values())))
    read = {target: msgspec.json.decode(body, type=_Announced) for target, body in bodies.items()}
    return {
        target: read[speaker].actions
        for target, speaker in speakers.items()
        if speaker in read and read[speaker].version == versions[target]
    }


async def _speakers(connection: AsyncConnection, targets: Sequence[Target]) -> dict[Target, Target]:
    """Of each agent the first one that has announced the same, which speaks for all of them."""
    if len(targets) == 1:
        return {targets[0]: targets[0]}
    key = (_ANNOUNCEMENT.c.target_kind, _ANNOUNCEMENT.c.target_id)
    first: dict[bytes, Target] = {}
    speakers: dict[Target, Target] = {}
    for some in _chunks(targets):
        digests = sa.select(*key, sa.func.sha256(_ANNOUNCEMENT.c.body)).where(
            any_target(_ANNOUNCEMENT.c, some)
        )
        for kind, id_, digest in await connection.execute(digests):
            target = Target.parse(kind, id_)
            speakers[target] = first.setdefault(digest, target)
    return speakers


async def _bodies(connection: AsyncConnection, targets: Sequence[Target]) -> dict[Target, bytes]:
    bodies: dict[Target, bytes] = {}
    for some in _chunks(targets):
        rows = await connection.execute(sa.select(_ANNOUNCEMENT).where(any_target(_ANNOUNCEMENT.c, some)))
        bodies |= {target_of(row): row.body for row in rows}
    return bodies


def _chunks(targets: Sequence[Target]) -> Iterator[Sequence[Target]]:
    for start in range(0, len(targets), _CHUNK):
        yield targets[start : start + _CHUNK]
