"""The statements by which related objects are found. They are made once: making one takes as long as its
answer does."""

from functools import cache
from typing import Any

import sqlalchemy as sa

from schemas.kubernetes.event import EVENT
from schemas.kubernetes.pod import POD
from schemas.selectors import LabelSelector, Operator
from services.persistence import tables
from services.persistence.database.dialects import keys_table
from services.persistence.queries.selecting import label_conditions

RESOURCE = tables.table_of(tables.Resource)
_LABEL = tables.table_of(tables.Label)
_EVENT = tables.table_of(tables.Event)
_EPOCH = tables.table_of(tables.Epoch)
_ORDER = [RESOURCE.c[name] for name in ("resource", "namespace", "name")]
_EMPTY: Any = sa.literal_column("''")
"""The indexes over nodes and owners leave out empty values, and are used only when the query does."""
ANY = "*"
"""No namespace in particular; nothing can be called so."""
EVENTS_OF_EACH = 10
"""Events of each object but the root: the newest."""

_NAMES = ("resource", "namespace", "name", "kind", "uid", "state", "summary", "body")
_COLUMNS: list[Any] = [RESOURCE.c[name] for name in _NAMES]
_EVENT_COLUMNS: list[Any] = [
    sa.literal_column(f"'{EVENT.resource}'", sa.Text()).label("resource"),
    _EVENT.c.namespace,
    _EVENT.c.uid.label("name"),
    sa.literal_column(f"'{EVENT.kind}'", sa.Text()).label("kind"),
    _EVENT.c.uid,
    _EVENT.c.type.label("state"),
    _EVENT.c.summary,
    _EVENT.c.body,
]
_LIMIT: Any = sa.bindparam("limit", type_=sa.Integer())
_NAME: Any = sa.bindparam("name", type_=sa.Text())


def _ours(columns: Any) -> sa.ColumnElement[bool]:
    """Of the agent `target_kind`, `target_id`."""
    return sa.and_(*(columns[name] == sa.bindparam(name, type_=sa.Text()) for name in _TARGET))


_TARGET = ("target_kind", "target_id")


def _given(dialect: str, *names: str) -> tuple[sa.FromClause, dict[str, sa.ColumnElement[str]]]:
    """Keys as a table. They have the agent's in front: of a condition that is the same for all of them,
    SQLite would rather read all that meets it than look up each."""
    return keys_table(dialect, (*_TARGET, *names))


def _in_order(select: sa.Select[Any]) -> sa.Select[Any]:
    return select.order_by(*_ORDER).limit(_LIMIT)


def counting(statement: sa.Select[Any]) -> sa.Select[Any]:
    """How many rows it finds, within its limit."""
    narrow: sa.Select[Any] = statement.order_by(None).with_only_columns(statement.selected_columns[0])
    return sa.select(sa.func.count()).select_from(narrow.subquery())


# --- one object ------------------------------------------------------------------------------------------

ONE = sa.select(*_COLUMNS).where(
    _ours(RESOURCE.c),
    *(RESOURCE.c[name] == sa.bindparam(name, type_=sa.Text()) for name in ("resource", "namespace", "name")),
)
ONE_EVENT = sa.select(*_EVENT_COLUMNS).where(
    _EVENT.c.cluster_id == sa.bindparam("target_id", type_=sa.Text()),
    _EVENT.c.uid == _NAME,
    _EVENT.c.namespace == sa.bindparam("namespace", type_=sa.Text()),
)
SCOPE = sa.select(_EPOCH.c.scope).where(_ours(_EPOCH.c))
SOME_OF = (
    sa.select(RESOURCE.c.kind, RESOURCE.c.namespace)
    .where(RESOURCE.c.resource == sa.bindparam("resource", type_=sa.Text()), _ours(RESOURCE.c))
    .limit(1)
)
"""Any one object of a resource."""


# --- many objects ----------------------------------------------------------------------------------------


@cache
def by_keys(dialect: str) -> sa.Select[Any]:
    """Those with these resources, namespaces and names."""
    given, key = _given(dialect, "resource", "namespace", "name")
    same = sa.and_(*(RESOURCE.c[name] == key[name] for name in key))
    return sa.select(*_COLUMNS).join_from(given, RESOURCE, same)


@cache
def owned(dialect: str) -> sa.Select[Any]:
    """Those that the given own, by kind, name and namespace; the namespace may be ANY."""
    given, key = _given(dialect, "kind", "name", "namespace")
    columns = RESOURCE.c
    is_owned = sa.and_(
        columns.owner_name == key["name"],
        columns.owner_kind == key["kind"],
        columns.owner_name != _EMPTY,
        *(columns[name] == key[name] for name in _TARGET),
        sa.or_(key["namespace"] == sa.literal_column(f"'{ANY}'"), columns.namespace == key["namespace"]),
    )
    if dialect == "postgresql":
        # It would read every row that has an owner: it takes the given for a hundred, whatever they are.
        each = _in_order(sa.select(*_COLUMNS).where(is_owned)).correlate(given).lateral("each")
        shown = [each.c[name] for name in _NAMES]
        return sa.select(*shown).join_from(given, each, sa.true()).order_by(*shown[:3]).limit(_LIMIT)
    return _in_order(sa.select(*_COLUMNS).join_from(given, RESOURCE, is_owned))


ON_NODES = _in_order(
    sa.select(*_COLUMNS).where(
        RESOURCE.c.node.in_(sa.bindparam("nodes", expanding=True)),
        RESOURCE.c.node != _EMPTY,
        RESOURCE.c.resource == sa.literal_column(f"'{POD.resource}'"),
        _ours(RESOURCE.c),
    )
)
"""The pods on `nodes`."""


