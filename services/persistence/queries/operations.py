"""Operations, the newest first, and one with what has become of each of its targets."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import CommandState
from schemas.ids import Target
from schemas.operations import Operation
from services.persistence import tables
from services.persistence.database.types import json_in_postgresql
from services.persistence.queries.commands import MAX_LISTED, StoredError, StoredResult, as_text
from services.persistence.queries.paging import after, token
from services.persistence.targets import target_of

_OPERATION = tables.table_of(tables.Operation)
_TARGET = tables.table_of(tables.OperationTarget)
_COMMAND = tables.table_of(tables.Command)

WAITING = "waiting"
"""Among the counts: targets whose turn has not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTurn:
    """One target of an operation; without a command as long as its turn has not come."""

    target: Target
    command_id: str
    state: str
    """Of its command; empty without one."""
    started_at: datetime | None
    """When its command was accepted."""
    finished_at: datetime | None
    error: StoredError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOperation:
    """One operation."""

    operation: Operation
    """Of a list with its first target at least, and without parameters that are larger than MAX_LISTED."""
    has_params: bool
    state: str
    reason: str
    updated_at: datetime
    finished_at: datetime | None
    counts: dict[str, int]
    """Targets by the state of their command, and WAITING."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPage:
    """A part of the list of operations."""

    items: list[StoredOperation]
    continue_: str
    """What to ask with for the next page; empty on the last."""


async def list_operations(
    connection: AsyncConnection, states: tuple[str, ...] | None = None, *, limit: int, continue_: str = ""
) -> OperationPage:
    """Operations, the newest first. Raises BadContinue."""
    query = ("operations", states)
    columns = [column for column in _OPERATION.columns if column.name != "body"]
    shown, has_params = _listed(connection.dialect.name)
    found = await connection.execute(
        sa.select(*columns, shown.label("shown"), has_params.label("has_params"))
        .where(after(continue_, query, [_OPERATION.c.id], down=True))
        .where(sa.true() if states is None else _OPERATION.c.state.in_(states))
        .order_by(_OPERATION.c.id.desc())
        .limit(limit + 1)
    )
    rows = found.all()
    page = rows[:limit]
    counts = await _counts(connection, [row.id for row in page])
    return OperationPage(
        items=[_stored(row, row.shown, counts.get(row.id, {}), row.has_params) for row in page],
        continue_=token(query, [page[-1].id]) if len(rows) > limit else "",
    )


async def get_operation(connection: AsyncConnection, id: str) -> StoredOperation | None:
    """One operation."""
    row = (await connection.execute(sa.select(_OPERATION).where(_OPERATION.c.id == id))).first()
    return _stored(row, row.body, (await _counts(connection, [id])).get(id, {})) if row else None


async def list_turns(connection: AsyncConnection, id: str) -> list[StoredTurn]:
    """The targets of an operation, in the order in which they are taken."""
    names = ("state", "created_at", "finished_at", "result")
    found = await connection.execute(
        sa.select(_TARGET, *(_COMMAND.c[name] for name in names))
        .join_from(_TARGET, _COMMAND, _TARGET.c.command_id == _COMMAND.c.id, isouter=True)
        .where(_TARGET.c.operation_id == id)
        .order_by(_TARGET.c.position)
    )
    return [
        StoredTurn(
            target=target_of(row),
            command_id=row.command_id,
            state=row.state or "",
            started_at=row.created_at,
            finished_at=row.finished_at,
            error=msgspec.json.decode(row.result, type=StoredResult).error if row.result else None,
        )
        for row in found
    ]


async def _counts(connection: AsyncConnection, ids: list[str]) -> dict[str, dict[str, int]]:
    state = sa.func.coalesce(_COMMAND.c.state, WAITING)
    found = await connection.execute(
        sa.select(_TARGET.c.operation_id, state, sa.func.count())
        .join_from(_TARGET, _COMMAND, _TARGET.c.command_id == _COMMAND.c.id, isouter=True)
        .where(_TARGET.c.operation_id.in_(ids))
        .group_by(_TARGET.c.operation_id, state)
    )
    order = [WAITING, *CommandState]
    counts: dict[str, dict[str, int]] = {}
    for id_, name, number in sorted(found, key=lambda row: order.index(row[1])):
        counts.setdefault(id_, {})[name] = number
    return counts


def _listed(dialect: str) -> tuple[sa.ColumnElement[str], sa.ColumnElement[bool]]:
    """An operation as text for a list, and whether its parameters are in it.

    A list may have 500 of them, with parameters of a megabyte and 10,000 targets each.
    """
    text = as_text(dialect, _OPERATION.c.body)
    without: sa.ColumnElement[str]
    short: sa.ColumnElement[str]
    if dialect == "postgresql":
        whole = json_in_postgresql(_OPERATION.c.body)
        params: Any = whole["params"]
        fit = sa.func.octet_length(sa.cast(params, sa.Text)) <= MAX_LISTED
        kept = [part for name in _KEPT for part in (name, whole[name])]
        kept += ["targets", sa.func.json_build_array(whole["targets"][0])]
        without = sa.cast(sa.func.json_build_object(*kept), sa.Text)
        short = sa.cast(sa.func.json_build_object(*kept, "params", params), sa.Text)
    else:
        params = sa.func.json_extract(text, "$.params", type_=sa.Text)
        fit = sa.func.length(sa.cast(params, sa.LargeBinary)) <= MAX_LISTED
        first = sa.func.json_array(sa.func.json_extract(text, "$.targets[0]"))
        rest = sa.func.json_remove(text, "$.targets", "$.params")
        without = sa.func.json_set(rest, "$.targets", first, type_=sa.Text)
        short = sa.func.json_set(rest, "$.targets", first, "$.params", sa.func.json(params), type_=sa.Text)
    small = sa.func.length(_OPERATION.c.body) <= MAX_LISTED
    return sa.case((small, text), (fit, short), else_=without), sa.or_(small, fit)


_KEPT = [name for name in Operation.model_fields if name not in ("targets", "params")]


def _stored(row: Any, body: bytes | str, counts: dict[str, int], has_params: bool = True) -> StoredOperation:
    return StoredOperation(
        operation=Operation.model_validate_json(body),
        has_params=has_params,
        state=row.state,
        reason=row.reason,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        counts=counts,
    )
