"""The conditions that rows belong to an agent, or to some."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from schemas.ids import Target


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
