"""Which objects a list is of, and where the database finds them."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from schemas.ids import Target
from schemas.selectors import FieldSelector, LabelSelector, Operator, Requirement
from services.persistence import tables
from services.persistence.queries.owners import is_owned_by
from services.persistence.queries.selecting import field_conditions, label_conditions
from services.persistence.queries.sorting import OWNER
from services.persistence.targets import any_target, is_same_object

_RESOURCE = tables.table_of(tables.Resource)
_LABEL = tables.table_of(tables.Label).alias("found")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceFilter:
    """Which objects; what is not set does not matter."""

    resource: str = ""
    """kubectl's plural; empty for all, for counts only."""
    targets: tuple[Target, ...] | None = None
    namespace: str | None = None
    """Empty for cluster-scoped objects."""
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    node: str | None = None
    owner: tuple[str, str] | None = None
    """Kind and name of an owner, or of an owner's owner."""
    q: str | None = None
    """A piece of its name, namespace, cluster, node or owner, in any case (of ASCII)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the rows of a filter are found."""

    source: sa.FromClause
    key: Any
    """The columns of the key to sort by: those of the index that is read in their order."""
    keys: sa.FromClause
    """What has the columns of `key`, and of all `conditions`: a part of `source`."""
    conditions: list[sa.ColumnElement[bool]]


class _InThisOrder(sa.Join):
    """A join whose left side SQLite reads first: it would lead with the rows where it knows their cluster."""

    inherit_cache = True


@compiles(_InThisOrder, "sqlite")
def _cross_join(join: _InThisOrder, compiler: Any, **options: Any) -> str:
    options = {**options, "asfrom": True}
    left, right = (compiler.process(side, **options) for side in (join.left, join.right))
    return f"{left} CROSS JOIN {right} ON {compiler.process(join.onclause, **options)}"


def find(where: ResourceFilter, dialect: str) -> Found:
    """Raises SelectorError for a field that the resource cannot be selected by.

    On SQLite the first label that has to be there leads: its pairs lie in the order of their objects' keys,
    so that 10,000 of 100,000 are found without a look at the others and without sorting. PostgreSQL has an
    index over the labels, and chooses by itself.
    """
    requirements = where.labels.requirements if where.labels else ()
    wanted = (Operator.IN, Operator.EXISTS)
    leading = None
    if dialect == "sqlite" and where.resource:
        leading = next((some for some in requirements if some.operator in wanted), None)
    rest = LabelSelector(tuple(some for some in requirements if some is not leading))
    others = [*label_conditions(rest), *_conditions(where, dialect)]
    if leading is None:
        return Found(_RESOURCE, _RESOURCE.c, _RESOURCE, [*_key_conditions(where, _RESOURCE.c), *others])
    both = _InThisOrder(_LABEL, _RESOURCE, is_same_object(_LABEL.c, _RESOURCE.c))
    conditions = [*_leads(leading), *_key_conditions(where, _LABEL.c), *others]
    return Found(both, _LABEL.c, both if others else _LABEL, conditions)


def _leads(requirement: Requirement) -> list[sa.ColumnElement[bool]]:
    columns: Any = _LABEL.c
    has_key = columns.key == requirement.key
    if requirement.operator is Operator.EXISTS:
        return [has_key]
    values = requirement.values
    return [has_key, columns.value == values[0] if len(values) == 1 else columns.value.in_(values)]


def _key_conditions(where: ResourceFilter, columns: Any) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if where.resource:
        conditions.append(columns.resource == where.resource)
    if where.targets is not None:
        conditions.append(any_target(columns, where.targets))
    if where.namespace is not None:
        conditions.append(columns.namespace == where.namespace)
    return conditions


def _conditions(where: ResourceFilter, dialect: str) -> list[sa.ColumnElement[bool]]:
    columns: Any = _RESOURCE.c
    conditions: list[sa.ColumnElement[bool]] = []
    if where.fields is not None:
        conditions += field_conditions(where.resource, where.fields)
    # The indexes leave out empty values, and are used only when the query does.
    if where.node is not None:
        conditions += [columns.node == where.node, columns.node != ""]
    if where.owner is not None:
        within = [any_target(columns, where.targets)] if where.targets is not None else []
        conditions.append(is_owned_by(*where.owner, *within, dialect=dialect))
    if where.q:
        searched = (columns.name, columns.namespace, columns.target_id, columns.node, OWNER)
        conditions.append(sa.or_(*(text.icontains(where.q, autoescape=True) for text in searched)))
    return conditions
