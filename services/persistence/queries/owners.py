"""Objects by their owner, through the owners between: a Deployment's pods are its ReplicaSets'."""

from typing import Any

import sqlalchemy as sa

from services.persistence import tables

_RESOURCE = tables.table_of(tables.Resource)


def is_owned_by(
    kind: str, name: str, *within: sa.ColumnElement[bool], dialect: str
) -> sa.ColumnElement[bool]:
    """The condition on `tables.Resource` that an object's owner has that kind and name, or the owner's owner.

    `within` are conditions on the objects that the owner itself owns, to look at fewer. Owners are managing
    owners, of the same agent; a namespaced object's owner is in its namespace or in none.
    """
    rows: Any = _RESOURCE.c
    # The index leaves out empty names, and is used only when the query does.
    first = sa.select(*_place(_RESOURCE, dialect), *_as_owner(rows)).where(
        rows.owner_kind == kind, rows.owner_name == name, rows.owner_name != "", *within
    )
    owned = first.cte("owned", recursive=True)
    next_one: Any = _RESOURCE.alias("next_one")
    owned = owned.union(  # not UNION ALL: it ends where owners own each other
        sa.select(*_place(next_one, dialect), *_as_owner(next_one.c)).where(
            next_one.c.owner_kind == owned.c.kind,
            next_one.c.owner_name == owned.c.name,
            next_one.c.owner_name != "",
            next_one.c.target_kind == owned.c.target_kind,
            next_one.c.target_id == owned.c.target_id,
            sa.or_(owned.c.namespace == "", next_one.c.namespace == owned.c.namespace),
        )
    )
    place = sa.tuple_(*_place(_RESOURCE, dialect))
    found = sa.select(*(column for column in owned.c if column.name.startswith("place")))
    return place.in_(found) if dialect == "postgresql" else _place(_RESOURCE, dialect)[0].in_(found)


def _as_owner(columns: Any) -> list[Any]:
    return [columns.target_kind, columns.target_id, columns.namespace, columns.kind, columns.name]


def _place(table: Any, dialect: str) -> list[Any]:
    """What names a row in the shortest way. Given a key of five columns, SQLite would try each value of the
    one with each of the others."""
    if dialect == "postgresql":
        return [column.label(f"place_{column.name}") for column in table.primary_key]
    return [sa.literal_column(f"{table.name}.rowid", sa.BigInteger()).label("place")]
