"""What lists can be sorted by: every column of a row, by code point, by number or by time.

A value that a row does not have is less than all others. Of a text the first 256 characters count, since the
last row's value is part of `continue`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from schemas.kubernetes import KINDS
from services.persistence import tables
from services.persistence.database.types import Text, UTCDateTime, json_in_postgresql

LENGTH = 256
"""Characters of a text that count."""
_NO_NUMBER = -(10**18)
_NO_TIME = datetime(1, 1, 1, tzinfo=UTC)
_NULL_NUMBERS = frozenset({"duration_seconds", "min_pods"})
"""Columns of numbers that an empty object has no value for; the others that it has none for are times."""
_NUMBER = "^-?[0-9]{1,18}$"

_RESOURCE: Any = tables.table_of(tables.Resource).c
_EVENT: Any = tables.table_of(tables.Event).c

OWNER = sa.case((_RESOURCE.owner_name == "", ""), else_=_RESOURCE.owner_kind + "/" + _RESOURCE.owner_name)
"""`<kind>/<name>` as a row shows it."""

_OF_ROWS: dict[str, sa.ColumnElement[Any]] = {
    "cluster": _RESOURCE.target_id,
    "kind": _RESOURCE.kind,
    "name": _RESOURCE.name,
    "namespace": _RESOURCE.namespace,
    "uid": _RESOURCE.uid,
    "node": _RESOURCE.node,
    "owner": OWNER,
    "created_at": sa.func.coalesce(_RESOURCE.created_at, sa.literal(_NO_TIME, UTCDateTime())),
}
_OF_EVENTS: dict[str, sa.ColumnElement[Any]] = {
    name: _EVENT[name]
    for name in ("last_seen", "first_seen", "count", "type", "reason", "cluster_id", "namespace", "name")
} | {name: _EVENT[name] for name in ("message", "component", "host", "uid")}
_OF_EVENTS["involved"] = _EVENT.involved_kind + "/" + _EVENT.involved_name


class UnknownColumn(ValueError):
    """A list cannot be sorted by that."""

    def __init__(self, name: str, known: Mapping[str, Any]) -> None:
        super().__init__(f"{name!r} is no column of these rows")
        self.known = tuple(known)
        """Those there are."""


def split(sort: str) -> tuple[str, bool]:
    """The column of `name` or `-name`, and whether the order is downwards."""
    return sort.removeprefix("-"), sort.startswith("-")


def check_sort(resource: str | None, sort: str) -> None:
    """Raises UnknownColumn. `resource` is kubectl's plural, None for the stored Events."""
    name, _ = split(sort)
    known = _OF_EVENTS if resource is None else _OF_ROWS | _columns(resource)
    if name not in known:
        raise UnknownColumn(name, known)


def row_value(resource: str, name: str, dialect: str) -> sa.ColumnElement[Any]:
    """What rows of a resource are sorted by; never null. Raises UnknownColumn."""
    check_sort(resource, name)
    if (column := _OF_ROWS.get(name)) is not None:
        return column
    shown = _text_in_postgresql(name) if dialect == "postgresql" else _value_in_sqlite(name)
    if not isinstance(_columns(resource)[name], int):
        return _short(sa.func.coalesce(sa.cast(shown, sa.Text()), ""), dialect)
    number: sa.ColumnElement[int]
    if dialect == "postgresql":
        number = sa.case(
            (shown.in_(("true", "false")), sa.cast(shown == "true", sa.Integer())),
            (shown.op("~")(_NUMBER), sa.cast(shown, sa.BigInteger())),
        )
    else:
        number = sa.cast(shown, sa.BigInteger())
    return sa.func.coalesce(number, _NO_NUMBER, type_=sa.BigInteger())


def event_value(name: str, dialect: str) -> sa.ColumnElement[Any]:
    """What stored Events are sorted by. Raises UnknownColumn."""
    check_sort(None, name)
    column = _OF_EVENTS[name]
    return _short(column, dialect) if isinstance(column.type, Text) else column


@cache
def _columns(resource: str) -> dict[str, Any]:
    """The columns of a kind's own, each with a value of its type."""
    kind = KINDS.get(resource)
    if kind is None:
        return {"status": ""}  # what a resource that was added by setting shows
    shown = kind.model().columns()
    return {name: 0 if name in _NULL_NUMBERS and value is None else value for name, value in shown.items()}


def _value_in_sqlite(name: str) -> Any:
    return sa.func.json_extract(sa.cast(_RESOURCE.summary, sa.Text()), f"$.{name}")


def _text_in_postgresql(name: str) -> Any:
    return json_in_postgresql(_RESOURCE.summary).op("->>", return_type=sa.Text())(name)


def _short(text: Any, dialect: str) -> sa.ColumnElement[Any]:
    """As it is read, so that it is the same when it comes back: `types.Text` would replace a U+0000."""
    short = sa.func.substr(text, 1, LENGTH, type_=sa.Text())
    return short.collate("C") if dialect == "postgresql" else short
