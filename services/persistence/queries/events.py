"""Kubernetes Events, newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from schemas.ids import kubernetes
from services.persistence import tables
from services.persistence.database.engine import Session
from services.persistence.queries.paging import Page, item, oldest, page_of

_EVENT = tables.table_of(tables.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which Events; what is not set does not matter."""

    clusters: tuple[str, ...] | None = None
    namespace: str | None = None
    type: str | None = None
    reason: str | None = None
    kind: str | None = None
    """Of the object it is about."""
    name: str | None = None
    """Of the object it is about."""
    since: datetime | None = None
    """Last seen at or after; aware."""
    until: datetime | None = None
    """Last seen before; aware."""
    q: str | None = None
    """A piece of its message, reason or object's name, in any case."""


async def list_events(
    session: Session, where: EventFilter, *, limit: int, continue_: str = "", full: bool = False
) -> Page:
    """Events by the time they were last seen, newest first. An item is the row as JSON.

    `full` adds the projection as `object`. Raises BadContinue.
    """
    targets = None if where.clusters is None else [kubernetes(cluster) for cluster in where.clusters]
    return await page_of(
        session,
        [_EVENT.c.summary, *([_EVENT.c.body] if full else [])],
        [_EVENT.c.last_seen, _EVENT.c.cluster_id, _EVENT.c.uid],
        _conditions(where),
        oldest(targets),
        query=where,
        limit=limit,
        continue_=continue_,
        down=True,
    )


async def get_event(session: Session, cluster_id: str, uid: str) -> bytes | None:
    """One Event as JSON, with the projection as `object`."""
    found = await (await session.connection()).execute(
        sa.select(_EVENT.c.summary, _EVENT.c.body).where(
            _EVENT.c.cluster_id == cluster_id, _EVENT.c.uid == uid
        )
    )
    row = found.first()
    return item(*row) if row else None


def _conditions(where: EventFilter) -> list[sa.ColumnElement[bool]]:
    columns: Any = _EVENT.c
    equal = {
        "namespace": where.namespace,
        "type": where.type,
        "reason": where.reason,
        "involved_kind": where.kind,
        "involved_name": where.name,
    }
    conditions = [columns[name] == value for name, value in equal.items() if value is not None]
    if where.clusters is not None:
        conditions.append(columns.cluster_id.in_(where.clusters))
    if where.since is not None:
        conditions.append(columns.last_seen >= where.since)
    if where.until is not None:
        conditions.append(columns.last_seen < where.until)
    if where.q:
        searched = (columns.message, columns.reason, columns.involved_name)
        conditions.append(sa.or_(*(column.icontains(where.q, autoescape=True) for column in searched)))
    return conditions
