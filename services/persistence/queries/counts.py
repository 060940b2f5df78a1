"""How many objects there are, by what they have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from services.persistence import tables
from services.persistence.queries.filtering import Found, ResourceFilter, find
from services.persistence.queries.sorting import OWNER

_RESOURCE: Any = tables.table_of(tables.Resource).c

_GROUPS: dict[str, Sequence[Any]] = {
    "cluster": (_RESOURCE.target_kind, _RESOURCE.target_id),
    "resource": (_RESOURCE.resource,),
    "kind": (_RESOURCE.kind,),
    "namespace": (_RESOURCE.namespace,),
    "state": (_RESOURCE.state,),
    "node": (_RESOURCE.node,),
    "owner": (OWNER,),
}
_INDEXED = frozenset({"cluster", "resource", "state"})
GROUPS = tuple(_GROUPS)
"""What objects can be counted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Objects that have the same in common."""

    values: dict[str, str]
    """By what they are counted."""
    count: int
    desired: int
    """Sum of the replicas, or of the containers of pods, that are wanted."""
    ready: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Groups, the largest first."""

    groups: list[Group]
    remaining: int
    """How many more groups there are."""


async def count_objects(
    connection: AsyncConnection, where: ResourceFilter, by: Sequence[str], *, limit: int
) -> Counts:
    """At most `limit` groups of objects by what of GROUPS is in `by`; without any, all are one group.

    Raises SelectorError. Agents of two kinds with one id are two groups.
    """
    found, conditions, resource = _find(where, by, connection.dialect.name)
    columns = [column for name in by for column in (resource,) * (name == "resource") or _GROUPS[name]]
    sums = [
        sa.func.count().label("count"),
        *(
            sa.cast(sa.func.coalesce(sa.func.sum(_RESOURCE[name]), 0), sa.BigInteger()).label(name)
            for name in ("desired", "ready")
        ),
    ]
    labelled = [column.label(f"by_{number}") for number, column in enumerate(columns)]
    groups = sa.select(*labelled, *sums).select_from(found.source).where(*conditions)
    if columns:
        # By name: PostgreSQL takes an expression with parameters for another one each time.
        names = [label.name for label in labelled]
        groups = groups.group_by(*names).order_by(sa.desc("count"), *names)
    rows = (await connection.execute(groups.limit(limit + 1))).all()
    remaining = 0
    if len(rows) > limit:
        rows = rows[:limit]
        all_of_them = sa.select(*labelled).select_from(found.source).where(*conditions).distinct()
        counted = sa.select(sa.func.count()).select_from(all_of_them.subquery())
        remaining = (await connection.scalar(counted) or 0) - limit
    return Counts(groups=[_group(by, row) for row in rows], remaining=remaining)


def _find(
    where: ResourceFilter, by: Sequence[str], dialect: str
) -> tuple[Found, list[sa.ColumnElement[bool]], sa.ColumnElement[str]]:
    """Where the rows are found, and the column `resource` as it is to be written there.

    The index that clusters are counted by needs no look at the wide rows, where it has all that is asked for.
    """
    only = ResourceFilter(resource=where.resource, targets=where.targets)
    # Always so: on PostgreSQL the index asks for it.
    always = _RESOURCE.state >= sa.literal_column("''")
    if dialect != "sqlite" or where != only or not _INDEXED.issuperset(by):
        found = find(where, dialect)
        return found, [*found.conditions, always], _RESOURCE.resource
    # SQLite would prefer the primary key, which begins with the resource; it does not for an expression.
    found = find(replace(where, resource=""), dialect)
    plus: UnaryExpression[str] = UnaryExpression(_RESOURCE.resource, operator=custom_op("+"))
    named = [plus == where.resource] if where.resource else []
    return found, [*found.conditions, *named, always], plus


def _group(by: Sequence[str], row: Sequence[Any]) -> Group:
    *values, count, desired, ready = row
    last = iter(values)
    named = {}
    for name in by:
        for _ in _GROUPS[name]:
            named[name] = next(last)
    return Group(values=named, count=count, desired=desired, ready=ready)
