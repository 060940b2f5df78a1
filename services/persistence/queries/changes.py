"""What has changed, by the revision of its shard.

A commit that changes rows of a shard raises the shard's revision, and puts it on the rows it wrote and on
the tombstones of those it removed. Whoever has seen everything up to revision N of a shard, and then reads
what lies above N, has the newest state of every row: what changed twice is there once, with its last
revision. Once a shard's revision is N, all that lies at or below N can be seen; so it is read first, and
nothing above it is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import SHARDS, AgentKind, Target
from schemas.kubernetes.event import EVENT
from services.persistence import tables
from services.persistence.queries.paging import oldest

_SHARD = tables.table_of(tables.Shard)
_TOMBSTONE = tables.table_of(tables.Tombstone)
_RESOURCE = tables.table_of(tables.Resource)
_EVENT = tables.table_of(tables.Event)

UNSEEN = -1
"""The revision of whoever has seen nothing: rows from before there were revisions have 0."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """Where all shards stand; one entry per shard."""

    revs: tuple[int, ...]
    forgotten: tuple[int, ...]
    """Tombstones up to these may be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row as it is now, or one that is gone."""

    rev: int
    resource: str
    target_kind: str
    target_id: str
    namespace: str
    name: str
    uid: str
    summary: bytes | None
    """What a list shows of it, as JSON; None: the object is gone."""
    body: bytes | None = None
    """Its projection; only when it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """Which changes; None does not matter."""

    clusters: frozenset[str] | None = None
    resources: frozenset[str] | None = None
    """kubectl's plurals; `events` are the stored Kubernetes Events."""
    namespace: str | None = None

    @property
    def targets(self) -> list[Target] | None:
        """The agents asked about; None: all."""
        if self.clusters is None:
            return None
        return [Target(AgentKind.KUBERNETES, name) for name in sorted(self.clusters)]

    @property
    def shards(self) -> Sequence[int]:
        """Where their rows are."""
        targets = self.targets
        return range(SHARDS) if targets is None else sorted({target.shard for target in targets})

    def matches(self, change: Change) -> bool:
        """Whether a change is asked for."""
        return (
            (self.resources is None or change.resource in self.resources)
            and (self.namespace is None or change.namespace == self.namespace)
            and (
                self.clusters is None
                or (change.target_id in self.clusters and change.target_kind == AgentKind.KUBERNETES)
            )
        )


