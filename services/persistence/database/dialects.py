"""Statements about many rows at once, and what SQLite and PostgreSQL say in different words."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from services.persistence.tables import table_of

Row = dict[str, Any]


async def insert_new(connection: AsyncConnection, model: type[SQLModel], rows: Sequence[Row]) -> None:
    """Insert the rows whose key is not there yet; the others stay as they are."""
    if rows:
        statement = _insert(connection.dialect.name, model).on_conflict_do_nothing()
        await connection.execute(statement, in_order(model, rows))


async def insert_unless_there(connection: AsyncConnection, model: type[SQLModel], row: Row) -> bool:
    """Insert a row; False when one is there that has its key, or what else is to be unique."""
    statement = _insert(connection.dialect.name, model).on_conflict_do_nothing()
    return (await connection.execute(statement.values(row))).rowcount == 1


async def upsert(
    connection: AsyncConnection,
    model: type[SQLModel],
    rows: Sequence[Row],
    *,
    newer_by: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> None:
    """Insert rows or replace those with the same key. Rows have all columns.

    With `newer_by`, a row is replaced only by one that is greater in these columns, compared in their order.
    A row that is replaced keeps what it has in the columns `keep`.
    """
    if rows:
        statement = _upsert(connection.dialect.name, model, tuple(newer_by), tuple(keep))
        await connection.execute(statement, in_order(model, rows))


def in_order(model: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows in the order of their keys: two transactions that touch the same ones never wait for each other in
    turn. Of several with one key the later stays the later."""
    names = [column.name for column in table_of(model).primary_key]
    return sorted(rows, key=lambda row: [row[name] for name in names])


@cache
def _upsert(
    dialect: str, model: type[SQLModel], newer_by: tuple[str, ...], keep: tuple[str, ...]
) -> sa.Executable:
    table = table_of(model)
    statement = _insert(dialect, model)
    values = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if not column.primary_key and column.name not in keep
    }
    where = None
    if newer_by:
        given = sa.tuple_(*(statement.excluded[name] for name in newer_by))
        where = given > sa.tuple_(*(table.c[name] for name in newer_by))
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values, where=where)


async def delete(
    connection: AsyncConnection, model: type[SQLModel], keys: Sequence[Mapping[str, Any]]
) -> int:
    """Delete the rows with these primary keys; how many there were."""
    if not keys:
        return 0
    if connection.dialect.name == "postgresql":
        # Its driver does not count the rows of many statements, and one is faster.
        columns = list(table_of(model).primary_key)
        arrays = {f"k_{column.name}": [key[column.name] for key in keys] for column in columns}
        return (await connection.execute(_delete_all(model), arrays)).rowcount
    return (await connection.execute(_delete(model), [key_parameters(key) for key in keys])).rowcount


def key_is(model: type[SQLModel]) -> list[sa.ColumnElement[bool]]:
    """The condition that a row's primary key is `key_parameters(…)`."""
    return [
        column == sa.bindparam(f"k_{column.name}", type_=column.type)
        for column in table_of(model).primary_key
    ]


def key_parameters(key: Mapping[str, Any]) -> Row:
    """A primary key as the parameters of `key_is`: names that an UPDATE has no use for."""
    return {f"k_{name}": value for name, value in key.items()}


@cache
def _delete(model: type[SQLModel]) -> sa.Executable:
    return sa.delete(table_of(model)).where(*key_is(model))


@cache
def _delete_all(model: type[SQLModel]) -> sa.Executable:
    """Locks the rows first, in one order as well (`in_order`)."""
    table = table_of(model)
    keys = list(table.primary_key)
    arrays = [sa.bindparam(f"k_{key.name}", type_=postgresql.ARRAY(key.type)) for key in keys]
    given = sa.func.unnest(*arrays).table_valued(*(sa.column(key.name, key.type) for key in keys))
    given = given.render_derived(name="given")
    there = sa.and_(*(key == given.c[key.name] for key in keys))
    found = sa.select(*keys).join_from(table, given, there).order_by(*keys).with_for_update(of=table)
    locked = found.cte("locked")
    return sa.delete(table).where(*(key == locked.c[key.name] for key in keys))


KEYS = "keys"
"""The parameter of `keys_table`: `encode_keys(…)`."""


def encode_keys(keys: Sequence[Sequence[str]]) -> str:
    """Keys as the parameter KEYS."""
    return msgspec.json.encode(keys).decode()


def keys_table(
    dialect: str, names: Sequence[str], parameter: str = KEYS
) -> tuple[sa.FromClause, dict[str, sa.ColumnElement[str]]]:
    """Keys that are given as a parameter, as a table to join with: its FROM clause and its columns by name.

    They travel as one JSON text: an IN over hundreds of tuples is compiled anew for each length, and SQLite
    looks up only the first columns of it in an index.
    """
    given = sa.bindparam(parameter, type_=sa.Text())
    if dialect == "postgresql":
        table = sa.func.jsonb_array_elements(sa.cast(given, postgresql.JSONB)).table_valued(
            sa.column("value", postgresql.JSONB), name="given"
        )
        return table, {name: table.c.value[index].astext for index, name in enumerate(names)}
    table = sa.func.json_each(given).table_valued(sa.column("value", sa.Text()), name="given")
    return table, {
        name: sa.func.json_extract(table.c.value, f"$[{index}]", type_=sa.Text())
        for index, name in enumerate(names)
    }


def _insert(dialect: str, model: type[SQLModel]) -> sqlite.Insert | postgresql.Insert:
    if dialect == "postgresql":
        return postgresql.insert(table_of(model))
    return sqlite.insert(table_of(model))
