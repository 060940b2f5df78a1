"""The agent that a row belongs to, and the conditions that rows belong to one, or are of the same object."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from schemas.ids import Target
from services.persistence import tables


def target_of(row: Any) -> Target:
    """The agent that a row belongs to."""
    return Target.parse(row.target_kind, row.target_id)


def is_target(columns: Any, target: Target) -> sa.ColumnElement[bool]:
    """The condition that a row belongs to an agent."""
    return sa.and_(columns.target_kind == target.kind.value, columns.target_id == target.id)


def any_target(columns: Any, targets: Sequence[Target]) -> sa.ColumnElement[bool]:
    """The condition that a row belongs to one of some agents."""
    if len(targets) == 1:
        return is_target(columns, targets[0])
    ids: dict[str, list[str]] = {}
    for target in targets:
        ids.setdefault(target.kind.value, []).append(target.id)
    return sa.or_(
        sa.false(),
        *(sa.and_(columns.target_kind == kind, columns.target_id.in_(some)) for kind, some in ids.items()),
    )


def is_same_agent(one: Any, other: Any) -> sa.ColumnElement[bool]:
    """The condition that rows of two tables belong to the same agent."""
    return sa.and_(one.target_kind == other.target_kind, one.target_id == other.target_id)


def is_same_object(one: Any, other: Any) -> sa.ColumnElement[bool]:
    """The condition that rows of two tables are of the same object."""
    return sa.and_(*(one[name] == other[name] for name in tables.OBJECT_KEY))
