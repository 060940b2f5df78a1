"""Commands, the newest first, and one with its result."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Raw, Struct

from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.engine import Session
from services.persistence.database.types import json_in_postgresql
from services.persistence.queries.paging import after, token
from services.persistence.targets import any_target, target_of

_COMMAND = tables.table_of(tables.Command)
_PART = tables.table_of(tables.CommandPart)
_LARGE = ("result", "evidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFilter:
    """Which commands; what is not set does not matter."""

    targets: tuple[Target, ...] | None = None
    states: tuple[str, ...] | None = None
    action: str | None = None
    actor: str | None = None
    operation: str | None = None


class StoredBody(Struct, frozen=True):
    """What `schemas.commands.Command` has beside the columns."""

    object: dict[str, str] = {}
    params: Raw = Raw(b"{}")
    dry_run: bool = False
    instance: str = ""


class StoredError(Struct, frozen=True):
    """See `schemas.commands.CommandError`."""

    code: str
    message: str
    status: int = 0
    reason: str = ""


class StoredResult(Struct, frozen=True):
    """See `schemas.commands.CommandCompleted`; `data` as it was sent."""

    data: Raw = Raw(b"null")
    parts: int = 0
    error: StoredError | None = None
    warnings: list[str] | None = None


class StoredProgress(Struct, frozen=True):
    """See `schemas.commands.CommandProgressed`."""

    sequence: int
    at: datetime
    message: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCommand:
    """One command; of a list without the data of its result."""

    row: Any
    """The columns of `tables.Command`, without result and evidence."""
    target: Target
    body: StoredBody
    progress: StoredProgress | None
    result: StoredResult | None
    evidence: Raw | None
    """`schemas.commands.CommandCompleted` as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPage:
    """A part of a list of commands."""

    items: list[StoredCommand]
    continue_: str
    """What to ask with for the next page; empty on the last."""


async def list_commands(
    session: Session, where: CommandFilter, *, limit: int, continue_: str = ""
) -> CommandPage:
    """Commands by the time of their acceptance, the newest first. Raises BadContinue."""
    connection = await session.connection()
    columns = _COMMAND.c
    conditions = [after(continue_, ("commands", where), [columns.id], down=True)]
    if where.targets is not None:
        conditions.append(any_target(columns, where.targets))
    if where.states is not None:
        conditions.append(columns.state.in_(where.states))
    if where.operation is not None:
        conditions += [
            columns.operation_id == where.operation,
            columns.operation_id != sa.literal_column("''"),
        ]
    conditions += [
        columns[name] == value
        for name, value in (("action", where.action), ("actor", where.actor))
        if value is not None
    ]
    shown = [column for column in columns if column.name not in _LARGE]
    outcome = _without_data(connection.dialect.name)
    found = await connection.execute(
        sa.select(*shown, outcome.label("outcome"))
        .where(*conditions)
        .order_by(columns.id.desc())
        .limit(limit + 1)
    )
    rows = found.all()
    page = rows[:limit]
    return CommandPage(
        items=[_stored(row, row.outcome, None) for row in page],
        continue_=token(("commands", where), [page[-1].id]) if len(rows) > limit else "",
    )


async def get_command(session: Session, id: str) -> StoredCommand | None:
    """One command with its result, whose data is put together from its parts."""
    connection = await session.connection()
    row = (await connection.execute(sa.select(_COMMAND).where(_COMMAND.c.id == id))).first()
    if row is None:
        return None
    stored = _stored(row, row.result, row.evidence)
    if not (stored.result and stored.result.parts):
        return stored
    slices = await connection.scalars(
        sa.select(_PART.c.data).where(_PART.c.command_id == id).order_by(_PART.c.index)
    )
    whole = msgspec.structs.replace(stored.result, data=Raw("".join(slices).encode()))
    return StoredCommand(
        row=row,
        target=stored.target,
        body=stored.body,
        progress=stored.progress,
        result=whole,
        evidence=stored.evidence,
    )


async def command_state(session: Session, id: str) -> str | None:
    """The state of one command; None when there is none."""
    connection = await session.connection()
    state: str | None = await connection.scalar(sa.select(_COMMAND.c.state).where(_COMMAND.c.id == id))
    return state


def _without_data(dialect: str) -> sa.ColumnElement[Any]:
    """A result's `error` and `warnings` as JSON: its data may be of a megabyte, 500 times."""
    members = ("error", "warnings")
    if dialect == "postgresql":
        result: Any = json_in_postgresql(_COMMAND.c.result)
        made = sa.func.json_build_object(*(part for name in members for part in (name, result[name])))
    else:
        result = sa.cast(_COMMAND.c.result, sa.Text())
        made = sa.func.json_object(
            *(part for name in members for part in (name, sa.func.json_extract(result, f"$.{name}")))
        )
    return sa.case((_COMMAND.c.result.is_not(None), sa.cast(made, sa.Text())))


def _stored(row: Any, result: bytes | str | None, evidence: bytes | None) -> StoredCommand:
    return StoredCommand(
        row=row,
        target=target_of(row),
        body=msgspec.json.decode(row.body, type=StoredBody),
        progress=None if row.progress is None else msgspec.json.decode(row.progress, type=StoredProgress),
        result=None if result is None else msgspec.json.decode(result, type=StoredResult),
        evidence=None if evidence is None else Raw(evidence),
    )