@cache
def naming(dialect: str, needles: int, *, anywhere: bool) -> sa.Select[Any]:
    """Objects of `resources`, in `namespaces` or anywhere, whose body has one of `needle_0`, …; none: all."""
    columns = RESOURCE.c
    conditions = [columns.resource.in_(sa.bindparam("resources", expanding=True)), _ours(columns)]
    if not anywhere:
        conditions.append(columns.namespace.in_(sa.bindparam("namespaces", expanding=True)))
    if needles:
        conditions.append(sa.or_(*(_has(dialect, columns.body, number) for number in range(needles))))
    return _in_order(sa.select(*_COLUMNS).where(*conditions))


def _has(dialect: str, body: Any, number: int) -> sa.ColumnElement[bool]:
    needle = sa.bindparam(f"needle_{number}", type_=sa.LargeBinary())
    if dialect == "sqlite":
        return sa.func.instr(body, needle) > sa.literal_column("0")
    return sa.func.position(needle.op("IN")(body)) > sa.literal_column("0")


def selected(
    dialect: str, target: tuple[str, str], namespace: str, selector: LabelSelector
) -> sa.Select[Any]:
    """The pods that one selector selects; not made once, since no two need to be alike."""
    columns = RESOURCE.c
    place = [columns.namespace == namespace]
    place += [columns[name] == value for name, value in zip(_TARGET, target, strict=True)]
    conditions = [columns.resource == POD.resource, *place]
    equal = [item for item in selector.requirements if item.operator is Operator.IN]
    if dialect == "sqlite" and equal:
        # SQLite looks at each pod of the namespace, unless it is told where to begin.
        first = equal[-1]
        pairs = sa.select(_LABEL.c.name).where(
            _LABEL.c.resource == POD.resource,
            _LABEL.c.namespace == namespace,
            *(_LABEL.c[name] == value for name, value in zip(_TARGET, target, strict=True)),
            _LABEL.c.key == first.key,
            _LABEL.c.value.in_(first.values),
        )
        conditions.append(columns.name.in_(pairs))
    return _in_order(sa.select(*_COLUMNS).where(*conditions, *label_conditions(selector)))


def together(several: list[sa.Select[Any]]) -> sa.CompoundSelect[Any]:
    """The rows of each, with its number as the last column."""
    numbered = (
        one.add_columns(sa.literal_column(str(number), sa.Integer()).label("which"))
        for number, one in enumerate(several)
    )
    return sa.union_all(*(sa.select(one.subquery()) for one in numbered))


# --- Events ----------------------------------------------------------------------------------------------


@cache
def events_of(namespaces: int) -> sa.Select[Any]:
    """Those about the object `kind`, `name`, in `namespace_0`, …: the one seen last first."""
    # One namespace after the other: of each the index has them in order.
    pages = [
        sa.select(*_EVENT_COLUMNS, _EVENT.c.last_seen)
        .where(
            _EVENT.c.cluster_id == sa.bindparam("target_id", type_=sa.Text()),
            _EVENT.c.involved_kind == sa.bindparam("kind", type_=sa.Text()),
            _EVENT.c.involved_namespace == sa.bindparam(f"namespace_{number}", type_=sa.Text()),
            _EVENT.c.involved_name == _NAME,
        )
        .order_by(_EVENT.c.last_seen.desc(), _EVENT.c.uid)
        .limit(_LIMIT)
        for number in range(namespaces)
    ]
    both = sa.union_all(*(sa.select(page.subquery()) for page in pages)).subquery()
    shown = [both.c[name] for name in _NAMES]
    return sa.select(*shown).order_by(both.c.last_seen.desc(), both.c.uid).limit(_LIMIT)


@cache
def events_of_each(dialect: str) -> sa.Select[Any]:
    """The newest Events about each of the given, by kind, namespace and name: EVENTS_OF_EACH."""
    given, key = _given(dialect, "kind", "namespace", "name")
    order = _EVENT.c.last_seen.desc()
    if dialect == "postgresql":
        newest = sa.select(*_EVENT_COLUMNS, _EVENT.c.last_seen).where(_about(_EVENT.c, key)).order_by(order)
        each = newest.correlate(given).limit(EVENTS_OF_EACH).lateral("each")
        found = sa.select(*(each.c[name] for name in _NAMES)).join_from(given, each, sa.true())
        return found.order_by(each.c.last_seen.desc(), each.c.uid).limit(_LIMIT)
    other = _EVENT.alias()
    uids = sa.select(other.c.uid).where(_about(other.c, key)).order_by(other.c.last_seen.desc())
    newest_uids = uids.limit(EVENTS_OF_EACH).correlate(given)
    ours = sa.and_(_EVENT.c.cluster_id == key["target_id"], _EVENT.c.uid.in_(newest_uids))
    found = sa.select(*_EVENT_COLUMNS).join_from(given, _EVENT, ours)
    return found.order_by(order, _EVENT.c.uid).limit(_LIMIT)


@cache
def all_events_of_each(dialect: str) -> sa.Select[Any]:
    """Every Event about one of the given."""
    given, key = _given(dialect, "kind", "namespace", "name")
    return sa.select(_EVENT.c.uid).join_from(given, _EVENT, _about(_EVENT.c, key)).limit(_LIMIT)


def _about(columns: Any, key: dict[str, sa.ColumnElement[str]]) -> sa.ColumnElement[bool]:
    return sa.and_(
        columns.cluster_id == key["target_id"],
        *(columns[f"involved_{name}"] == key[name] for name in ("kind", "namespace", "name")),
    )
