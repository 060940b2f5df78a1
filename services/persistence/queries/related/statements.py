"""The statements by which related objects are found. They are made once: making one takes as long as its
answer does. For the same reason, and since each is a round trip, many questions are parts of one statement.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

import sqlalchemy as sa

from schemas.kubernetes.event import EVENT
from schemas.kubernetes.pod import POD
from schemas.selectors import LabelSelector, Operator
from services.persistence import tables
from services.persistence.database.dialects import keys_table
from services.persistence.database.types import JSONValue, Text
from services.persistence.queries.selecting import label_conditions

RESOURCE = tables.table_of(tables.Resource)
_LABEL = tables.table_of(tables.Label)
_EVENT = tables.table_of(tables.Event)
_EPOCH = tables.table_of(tables.Epoch)
_EMPTY: Any = sa.literal_column("''")
"""The indexes over nodes and owners leave out empty values, and are used only when the query does."""
_IS_POD = RESOURCE.c.resource == sa.literal_column(f"'{POD.resource}'")
_TARGET = ("target_kind", "target_id")
ANY = "*"
"""No namespace in particular; nothing can be called so."""
EVENTS_OF_EACH = 10
"""Events of each object but the root: the newest."""
NEEDLES = 9
"""Texts that bodies are searched for at most: each is another pass over each body."""


class Part(StrEnum):
    """One question in a statement; its parameters are named `named(place, …)`."""

    KEYS = "keys"
    """Objects by resource, namespace and name: `keys`."""
    OWNED = "owned"
    """What is owned by the `keys`, by kind, name and namespace (or ANY), `limit` of them."""
    ON_NODES = "on-nodes"
    """The pods on the nodes `keys`, `limit` of them."""
    SELECTED = "selected"
    """The pods in `namespace` that have all `labels`, `limit` of them. For SQLite `key` and `value` are one
    of the labels: it looks at each pod of the namespace, unless it is told where to begin."""
    NAMING = "naming"
    """Objects whose body has one of `needle_0`, …, or `all`; `keys` are resources and namespaces."""
    NAMING_ANYWHERE = "naming-anywhere"
    """The same; `keys` are resources."""
    EVENTS = "events"
    """Those about the object `kind`, `name`, in `namespace_0` or `namespace_1`: the one seen last first."""
    EVENTS_OF_EACH = "events-of-each"
    """The newest about each of the `keys`, by kind, namespace and name: EVENTS_OF_EACH, in all `limit`."""


def named(place: int, name: str) -> str:
    """A parameter of the part at a place in its statement."""
    return f"{name}_of_{place}"


def needle(number: int) -> str:
    """The parameter for a text that bodies are searched for; NULL for none."""
    return f"needle_{number}"


def _as_read(column: Any) -> Any:
    """As the driver reads it: the type would copy each value once more."""
    return sa.type_coerce(column, sa.types.NullType()).label(column.name)


_NAMES = ("resource", "namespace", "name", "kind", "uid", "state", "summary", "body")
_COLUMNS: list[Any] = [
    *(RESOURCE.c[name] for name in _NAMES[:-2]),
    *(_as_read(RESOURCE.c[name]) for name in _NAMES[-2:]),
]
_EVENT_COLUMNS: list[Any] = [
    sa.literal_column(f"'{EVENT.resource}'", sa.Text()).label("resource"),
    _EVENT.c.namespace,
    _EVENT.c.uid.label("name"),
    sa.literal_column(f"'{EVENT.kind}'", sa.Text()).label("kind"),
    _EVENT.c.uid,
    _EVENT.c.type.label("state"),
    _as_read(_EVENT.c.summary),
    _as_read(_EVENT.c.body),
]


def _text(name: str) -> Any:
    return sa.bindparam(name, type_=Text())


def _ours(columns: Any) -> sa.ColumnElement[bool]:
    """Of the agent `target_kind`, `target_id`."""
    return sa.and_(*(columns[name] == _text(name) for name in _TARGET))


# --- one object ------------------------------------------------------------------------------------------

ONE = sa.select(*_COLUMNS).where(
    _ours(RESOURCE.c), *(RESOURCE.c[name] == _text(name) for name in ("resource", "namespace", "name"))
)
ONE_EVENT = sa.select(*_EVENT_COLUMNS).where(
    _EVENT.c.cluster_id == _text("target_id"),
    _EVENT.c.uid == _text("name"),
    _EVENT.c.namespace == _text("namespace"),
)
SCOPE = sa.select(_EPOCH.c.scope).where(_ours(_EPOCH.c))


# --- many questions --------------------------------------------------------------------------------------


@lru_cache(200)
def together(dialect: str, parts: tuple[Part, ...]) -> sa.Executable:
    """The rows of each part, in their order, with its place as the last column."""
    numbered = (
        _PARTS[part](dialect, lambda name, place=place: named(place, name))  # type: ignore[misc]
        .add_columns(sa.literal_column(str(place), sa.Integer()).label("place"))
        .subquery()
        for place, part in enumerate(parts)
    )
    return sa.union_all(*(sa.select(*(one.c[name] for name in (*_NAMES, "place"))) for one in numbered))


@cache
def counting(dialect: str, part: Part) -> sa.Select[Any]:
    """How many rows a part at place 0 finds, within its limit."""
    return count_of(_PARTS[part](dialect, lambda name: named(0, name)))


def count_of(statement: sa.Select[Any]) -> sa.Select[Any]:
    """How many rows it finds, within its limit."""
    narrow: sa.Select[Any] = statement.order_by(None).with_only_columns(statement.selected_columns[0])
    return sa.select(sa.func.count()).select_from(narrow.subquery())


Names = Callable[[str], str]
"""How a part calls its parameters."""


def _limit(call: Names) -> Any:
    return sa.bindparam(call("limit"), type_=sa.Integer())


def _given(
    dialect: str, call: Names, *names: str
) -> tuple[sa.FromClause, dict[str, sa.ColumnElement[str]], sa.ColumnElement[bool]]:
    """Keys as a table, and the condition that rows are of their agent. They have the agent's in front: of a
    condition that is the same for all of them, SQLite would rather read all that meets it than look up each.
    """
    given, key = keys_table(dialect, (*_TARGET, *names), call("keys"))
    return given, key, sa.and_(*(RESOURCE.c[name] == key[name] for name in _TARGET))


def _in_order(select: sa.Select[Any], call: Names) -> sa.Select[Any]:
    return select.order_by(*(RESOURCE.c[name] for name in _NAMES[:3])).limit(_limit(call))


def _of_each(
    dialect: str,
    call: Names,
    given: sa.FromClause,
    *conditions: sa.ColumnElement[bool],
    in_order: bool = True,
) -> sa.Select[Any]:
    """Those that meet the conditions for one of the given.

    `in_order`: by resource, namespace and name. SQLite would sort thousands of whole rows by it.
    """
    if dialect == "postgresql":
        # It would read every row that might be one: it takes the given for a hundred, whatever they are.
        each = _in_order(sa.select(*_COLUMNS).where(*conditions), call).correlate(given).lateral("each")
        shown = [each.c[name] for name in _NAMES]
        return sa.select(*shown).join_from(given, each, sa.true()).order_by(*shown[:3]).limit(_limit(call))
    found = sa.select(*_COLUMNS).join_from(given, RESOURCE, sa.and_(*conditions))
    return _in_order(found, call) if in_order else found.limit(_limit(call))


@cache
def some_of_each(dialect: str) -> sa.Select[Any]:
    """The resource, kind and namespace of the first object of each of the `keys`, by resource."""
    given, key, _ = _given(dialect, str, "resource")
    row = RESOURCE.alias()
    ours = [row.c[name] == key[name] for name in (*_TARGET, "resource")]
    order = (row.c.namespace, row.c.name)
    kind, namespace = (
        sa.select(column).where(*ours).order_by(*order).limit(1).correlate(given).scalar_subquery()
        for column in (row.c.kind, row.c.namespace)
    )
    found = sa.select(key["resource"], kind.label("kind"), namespace.label("namespace")).select_from(given)
    some = found.subquery()
    return sa.select(some).where(some.c.kind.is_not(None))


def _by_keys(dialect: str, call: Names) -> sa.Select[Any]:
    names = _NAMES[:3]
    given, key, ours = _given(dialect, call, *names)
    same = sa.and_(ours, *(RESOURCE.c[name] == key[name] for name in names))
    return sa.select(*_COLUMNS).join_from(given, RESOURCE, same)


def _owned(dialect: str, call: Names) -> sa.Select[Any]:
    given, key, ours = _given(dialect, call, "kind", "name", "namespace")
    columns = RESOURCE.c
    place = sa.or_(key["namespace"] == sa.literal_column(f"'{ANY}'"), columns.namespace == key["namespace"])
    is_owner = sa.and_(columns.owner_name == key["name"], columns.owner_kind == key["kind"])
    return _of_each(dialect, call, given, is_owner, columns.owner_name != _EMPTY, ours, place)


def _on_nodes(dialect: str, call: Names) -> sa.Select[Any]:
    given, key, ours = _given(dialect, call, "node")
    node = RESOURCE.c.node
    return _of_each(dialect, call, given, node == key["node"], node != _EMPTY, _IS_POD, ours)


def _selected(dialect: str, call: Names) -> sa.Select[Any]:
    columns, namespace = RESOURCE.c, _text(call("namespace"))
    labels: Any = sa.bindparam(call("labels"), type_=JSONValue())
    conditions = [_IS_POD, _ours(columns), columns.namespace == namespace]
    if dialect == "postgresql":
        conditions.append(columns.labels.op("@>", is_comparison=True)(labels))
        return _in_order(sa.select(*_COLUMNS).where(*conditions), call)
    first = _pods_with(namespace, _text(call("key")), _text(call("value")))
    wanted = sa.func.json_each(labels).table_valued(sa.column("key", Text()), sa.column("value", Text()))
    others = _pods_with(namespace, wanted.c.key, wanted.c.value).correlate(wanted)
    lacks = sa.select(1).select_from(wanted).where(columns.name.not_in(others)).correlate(RESOURCE)
    return _in_order(
        sa.select(*_COLUMNS).where(*conditions, columns.name.in_(first), ~sa.exists(lacks)), call
    )


def _pods_with(namespace: Any, key: Any, value: Any) -> sa.Select[Any]:
    label = _LABEL.alias().c
    return sa.select(label.name).where(
        label.resource == sa.literal_column(f"'{POD.resource}'"),
        _ours(label),
        label.namespace == namespace,
        label.key == key,
        label.value == value,
    )


def _naming(dialect: str, call: Names) -> sa.Select[Any]:
    given, key, ours = _given(dialect, call, "resource", "namespace")
    columns = RESOURCE.c
    place = sa.and_(columns.resource == key["resource"], columns.namespace == key["namespace"])
    return _of_each(dialect, call, given, ours, place, _has_needle(dialect, call), in_order=False)


def _naming_anywhere(dialect: str, call: Names) -> sa.Select[Any]:
    given, key, ours = _given(dialect, call, "resource")
    is_one = RESOURCE.c.resource == key["resource"]
    return _of_each(dialect, call, given, ours, is_one, _has_needle(dialect, call), in_order=False)


def _has_needle(dialect: str, call: Names) -> sa.ColumnElement[bool]:
    every = sa.bindparam(call("all"), type_=sa.Integer()) == sa.literal_column("1")
    return sa.or_(every, *(_has(dialect, call(needle(number))) for number in range(NEEDLES)))


def _has(dialect: str, name: str) -> sa.ColumnElement[bool]:
    body, text = RESOURCE.c.body, sa.bindparam(name, type_=sa.LargeBinary())
    if dialect == "sqlite":
        return sa.func.instr(body, text) > sa.literal_column("0")
    return sa.func.position(text.op("IN")(body)) > sa.literal_column("0")


def selected(
    dialect: str, target: tuple[str, str], namespace: str, selector: LabelSelector
) -> sa.Select[Any]:
    """The pods that a selector selects which has expressions; not made once, since no two need be alike."""
    columns = RESOURCE.c
    place = [columns.namespace == namespace]
    place += [columns[name] == value for name, value in zip(_TARGET, target, strict=True)]
    conditions = [columns.resource == POD.resource, *place]
    equal = [item for item in selector.requirements if item.operator is Operator.IN]
    if dialect == "sqlite" and equal:
        # As for Part.SELECTED.
        first = equal[-1]
        pairs = sa.select(_LABEL.c.name).where(
            _LABEL.c.resource == POD.resource,
            _LABEL.c.namespace == namespace,
            *(_LABEL.c[name] == value for name, value in zip(_TARGET, target, strict=True)),
            _LABEL.c.key == first.key,
            _LABEL.c.value.in_(first.values),
        )
        conditions.append(columns.name.in_(pairs))
    return _in_order(sa.select(*_COLUMNS).where(*conditions, *label_conditions(selector)), str)


# --- Events ----------------------------------------------------------------------------------------------


def _events(dialect: str, call: Names) -> sa.Select[Any]:  # noqa: ARG001 - it is a part like the others
    # One namespace after the other: of each the index has them in order.
    pages = [
        sa.select(*_EVENT_COLUMNS, _EVENT.c.last_seen)
        .where(
            _EVENT.c.cluster_id == _text("target_id"),
            _EVENT.c.involved_kind == _text(call("kind")),
            _EVENT.c.involved_namespace == _text(call(f"namespace_{number}")),
            _EVENT.c.involved_name == _text(call("name")),
        )
        .order_by(_EVENT.c.last_seen.desc(), _EVENT.c.uid)
        .limit(_limit(call))
        for number in range(2)
    ]
    both = sa.union_all(*(sa.select(page.subquery()) for page in pages)).subquery()
    shown = [both.c[name] for name in _NAMES]
    return sa.select(*shown).order_by(both.c.last_seen.desc(), both.c.uid).limit(_limit(call))


def _events_of_each(dialect: str, call: Names) -> sa.Select[Any]:
    given, key, _ = _given(dialect, call, "kind", "namespace", "name")
    order = _EVENT.c.last_seen.desc()
    if dialect == "postgresql":
        newest = sa.select(*_EVENT_COLUMNS, _EVENT.c.last_seen).where(_about(_EVENT.c, key)).order_by(order)
        each = newest.correlate(given).limit(EVENTS_OF_EACH).lateral("each")
        found = sa.select(*(each.c[name] for name in _NAMES)).join_from(given, each, sa.true())
        return found.order_by(each.c.last_seen.desc(), each.c.uid).limit(_limit(call))
    other = _EVENT.alias()
    uids = sa.select(other.c.uid).where(_about(other.c, key)).order_by(other.c.last_seen.desc())
    newest_uids = uids.limit(EVENTS_OF_EACH).correlate(given)
    ours = sa.and_(_EVENT.c.cluster_id == key["target_id"], _EVENT.c.uid.in_(newest_uids))
    found = sa.select(*_EVENT_COLUMNS).join_from(given, _EVENT, ours)
    return found.order_by(order, _EVENT.c.uid).limit(_limit(call))


@cache
def all_events_of_each(dialect: str) -> sa.Select[Any]:
    """How many Events are about one of the `keys`, by kind, namespace and name; within the `limit`."""
    given, key, _ = _given(dialect, str, "kind", "namespace", "name")
    found = sa.select(_EVENT.c.uid).join_from(given, _EVENT, _about(_EVENT.c, key)).limit(_limit(str))
    return count_of(found)


def _about(columns: Any, key: dict[str, sa.ColumnElement[str]]) -> sa.ColumnElement[bool]:
    return sa.and_(
        columns.cluster_id == key["target_id"],
        *(columns[f"involved_{name}"] == key[name] for name in ("kind", "namespace", "name")),
    )


_PARTS: dict[Part, Callable[[str, Names], sa.Select[Any]]] = {
    Part.KEYS: _by_keys,
    Part.OWNED: _owned,
    Part.ON_NODES: _on_nodes,
    Part.SELECTED: _selected,
    Part.NAMING: _naming,
    Part.NAMING_ANYWHERE: _naming_anywhere,
    Part.EVENTS: _events,
    Part.EVENTS_OF_EACH: _events_of_each,
}
