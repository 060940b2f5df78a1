"""Kubernetes Events, newest first unless another order is asked for."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.kubernetes.event import EVENT
from schemas.selectors import FieldSelector
from services.persistence import tables
from services.persistence.queries.paging import Page, item, page_of
from services.persistence.queries.selecting import field_conditions
from services.persistence.queries.sorting import event_value, split

_EVENT = tables.table_of(tables.Event)
NEWEST = "-last_seen"
"""The order in which Events are listed unless another one is asked for."""


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
    node: str | None = None
    """That it is about, or from which it was reported."""
    fields: FieldSelector | None = None
    since: datetime | None = None
    """Last seen at or after; aware."""
    until: datetime | None = None
    """Last seen before; aware."""
    q: str | None = None
    """A piece of its message, reason or object's name, in any case (of ASCII)."""


async def list_events(
    connection: AsyncConnection,
    where: EventFilter,
    *,
    sort: str = NEWEST,
    limit: int,
    continue_: str = "",
    full: bool = False,
) -> Page:
    """Events by the time they were last seen, newest first, or by another column; then by cluster and uid.

    An item is the row as JSON; `full` adds the projection as `object`. Raises BadContinue, UnknownColumn, and
    SelectorError for a field that Events cannot be selected by.
    """
    column, down = split(sort)
    value = event_value(column, connection.dialect.name)
    return await page_of(
        connection,
        [_EVENT.c.summary, *([_EVENT.c.body] if full else [])],
        [value, _EVENT.c.cluster_id, _EVENT.c.uid],
        _conditions(where),
        query=(where, sort),
        limit=limit,
        continue_=continue_,
        down=down,
    )


async def get_event(connection: AsyncConnection, cluster_id: str, uid: str) -> bytes | None:
    """One Event as JSON, with the projection as `object`."""
    found = await connection.execute(
        sa.select(_EVENT.c.summary, _EVENT.c.body).where(
            _EVENT.c.cluster_id == cluster_id, _EVENT.c.uid == uid
        )
    )
    row = found.first()
    return item(*row) if row else None


async def event_revision(connection: AsyncConnection, cluster_id: str, uid: str) -> int | None:
    """The revision of its shard at which an Event last changed; None: it is not stored."""
    found = sa.select(_EVENT.c.rev).where(_EVENT.c.cluster_id == cluster_id, _EVENT.c.uid == uid)
    rev: int | None = await connection.scalar(found)
    return rev


async def events_kept_since(connection: AsyncConnection) -> datetime | None:
    """When the oldest of all Events was last seen. They go by age, which no revision tells."""
    query = sa.select(sa.func.min(_EVENT.c.last_seen))
    found: datetime | None = await connection.scalar(query)
    return found


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
    if where.node is not None:
        of_node = sa.and_(columns.involved_kind == "Node", columns.involved_name == where.node)
        conditions.append(sa.or_(of_node, columns.host == where.node))
    if where.fields is not None:
        conditions += field_conditions(EVENT.resource, where.fields)
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
