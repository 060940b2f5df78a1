"""Objects: lists, and one of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.engine import Session
from services.persistence.queries.paging import Page, oldest, page_of
from services.persistence.targets import any_target, is_target

_RESOURCE = tables.table_of(tables.Resource)
_ORDER = [_RESOURCE.c[name] for name in ("target_kind", "target_id", "namespace", "name")]
_SUMMARY: Any = sa.type_coerce(_RESOURCE.c.summary, sa.types.NullType())
"""As the driver reads it: the type would copy each value once more."""
_BODY: Any = sa.type_coerce(_RESOURCE.c.body, sa.types.NullType())


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceFilter:
    """Which objects; what is not set does not matter."""

    resource: str
    targets: tuple[Target, ...] | None = None
    namespace: str | None = None
    """Empty for cluster-scoped objects."""
    node: str | None = None
    owner: str | None = None
    """`<kind>/<name>`, as in `ReplicaSet/web-1`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object."""

    summary: bytes
    body: bytes
    """Its projection; `null` when its agent sent something that is no JSON."""
    updated_at: datetime
    as_of: datetime | None


async def list_resources(
    session: Session, where: ResourceFilter, *, limit: int, continue_: str = "", full: bool = False
) -> Page:
    """Objects by cluster, namespace and name, `limit` (at least 1) of them.

    An item is the row's summary; `full` adds the projection as `object`. Raises BadContinue.
    """
    # A column that has one value only is left out: SQLite would sort by it all the same.
    order = _ORDER[2:] if where.targets is not None and len(where.targets) == 1 else _ORDER
    return await page_of(
        session,
        [_SUMMARY, *([_BODY] if full else [])],
        order,
        _conditions(where),
        oldest(where.targets),
        query=where,
        limit=limit,
        continue_=continue_,
    )


async def get_resource(
    session: Session, target: Target, resource: str, namespace: str, name: str
) -> StoredObject | None:
    """One object; the namespace is empty for a cluster-scoped one."""
    connection = await session.connection()
    found = await connection.execute(
        sa.select(_RESOURCE.c.summary, _RESOURCE.c.body, _RESOURCE.c.updated_at).where(
            _RESOURCE.c.resource == resource,
            is_target(_RESOURCE.c, target),
            _RESOURCE.c.namespace == namespace,
            _RESOURCE.c.name == name,
        )
    )
    row = found.first()
    if row is None:
        return None
    as_of = await connection.scalar(oldest([target]))
    return StoredObject(**row._asdict(), as_of=as_of)


def _conditions(where: ResourceFilter) -> list[sa.ColumnElement[bool]]:
    columns: Any = _RESOURCE.c
    conditions = [columns.resource == where.resource]
    if where.targets is not None:
        conditions.append(any_target(columns, where.targets))
    if where.namespace is not None:
        conditions.append(columns.namespace == where.namespace)
    # The indexes leave out empty values, and are used only when the query does.
    if where.node is not None:
        conditions += [columns.node == where.node, columns.node != ""]
    if where.owner is not None:
        kind, _, name = where.owner.partition("/")
        conditions += [columns.owner_kind == kind, columns.owner_name == name, columns.owner_name != ""]
    return conditions