EVERYTHING = ChangeFilter()


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of one shard's changes: by revision, what they are, and key."""

    rev: int
    source: int
    key: tuple[str, ...] = ()

    @classmethod
    def behind(cls, rev: int) -> "Place":
        """Behind all of a revision."""
        return cls(rev, len(_SOURCES))


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes of one shard in their order."""

    changes: list[Change]
    place: Place
    """Where the next page begins."""
    complete: bool
    """Nothing is left up to the revision asked for."""

    @property
    def seen(self) -> int:
        """The last revision of which nothing is left."""
        return self.place.rev if self.complete else self.place.rev - 1


async def revisions(connection: AsyncConnection) -> Revisions:
    """Where all shards stand; read it before the changes."""
    revs, forgotten = [0] * SHARDS, [0] * SHARDS
    found = await connection.execute(
        sa.select(_SHARD.c.shard, _SHARD.c.rev, _SHARD.c.forgotten).where(_SHARD.c.shard < SHARDS)
    )
    for shard, rev, gone in found:
        revs[shard], forgotten[shard] = rev, gone
    return Revisions(tuple(revs), tuple(forgotten))


async def oldest_state(connection: AsyncConnection, where: ChangeFilter) -> datetime | None:
    """The `as_of` of an answer about those agents."""
    found: datetime | None = await connection.scalar(oldest(where.targets))
    return found


async def list_changes(
    connection: AsyncConnection,
    shard: int,
    where: ChangeFilter,
    *,
    after: Place,
    gone_after: int = UNSEEN,
    upto: int,
    limit: int,
    full: bool = False,
) -> ChangePage:
    """At most `limit` changes of a shard behind a place, up to revision `upto`, in their order.

    Inside a revision what is gone comes before what is there: one commit may have removed an object and
    stored its successor. Tombstones up to revision `gone_after` are left out.
    """
    found: list[tuple[tuple[int, int], tuple[str, ...], Change]] = []
    horizon = (upto, len(_SOURCES))
    """Behind it, some source has more than was read."""
    for number, source in enumerate(_SOURCES):
        conditions = source.conditions(where)
        if conditions is None:
            continue
        columns: Any = source.table.c
        floor = max(after.rev, gone_after) if source.table is _TOMBSTONE else after.rev
        conditions += [columns.shard == shard, columns.rev <= upto, columns.rev >= floor]
        order = [columns.rev, *source.key]
        if floor > after.rev or number < after.source:
            conditions.append(columns.rev > floor)
        elif number == after.source:
            conditions.append(
                sa.tuple_(*order) > sa.tuple_(sa.literal(after.rev), *map(sa.literal, after.key))
            )
        select = sa.select(*source.columns(full=full)).where(*conditions).order_by(*order).limit(limit)
        rows = (await connection.execute(select)).all()
        for row in rows:
            change = source.change(row)
            found.append(((change.rev, number), source.key_of(change), change))
        if len(rows) == limit:
            horizon = min(horizon, found[-1][0])
    # Within a source they are in order already, and sorting is stable.
    found = sorted((entry for entry in found if entry[0] <= horizon), key=lambda entry: entry[0])
    kept = found[:limit]
    if len(kept) == len(found) and horizon == (upto, len(_SOURCES)):
        return ChangePage([change for *_, change in kept], Place.behind(upto), True)
    (rev, number), key, _ = kept[-1]
    return ChangePage([change for *_, change in kept], Place(rev, number, key), False)


# --- where changes are -------------------------------------------------------------------------------


def _as_stored(column: sa.Column[Any]) -> Any:
    """As the driver reads it: the type would copy each value once more."""
    return sa.type_coerce(column, sa.types.NullType())


class _Objects:
    """Rows, or the tombstones of rows: both have the key of an object."""

    def __init__(self, table: sa.Table, *, there: bool) -> None:
        columns: Any = table.c
        self.table = table
        self.key = [columns[name] for name in tables.OBJECT_KEY]
        self._there = there

    def conditions(self, where: ChangeFilter) -> list[sa.ColumnElement[bool]] | None:
        """None: nothing of it is asked for."""
        columns: Any = self.table.c
        conditions: list[sa.ColumnElement[bool]] = []
        if where.resources is not None:
            if not (resources := where.resources - {EVENT.resource}):
                return None
            conditions.append(columns.resource.in_(sorted(resources)))
        if where.clusters is not None:
            conditions.append(columns.target_kind == AgentKind.KUBERNETES.value)
            conditions.append(columns.target_id.in_(sorted(where.clusters)))
        if where.namespace is not None:
            conditions.append(columns.namespace == where.namespace)
        return conditions

    def columns(self, *, full: bool) -> list[Any]:
        columns: Any = self.table.c
        shown = [columns.rev, *self.key, columns.uid]
        if self._there:
            shown += [_as_stored(columns.summary), *([_as_stored(columns.body)] if full else [])]
        return shown

    def change(self, row: Sequence[Any]) -> Change:
        rev, resource, target_kind, target_id, namespace, name, uid, *stored = row
        return Change(
            rev=rev,
            resource=resource,
            target_kind=target_kind,
            target_id=target_id,
            namespace=namespace,
            name=name,
            uid=uid,
            summary=stored[0] if stored else None,
            body=stored[1] if len(stored) > 1 else None,
        )

    def key_of(self, change: Change) -> tuple[str, ...]:
        return change.resource, change.target_kind, change.target_id, change.namespace, change.name


class _Events:
    """Kubernetes Events; they are removed by age, without tombstones."""

    table = _EVENT
    key: Sequence[Any] = [_EVENT.c.cluster_id, _EVENT.c.uid]

    def conditions(self, where: ChangeFilter) -> list[sa.ColumnElement[bool]] | None:
        columns: Any = _EVENT.c
        if where.resources is not None and EVENT.resource not in where.resources:
            return None
        conditions: list[sa.ColumnElement[bool]] = []
        if where.clusters is not None:
            conditions.append(columns.cluster_id.in_(sorted(where.clusters)))
        if where.namespace is not None:
            conditions.append(columns.namespace == where.namespace)
        return conditions

    def columns(self, *, full: bool) -> list[Any]:
        columns: Any = _EVENT.c
        shown = [columns.rev, columns.cluster_id, columns.uid, columns.namespace, columns.name]
        return [*shown, _as_stored(columns.summary), *([_as_stored(columns.body)] if full else [])]

    def change(self, row: Sequence[Any]) -> Change:
        rev, cluster_id, uid, namespace, name, summary, *body = row
        return Change(
            rev=rev,
            resource=EVENT.resource,
            target_kind=AgentKind.KUBERNETES.value,
            target_id=cluster_id,
            namespace=namespace,
            name=name,
            uid=uid,
            summary=summary,
            body=body[0] if body else None,
        )

    def key_of(self, change: Change) -> tuple[str, ...]:
        return change.target_id, change.uid


_SOURCES: tuple[_Objects | _Events, ...] = (
    _Objects(_TOMBSTONE, there=False),
    _Objects(_RESOURCE, there=True),
    _Events(),
)
"""In the order of their changes inside a revision."""
