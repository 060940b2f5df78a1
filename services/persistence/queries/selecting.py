"""Label and field selectors as conditions: a row meets them when the API server would select its object.

Keys, values and names of fields come from outside and are parameters of the statement, never a part of it;
the paths into bodies are those that the kinds declare.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from schemas.kubernetes import selectable_fields
from schemas.kubernetes.event import EVENT
from schemas.kubernetes.kind import Selectable
from schemas.selectors import (
    MAX_INTEGER,
    FieldSelector,
    LabelSelector,
    Operator,
    Requirement,
    SelectorError,
)
from services.persistence import tables
from services.persistence.database.types import JSONValue, Text, json_in_postgresql
from services.persistence.targets import is_same_object

_RESOURCE: Any = tables.table_of(tables.Resource).c
_LABEL: Any = tables.table_of(tables.Label).c
_EVENT: Any = tables.table_of(tables.Event).c
_COLUMNS = {
    "pods": {"spec.nodeName": _RESOURCE.node},
    EVENT.resource: {
        "involvedObject.kind": _EVENT.involved_kind,
        "involvedObject.namespace": _EVENT.involved_namespace,
        "involvedObject.name": _EVENT.involved_name,
        "involvedObject.uid": _EVENT.involved_uid,
        "reason": _EVENT.reason,
        "type": _EVENT.type,
    },
}
"""Paths in a body that have a column of their own, beside name and namespace."""


# -- labels -----------------------------------------------------------------------------------------------


def label_conditions(selector: LabelSelector) -> list[sa.ColumnElement[bool]]:
    """The conditions on `tables.Resource`; none for a selector that selects everything.

    For one value SQLite looks into `tables.Label`; PostgreSQL has an index over the labels for all of them.
    """
    return [_requires(requirement) for requirement in selector.requirements]


def _requires(requirement: Requirement) -> sa.ColumnElement[bool]:
    key, values = requirement.key, requirement.values
    match requirement.operator:
        case Operator.EXISTS:
            return _has_key(key)
        case Operator.NOT_EXISTS:
            return ~_has_key(key)
        case Operator.IN:
            return _has_value(key, values)
        case Operator.NOT_IN:
            return ~_has_value(key, values)
        case Operator.GREATER | Operator.LESS:
            return _compares(requirement)


def _has_key(key: str) -> sa.ColumnElement[bool]:
    return _PerDialect(_in_row(key), _RESOURCE.labels.op("?", is_comparison=True)(_text(key)))


def _has_value(key: str, values: tuple[str, ...]) -> sa.ColumnElement[bool]:
    contains = _RESOURCE.labels.op("@>", is_comparison=True)
    pairs = [contains(sa.bindparam(None, {key: value}, JSONValue())) for value in values]
    in_sqlite = _in_index(key, values[0]) if len(values) == 1 else _in_row(key, lambda it: it.in_(values))
    return _PerDialect(in_sqlite, sa.or_(sa.false(), *pairs))


def _compares(requirement: Requirement) -> sa.ColumnElement[bool]:
    key = requirement.key
    value = _RESOURCE.labels.op("->>", return_type=Text())(_text(key))
    return _PerDialect(
        _in_row(key, lambda it: _lies(requirement, it)), sa.and_(_has_key(key), _lies(requirement, value))
    )


def _in_index(key: str, value: str) -> sa.ColumnElement[bool]:
    pair = sa.and_(is_same_object(_LABEL, _RESOURCE), _LABEL.key == key, _LABEL.value == value)
    return sa.exists().where(pair).correlate(_RESOURCE.resource.table)


def _in_row(key: str, holds: Callable[[Any], sa.ColumnElement[bool]] | None = None) -> sa.ColumnElement[bool]:
    """In the index the objects come after the value: for one that may be any, all would be looked at."""
    pair = sa.func.json_each(_RESOURCE.labels).table_valued(
        sa.column("key", Text()), sa.column("value", Text())
    )
    wanted = [pair.c.key == key, *([holds(pair.c.value)] if holds else [])]
    return sa.select(1).select_from(pair).where(*wanted).correlate(_RESOURCE.resource.table).exists()


def _lies(requirement: Requirement, value: Any) -> sa.ColumnElement[bool]:
    """As `schemas.selectors.integer` reads a value. A cast would fail on one that is none."""
    digits = sa.func.ltrim(value, "0")
    length = sa.func.length(digits)
    bound = requirement.values[0].lstrip("0")

    def above(limit: str) -> sa.ColumnElement[bool]:
        return sa.or_(length > len(limit), sa.and_(length == len(limit), digits > limit))

    if requirement.operator is Operator.GREATER:
        within = sa.and_(above(bound), ~above(str(MAX_INTEGER)))
    else:
        within = ~sa.or_(above(bound), digits == bound)
    return sa.and_(value != "", sa.func.ltrim(value, "0123456789") == "", within)


# -- fields -----------------------------------------------------------------------------------------------


def field_conditions(resource: str, selector: FieldSelector) -> list[sa.ColumnElement[bool]]:
    """The conditions on `tables.Resource`, for `events` on `tables.Event`.

    Raises SelectorError for a field that the resource cannot be selected by.
    """
    known = selectable_fields(resource)
    conditions = []
    for term in selector.terms:
        item = known.get(term.field)
        if item is None:
            raise SelectorError(
                f"field selector: {resource} cannot be selected by {term.field!r}",
                f"select by one of {', '.join(sorted(known))}",
            )
        equal = _equals(resource, item, term.value)
        conditions.append(equal if term.equal else ~equal)
    return conditions


def _equals(resource: str, item: Selectable, value: str) -> sa.ColumnElement[bool]:
    if not item.at:
        return sa.true() if value == item.absent else sa.false()
    table = _EVENT if resource == EVENT.resource else _RESOURCE
    columns = {"metadata.name": table.name, "metadata.namespace": table.namespace}
    column = (columns | _COLUMNS.get(resource, {})).get(item.at[0])
    if column is not None and len(item.at) == 1:
        # The index over nodes leaves out empty ones, and is used only when the query does.
        return (
            sa.and_(column == value, column != "") if value and column is _RESOURCE.node else column == value
        )
    return _PerDialect(
        _first([_in_sqlite(table.body, path, item) for path in item.at], item) == _text(value),
        _first([_in_postgresql(table.body, path) for path in item.at], item) == _text(value),
    )


def _first(found: list[Any], item: Selectable) -> Any:
    return sa.func.coalesce(*(sa.func.nullif(text, "") for text in found), item.absent)


def _in_sqlite(body: Any, path: str, item: Selectable) -> Any:
    steps = "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in path.split("."))
    where: Any = (sa.cast(body, sa.Text()), sa.literal_column(f"'${steps}'"))
    if item.absent in ("true", "false"):  # its booleans are the numbers 0 and 1
        return sa.func.json_type(*where)
    return sa.cast(sa.func.json_extract(*where), sa.Text())


def _in_postgresql(body: Any, path: str) -> Any:
    steps: Any = sa.literal_column(f"'{{{path.replace('.', ',')}}}'")
    return json_in_postgresql(body).op("#>>", return_type=Text())(steps)


# -- inside -----------------------------------------------------------------------------------------------


def _text(value: str) -> sa.BindParameter[str]:
    return sa.bindparam(None, value, Text())


class _PerDialect(FunctionElement[bool]):
    """One condition, in the words of SQLite and in those of PostgreSQL."""

    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, sqlite: sa.ColumnElement[bool], postgresql: sa.ColumnElement[bool]) -> None:
        super().__init__(sqlite, postgresql)


@compiles(_PerDialect, "sqlite")
def _for_sqlite(element: _PerDialect, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(element.clauses.clauses[0], **options)})"


@compiles(_PerDialect, "postgresql")
def _for_postgresql(element: _PerDialect, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(element.clauses.clauses[1], **options)})"
