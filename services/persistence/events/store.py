"""The write side of Kubernetes Events: one row per (cluster, uid), with its newest version.

Copies come late, twice and in any order: a spool is replayed, a list repeats what a watch has said. Of two
versions of one Event the one with the higher count is the newer, since its emitters only ever add to it,
whatever their clocks do; then the one seen last; then the one its agent sent last. That order is total,
so the row is the same in whatever order the versions arrive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from schemas.errors import ContractError
from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import KubernetesEvent
from services.persistence import cursors, revisions, tables
from services.persistence.database.dialects import upsert
from services.persistence.database.engine import Database
from services.persistence.database.types import in_utc
from services.persistence.events import confirmations
from services.persistence.events.confirmations import Mark, SpoolId
from services.runtime.bus.cursor import Cursor
from services.runtime.failpoints import Point, reach

NEWER_BY = ("count", "last_seen", "epoch", "sequence")
"""The columns by which one version of an Event is newer than another, in their order."""


@dataclass(frozen=True, slots=True)
class ObservedEvent:
    """One version of an Event, with where its agent's envelope says it stands."""

    cluster_id: str
    event: KubernetesEvent
    epoch: str
    sequence: int


class Stored(NamedTuple):
    """What a batch has done."""

    rev: int
    """The shard's revision after it; 0 when no row has changed."""
    confirmed: dict[SpoolId, int]
    """For each spool of the marks, up to where it is committed without a gap."""


async def store_events(
    db: Database, observed: Sequence[ObservedEvent], cursor: Cursor, marks: Sequence[Mark] = ()
) -> Stored:
    """Store a batch of one shard, note `marks` and move the cursor past it, in one transaction.

    It outlives a power cut, since its agents forget what is confirmed.
    Raises ContractError for an Event that cannot be a row, DatabaseUnavailable; then nothing is stored.
    """
    rows = [_row(item) for item in observed]
    async with db.write(durable=True) as connection:
        rev = await _put(connection, rows)
        confirmed = await confirmations.advance(connection, marks)
        await cursors.save(connection, cursor)
        await reach(Point.EVENTS_BEFORE_COMMIT)
    await reach(Point.EVENTS_AFTER_COMMIT)
    return Stored(rev, confirmed)


async def _put(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> int:
    """Those versions that are newer than what is there; the shard's revision after that, or 0."""
    if not rows:
        return 0
    shard, model = rows[0]["shard"], tables.Event
    rev = await revisions.next_one(connection, shard)
    await upsert(connection, model, [row | {"rev": rev} for row in rows], newer_by=NEWER_BY)
    newer = sa.select(col(model.uid)).where(col(model.shard) == shard, col(model.rev) == rev).limit(1)
    if await connection.scalar(newer) is None:
        return 0
    await revisions.raise_to(connection, shard, rev)
    return rev


def _row(observed: ObservedEvent) -> dict[str, Any]:
    event, meta, involved = observed.event, observed.event.metadata, observed.event.involved_object
    if not meta.uid or not meta.name:
        raise ContractError("Event without metadata.uid or metadata.name")
    last_seen, first_seen = event.last_seen, event.first_seen
    if last_seen is None or first_seen is None:
        raise ContractError(f"Event {meta.name} without any time")
    if not 0 < event.occurrences < 2**63 or not observed.sequence < 2**63:
        raise ContractError(f"Event {meta.name} with count {event.occurrences}, number {observed.sequence}")
    try:
        last_seen, first_seen = in_utc(last_seen), in_utc(first_seen)
    except ValueError as error:
        raise ContractError(f"Event {meta.name}: {error}") from error
    shown = {
        "cluster_id": observed.cluster_id,
        "uid": meta.uid,
        "namespace": meta.namespace,
        "name": meta.name,
        "type": event.type,
        "reason": event.reason,
        "message": event.message,
        "count": event.occurrences,
        "first_seen": first_seen,
        "last_seen": last_seen,
        "involved": {
            "kind": involved.kind,
            "namespace": involved.namespace,
            "name": involved.name,
            "uid": involved.uid,
        },
        "component": event.component,
        "host": event.host,
    }
    summary = msgspec.json.encode(shown)
    del shown["involved"]
    return {
        **shown,
        "involved_kind": involved.kind,
        "involved_namespace": involved.namespace,
        "involved_name": involved.name,
        "involved_uid": involved.uid,
        "epoch": observed.epoch,
        "sequence": observed.sequence,
        "shard": Target(AgentKind.KUBERNETES, observed.cluster_id).shard,
        "summary": summary,
        "body": event.encode(),
    }
