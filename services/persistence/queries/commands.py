"""Commands, the newest first, and one with its result."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Raw, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.types import json_in_postgresql
from services.persistence.queries.paging import after, token
from services.persistence.targets import any_target, target_of

_COMMAND = tables.table_of(tables.Command)
_PART = tables.table_of(tables.CommandPart)
_LARGE = ("body", "result", "evidence")

MAX_LISTED = 4096
"""Bytes of a command whose parameters are in a list; larger ones are there without: they may be of a megabyte
each, 500 times."""


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
    params: Raw = Raw(b"null")
    """`null` in a list, where the command has more than MAX_LISTED bytes."""
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
    """One command; of a list without the data of its result, and without parameters that are large."""

    row: Any
    """The columns of `tables.Command`, without body, result and evidence where it is of a list."""
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
    connection: AsyncConnection, where: CommandFilter, *, limit: int, continue_: str = ""
) -> CommandPage:
    """Commands by the time of their acceptance, the newest first. Raises BadContinue."""
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
    dialect = connection.dialect.name
    # A result's data may be of a megabyte, 500 times.
    outcome = sa.case(
        (
            columns.result.is_not(None),
            _only(dialect, columns.result, ("error", "warnings"), ("data", "parts")),
        ),
    )
    body = sa.case(
        (sa.func.length(columns.body) <= MAX_LISTED, as_text(dialect, columns.body)),
        else_=_only(dialect, columns.body, ("object", "dry_run", "instance"), ("params",)),
    )
    found = await connection.execute(
        sa.select(*shown, body.label("shown"), outcome.label("outcome"))
        .where(*conditions)
        .order_by(columns.id.desc())
        .limit(limit + 1)
    )
    rows = found.all()
    page = rows[:limit]
    return CommandPage(
        items=[_stored(row, row.shown, row.outcome, None) for row in page],
        continue_=token(("commands", where), [page[-1].id]) if len(rows) > limit else "",
    )


async def get_command(connection: AsyncConnection, id: str) -> StoredCommand | None:
    """One command with its result, whose data is put together from its parts."""
    row = (await connection.execute(sa.select(_COMMAND).where(_COMMAND.c.id == id))).first()
    if row is None:
        return None
    stored = _stored(row, row.body, row.result, row.evidence)
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


async def command_state(connection: AsyncConnection, id: str) -> str | None:
    """The state of one command; None when there is none."""
    state: str | None = await connection.scalar(sa.select(_COMMAND.c.state).where(_COMMAND.c.id == id))
    return state


def _only(
    dialect: str, stored: Any, members: tuple[str, ...], large: tuple[str, ...]
) -> sa.ColumnElement[Any]:
    """An object that is stored as JSON, as text: with these members, and without those that may be large.

    SQLite takes the latter out and keeps the rest: what `json_extract` gives is not as it was stored, as 1 is
    for `true`, and `->` is there since 3.38 only.
    """
    if dialect != "postgresql":
        return sa.func.json_remove(as_text(dialect, stored), *(f"$.{name}" for name in large), type_=sa.Text)
    whole = json_in_postgresql(stored)
    made = sa.func.json_build_object(*(part for name in members for part in (name, whole[name])))
    return sa.cast(made, sa.Text())


def as_text(dialect: str, stored: Any) -> sa.ColumnElement[Any]:
    """Stored bytes as the text that they are."""
    if dialect == "postgresql":
        return sa.func.convert_from(stored, "UTF8")
    return sa.cast(stored, sa.Text())


def _stored(row: Any, body: bytes | str, result: bytes | str | None, evidence: bytes | None) -> StoredCommand:
    return StoredCommand(
        row=row,
        target=target_of(row),
        body=msgspec.json.decode(body, type=StoredBody),
        progress=None if row.progress is None else msgspec.json.decode(row.progress, type=StoredProgress),
        result=None if result is None else msgspec.json.decode(result, type=StoredResult),
        evidence=None if evidence is None else Raw(evidence),
    )
