"""Objects: lists, and one of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from services.persistence import tables
from services.persistence.queries.filtering import Found, ResourceFilter, find
from services.persistence.queries.paging import Page, oldest, page_of
from services.persistence.queries.sorting import row_value, split
from services.persistence.targets import is_target

_RESOURCE = tables.table_of(tables.Resource)
_SUMMARY: Any = sa.type_coerce(_RESOURCE.c.summary, sa.types.NullType())
"""As the driver reads it: the type would copy each value once more."""
_BODY: Any = sa.type_coerce(_RESOURCE.c.body, sa.types.NullType())


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object."""

    summary: bytes
    body: bytes
    """Its projection; `null` when its agent sent something that is no JSON."""
    updated_at: datetime
    as_of: datetime | None


async def list_resources(
    connection: AsyncConnection,
    where: ResourceFilter,
    *,
    sort: str = "",
    limit: int,
    continue_: str = "",
    full: bool = False,
) -> Page:
    """Objects by cluster, namespace and name, `limit` (at least 1) of them.

    `sort` is a column of the rows, with `-` before it downwards; the key follows in the same direction. An
    item is the row's summary; `full` adds the projection as `object`. Raises BadContinue, UnknownColumn, and
    SelectorError for a field that the resource cannot be selected by.
    """
    dialect = connection.dialect.name
    found = find(where, dialect)
    column, down = split(sort)
    order = _order(where, found, column, dialect)
    sorted_by_keys = not column or column in ("cluster", "namespace", "name")
    return await page_of(
        connection,
        [_SUMMARY, *([_BODY] if full else [])],
        order,
        found.conditions,
        query=(where, sort),
        limit=limit,
        continue_=continue_,
        down=down,
        source=found.source,
        keys=found.keys if sorted_by_keys else found.source,
    )


def _order(where: ResourceFilter, found: Found, column: str, dialect: str) -> list[Any]:
    names = ["target_kind", "target_id", "namespace", "name"]
    # A column that has one value only is left out: SQLite would sort by it all the same.
    if where.targets is not None and len(where.targets) == 1:
        names = names[2:]
    if not column:
        return [found.key[name] for name in names]
    of_key = {"cluster": "target_id", "namespace": "namespace", "name": "name"}.get(column)
    if of_key is None:
        return [row_value(where.resource, column, dialect), *(found.key[name] for name in names)]
    return [found.key[name] for name in dict.fromkeys([of_key, *names])]


async def get_resource(
    connection: AsyncConnection, target: Target, resource: str, namespace: str, name: str
) -> StoredObject | None:
    """One object; the namespace is empty for a cluster-scoped one."""
    found = await connection.execute(
        sa.select(_RESOURCE.c.summary, _RESOURCE.c.body, _RESOURCE.c.updated_at).where(
            *_is_object(target, resource, namespace, name)
        )
    )
    row = found.first()
    if row is None:
        return None
    as_of = await connection.scalar(oldest([target]))
    return StoredObject(**row._asdict(), as_of=as_of)


async def object_revision(
    connection: AsyncConnection, target: Target, resource: str, namespace: str, name: str
) -> int | None:
    """The revision of its shard at which an object last changed; None: it is not there."""
    found = sa.select(_RESOURCE.c.rev).where(*_is_object(target, resource, namespace, name))
    rev: int | None = await connection.scalar(found)
    return rev


def _is_object(target: Target, resource: str, namespace: str, name: str) -> list[sa.ColumnElement[bool]]:
    columns: Any = _RESOURCE.c
    return [
        columns.resource == resource,
        is_target(columns, target),
        columns.namespace == namespace,
        columns.name == name,
    ]
