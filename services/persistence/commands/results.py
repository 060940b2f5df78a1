"""What agents say of their commands: applied once and only forwards, however often and late it comes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import (
    MAX_RESULT,
    CommandCompleted,
    CommandProgressed,
    CommandReceived,
    CommandStarted,
    CommandState,
    ResultPart,
)
from schemas.errors import ContractError
from schemas.ids import Target
from services.persistence import cursors, tables
from services.persistence.commands import states
from services.persistence.commands.pace import Pace, postpone
from services.persistence.commands.states import Move
from services.persistence.database import clock
from services.persistence.database.dialects import upsert
from services.persistence.database.engine import Database
from services.runtime.bus.cursor import Cursor
from services.runtime.failpoints import Point, reach

_COMMAND = tables.table_of(tables.Command)
_PART = tables.table_of(tables.CommandPart)

Body = CommandReceived | CommandStarted | CommandProgressed | ResultPart | CommandCompleted

_DOUBTED = (CommandState.UNKNOWN, CommandState.EXPIRED, CommandState.CANCELED)
"""Ends that a master may have put in the agent's place: what the agent says later is evidence."""


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that an agent says."""

    target: Target
    body: Body
    data: bytes
    """The body as it was sent."""


@dataclass(slots=True)
class Applied:
    """What has become of a batch of reports."""

    changed: list[str] = field(default_factory=list)
    """Commands that have moved on, or have come further."""
    ended: dict[str, CommandState] = field(default_factory=dict)
    confirmed: dict[Target, list[str]] = field(default_factory=dict)
    """Commands whose ends need not be told again."""
    strange: list[tuple[Target, str]] = field(default_factory=list)
    """Ends of commands that this database does not know: it was restored, or has forgotten them."""
    canceled: list[str] = field(default_factory=list)
    """Commands that their agents have received, and are to end: they may not know that yet."""
    contradicted: list[str] = field(default_factory=list)
    """Commands that had ended otherwise already: what the agent says is kept as evidence."""


async def store(
    db: Database, reports: Sequence[Report], cursor: Cursor, pace: Pace, grace: timedelta
) -> Applied:
    """Apply reports in their order and move the cursor past them, in one transaction.

    Raises ContractError for a report that its agent may not make, LeaseLost, DatabaseUnavailable.
    """
    by_command: dict[str, list[Report]] = {}
    for report in reports:
        by_command.setdefault(report.body.command_id, []).append(report)
    applied = Applied()
    async with db.write(durable=True) as connection:
        now = await clock.now(connection)
        rows = await states.lock(connection, list(by_command))
        for command_id, some in by_command.items():
            _check(rows.get(command_id), some)
        await _store_parts(connection, rows, reports)
        moves: list[Move] = []
        notes: list[dict[str, Any]] = []
        due: dict[str, datetime] = {}
        for command_id, some in by_command.items():
            if (row := rows.get(command_id)) is None:
                _note_strange(applied, some)
            elif CommandState(row.state).terminal:
                await _after_the_end(connection, row, some, applied)
            else:
                move, values = await _fold(connection, row, some)
                if move is not None:
                    moves.append(Move(command_id, move, values))
                elif values:
                    notes.append({"k_id": command_id, **values})
                if move is not None and move.terminal:
                    applied.ended[command_id] = move
                    applied.confirmed.setdefault(some[0].target, []).append(command_id)
                else:
                    due[command_id] = pace.next(now, row, grace)
                    if row.cancel_requested_at is not None and _was_received(some):
                        applied.canceled.append(command_id)
                if values or move is not None:
                    applied.changed.append(command_id)
        await states.advance_all(connection, moves, now)
        for row_values in notes:
            values = {name: value for name, value in row_values.items() if name != "k_id"}
            await connection.execute(
                sa.update(_COMMAND).where(_COMMAND.c.id == row_values["k_id"]).values(**values)
            )
        await postpone(connection, due)
        await cursors.save(connection, cursor)
        await reach(Point.RESULT_BEFORE_COMMIT)
    return applied


def _check(row: sa.Row[Any] | None, reports: Sequence[Report]) -> None:
    for report in reports:
        if row is not None and (row.target_kind, row.target_id) != (
            report.target.kind.value,
            report.target.id,
        ):
            raise ContractError(
                f"{report.target} reports on command {row.id}, which is for {row.target_kind}/{row.target_id}"
            )
        body = report.body
        if isinstance(body, ResultPart) and body.index >= body.count:
            raise ContractError(f"part {body.index} of {body.count}")


def _was_received(reports: Sequence[Report]) -> bool:
    return any(isinstance(report.body, CommandReceived) for report in reports)


def _note_strange(applied: Applied, reports: Sequence[Report]) -> None:
    for report in reports:
        if isinstance(report.body, CommandCompleted):
            applied.strange.append((report.target, report.body.command_id))
            applied.confirmed.setdefault(report.target, []).append(report.body.command_id)


async def _store_parts(
    connection: AsyncConnection, rows: dict[str, sa.Row[Any]], reports: Sequence[Report]
) -> None:
    parts: dict[tuple[str, int], str] = {}
    for report in reports:
        body = report.body
        if isinstance(body, ResultPart) and (row := rows.get(body.command_id)) is not None:
            state = CommandState(row.state)
            if not state.terminal or state in _DOUBTED:
                parts[body.command_id, body.index] = body.data
    if not parts:
        return
    new: dict[str, int] = {}
    for (command_id, _), data in parts.items():
        new[command_id] = new.get(command_id, 0) + len(data)
    for command_id, size in new.items():
        indexes = [index for other, index in parts if other == command_id]
        before = await connection.scalar(
            sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(_PART.c.data)), 0)).where(
                _PART.c.command_id == command_id, _PART.c.index.not_in(indexes)
            )
        )
        if (before or 0) + size > MAX_RESULT:
            raise ContractError(f"the parts of the result of {command_id} have over {MAX_RESULT} characters")
    await upsert(
        connection,
        tables.CommandPart,
        [{"command_id": key[0], "index": key[1], "data": data} for key, data in parts.items()],
    )


async def _fold(
    connection: AsyncConnection, row: sa.Row[Any], reports: Sequence[Report]
) -> tuple[CommandState | None, dict[str, Any]]:
    """Where the reports take a command that has not ended, and the columns that they set."""
    before = state = CommandState(row.state)
    values: dict[str, Any] = {}
    progress = row.progress_sequence
    for report in reports:
        body = report.body
        next_state = state
        match body:
            case CommandReceived():
                next_state = CommandState.RECEIVED
                if row.received_at is None:
                    values.setdefault("received_at", body.at)
            case CommandStarted():
                next_state = CommandState.RUNNING
                if row.started_at is None:
                    values.setdefault("started_at", body.at)
            case CommandProgressed() if body.sequence > progress:
                next_state = CommandState.RUNNING
                progress = body.sequence
                values |= {"progress": report.data, "progress_sequence": progress}
            case CommandCompleted() if await _whole(connection, body):
                next_state = body.state
                values |= {"result": report.data, "executed_at": body.executed_at}
        if state.may_become(next_state):
            state = next_state
        if state.terminal:
            break
    return (state if state is not before else None), values


async def _whole(connection: AsyncConnection, completed: CommandCompleted) -> bool:
    """Whether all parts of a result are here; those that are not come when its agent says it all again."""
    if not completed.parts:
        return True
    here = await connection.scalar(
        sa.select(sa.func.count()).where(
            _PART.c.command_id == completed.command_id, _PART.c.index < completed.parts
        )
    )
    return here == completed.parts


async def _after_the_end(
    connection: AsyncConnection, row: sa.Row[Any], reports: Sequence[Report], applied: Applied
) -> None:
    """The same end said again is confirmed again; another one than ours is kept beside it."""
    for report in reports:
        body = report.body
        if not isinstance(body, CommandCompleted) or not await _whole(connection, body):
            continue
        if CommandState(row.state) in _DOUBTED and await _is_evidence(connection, row.id, body):
            await connection.execute(
                sa.update(_COMMAND).where(_COMMAND.c.id == row.id).values(evidence=report.data)
            )
            applied.changed.append(row.id)
            applied.contradicted.append(row.id)
        applied.confirmed.setdefault(report.target, []).append(row.id)


async def _is_evidence(connection: AsyncConnection, command_id: str, body: CommandCompleted) -> bool:
    found = await connection.execute(
        sa.select(_COMMAND.c.result, _COMMAND.c.evidence).where(_COMMAND.c.id == command_id)
    )
    result, evidence = found.one()
    if evidence is not None:
        return False
    return result is None or CommandCompleted.model_validate_json(result) != body
