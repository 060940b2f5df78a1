"""The outbox: which commands have to be looked at now, and what was given to the broker.

Each command that has not ended has one row, due when something is to be done: to send it, to ask what has
become of it, or to judge that its time is over. What is given to the broker is counted before (`attempts`,
in a durable transaction under the fence of the lease): so a command with no attempt was certainly never sent,
and a master that has lost its lease cannot send a new one.
"""

import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import OPEN_STATES, CommandState, ErrorCode
from schemas.ids import Target
from services.persistence import tables
from services.persistence.commands import states
from services.persistence.commands.states import Move, ending
from services.persistence.database import clock
from services.persistence.database.engine import Database
from services.persistence.presence import heartbeats
from services.persistence.targets import any_target

_COMMAND = tables.table_of(tables.Command)
_OUTBOX = tables.table_of(tables.Outbox)
_AGENT = tables.table_of(tables.Agent)

_HANDED_OVER = (_COMMAND.c.state.in_(OPEN_STATES), _COMMAND.c.attempts > 0)
"""What a broker has, or may have, of that which has not ended."""
_CHUNK = 500
MARGIN = timedelta(seconds=2)
"""After `start_by` until it is judged whether a command was handed out: the broker counts whole seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When a command is looked at again: as long from now as it is old, within these seconds, with jitter."""

    first: float
    slowest: float

    def next(self, now: datetime, row: Any, grace: timedelta) -> datetime:
        """Of a row of `tables.Command`; not beyond its next deadline."""
        age = (now - row.created_at).total_seconds()
        delay = min(max(age, self.first), self.slowest) * random.uniform(0.8, 1.2)
        at = now + timedelta(seconds=delay)
        deadlines: list[datetime] = [row.finish_by + grace]
        if row.state in (CommandState.ACCEPTED, CommandState.SENT):
            deadlines.append(row.start_by + MARGIN)
        return min([at, *(deadline for deadline in deadlines if deadline > now)])


@dataclass(frozen=True, slots=True)
class Place:
    """Where messages go: a stream of that creation, in one run of the broker."""

    created: datetime
    broker: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One attempt, counted and not yet made."""

    command_id: str
    attempt: int
    target: Target
    action: str
    body: bytes
    signature: str
    journal: str
    created_at: datetime
    start_by: datetime
    age: float
    """Seconds since it was accepted."""
    ttl: int
    """Whole seconds, at least 1, for which the broker may hand it out."""


class Outcome(Enum):
    """What became of an attempt."""

    STORED = "stored"
    WITHHELD = "withheld"
    """Certainly not stored: as if it had not been made."""
    DOUBTFUL = "doubtful"
    """The broker may have it or not."""
    IMPOSSIBLE = "impossible"
    """Certainly not stored, and never will be."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that was made."""

    command_id: str
    number: int
    outcome: Outcome
    place: Place
    sequence: int = 0
    reason: str = ""
    at: float = field(default_factory=time.monotonic)
    """Monotonic seconds when its outcome was known."""


@dataclass(slots=True)
class Turn:
    """What one transaction has decided."""

    outgoing: list[Outgoing] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Commands that moved on."""
    ended: list[Move] = field(default_factory=list)
    full: bool = False
    """There may be more that is due."""


async def send_new(
    db: Database, made: Sequence[Attempt], pace: Pace, grace: timedelta, limit: int, *, sendable: bool
) -> Turn:
    """Note what became of the last attempts, and count first ones of what is due, the longest due first.

    One whose time is over ends as expired, one that was canceled as that: nothing of it was ever sent.
    `sendable`: False while there is no stream. Raises LeaseLost, DatabaseUnavailable.
    """
    turn = Turn()
    async with db.write(durable=True) as session:
        connection = await session.connection()
        now = await clock.now(connection)
        conditions = [_OUTBOX.c.due_at <= now, _COMMAND.c.attempts == 0]
        if not sendable:
            conditions.append(_COMMAND.c.start_by <= now)
        rows = await _due(connection, conditions, limit)
        attempted = [attempt.command_id for attempt in made]
        await states.lock_in_order(connection, attempted + [row.id for row in rows])
        await _note(connection, made, now, turn)
        turn.full = len(rows) == limit
        journals = await journals_of(connection, {_target(row) for row in rows})
        due: dict[str, datetime] = {}
        first: list[dict[str, Any]] = []
        for row in rows:
            journal = journals.get(_target(row), "")
            if row.cancel_requested_at is not None:
                turn.ended.append(canceled(row, now))
            elif row.start_by <= now:
                turn.ended.append(_expired_unsent(row.id, now, journal))
            elif not journal:
                due[row.id] = min(pace.next(now, row, grace), row.start_by)
            else:
                first.append({"k_id": row.id, "journal": journal})
                due[row.id] = pace.next(now, row, grace)
                turn.outgoing.append(_outgoing(row, 1, journal, now, row.start_by))
        if first:
            await connection.execute(_COUNT_FIRST, first)
        await postpone(connection, due)
        await states.advance_all(connection, turn.ended, now)
        turn.changed += [move.command_id for move in turn.ended]
    return turn


async def due_again(db: Database, limit: int) -> tuple[datetime, list[sa.Row[Any]], dict[Target, str]]:
    """Commands that were sent and are due, the longest first; with the time, and their agents' journals now.

    Raises DatabaseUnavailable.
    """
    async with db.read() as session:
        connection = await session.connection()
        now = await clock.now(connection)
        rows = await _due(connection, [_OUTBOX.c.due_at <= now, _COMMAND.c.attempts > 0], limit)
        return now, rows, await journals_of(connection, {_target(row) for row in rows})


async def send_again(
    db: Database,
    ask: Sequence[sa.Row[Any]],
    until: Mapping[str, datetime],
    ends: Sequence[Move],
    pace: Pace,
    grace: timedelta,
) -> Turn:
    """Count further attempts of what is asked for, put off the others `until` then, and end the rest.

    What has ended meanwhile stays as it is. Raises LeaseLost, DatabaseUnavailable.
    """
    turn = Turn()
    async with db.write(durable=True) as session:
        connection = await session.connection()
        now = await clock.now(connection)
        locked = await states.lock(connection, [row.id for row in ask] + [move.command_id for move in ends])
        still = {row.id for row in locked.values() if not CommandState(row.state).terminal}
        due = dict(until)
        for row in ask:
            if row.id in still:
                until_then = row.start_by if row.start_by > now else row.finish_by
                number = locked[row.id].attempts + 1
                turn.outgoing.append(_outgoing(row, number, row.journal, now, until_then))
                due.setdefault(row.id, pace.next(now, row, grace))
        if turn.outgoing:
            await connection.execute(_COUNT, [{"k_id": item.command_id} for item in turn.outgoing])
        await postpone(connection, due)
        turn.ended = [move for move in ends if move.command_id in still]
        await states.advance_all(connection, turn.ended, now)
        turn.changed = [move.command_id for move in turn.ended]
    return turn


async def note(db: Database, made: Sequence[Attempt]) -> list[str]:
    """Note what became of attempts; the commands that moved on. Raises LeaseLost, DatabaseUnavailable."""
    turn = Turn()
    if made:
        async with db.write(durable=True) as session:
            connection = await session.connection()
            await states.lock_in_order(connection, [attempt.command_id for attempt in made])
            await _note(connection, made, await clock.now(connection), turn)
    return turn.changed


async def hasten(db: Database, place: Place, *, unnoted: bool) -> int:
    """Make due at once what is in another stream than that one; how many that is.

    `unnoted`: also that of which nobody has noted whether it was sent.

    Raises LeaseLost, DatabaseUnavailable.
    """
    lost = _COMMAND.c.stream_created != place.created
    if unnoted:
        lost |= _COMMAND.c.state == CommandState.ACCEPTED
    return await _hasten(db, [*_HANDED_OVER, lost])


async def hasten_lost_journals(db: Database) -> int:
    """Make due at once what was sent to a journal that its agent does not have any longer; how many.

    Raises LeaseLost, DatabaseUnavailable.
    """
    columns = (_COMMAND.c.target_kind, _COMMAND.c.target_id, _COMMAND.c.journal)
    async with db.read() as session:
        connection = await session.connection()
        found = (await connection.execute(sa.select(*columns).where(*_HANDED_OVER).distinct())).all()
        journals = await journals_of(connection, {_target(row) for row in found})
    lost = [row for row in found if journals.get(_target(row), row.journal) != row.journal]
    hastened = 0
    for row in lost:
        same = [column == value for column, value in zip(columns, row, strict=True)]
        hastened += await _hasten(db, [*_HANDED_OVER, *same])
    return hastened


async def _hasten(db: Database, which: Sequence[sa.ColumnElement[bool]]) -> int:
    """In several transactions, and in one order (`states.lock`)."""
    hastened = 0
    while True:
        async with db.write() as session:
            connection = await session.connection()
            now = await clock.now(connection)
            found = await connection.scalars(
                sa.select(_OUTBOX.c.command_id)
                .join_from(_OUTBOX, _COMMAND, _OUTBOX.c.command_id == _COMMAND.c.id)
                .where(*which, _OUTBOX.c.due_at > now)
                .order_by(_COMMAND.c.id)
                .limit(_CHUNK)
                .with_for_update(of=_COMMAND)
            )
            some = found.all()
            await postpone(connection, dict.fromkeys(some, now))
        hastened += len(some)
        if len(some) < _CHUNK:
            return hastened


async def postpone(connection: AsyncConnection, due: Mapping[str, datetime]) -> None:
    """When these are to be looked at next."""
    if due:
        await connection.execute(_POSTPONE, [{"k_id": key, "due": due[key]} for key in sorted(due)])


async def journals_of(connection: AsyncConnection, targets: Collection[Target]) -> dict[Target, str]:
    """The journals that agents name in their last heartbeats; without those that name none."""
    journals: dict[Target, str] = {}
    ordered = sorted(targets)
    for start in range(0, len(ordered), _CHUNK):
        found = await connection.execute(
            sa.select(_AGENT.c.target_kind, _AGENT.c.target_id, _AGENT.c.heartbeat).where(
                any_target(_AGENT.c, ordered[start : start + _CHUNK])
            )
        )
        for row in found:
            if journal := heartbeats.read(row.heartbeat).journal:
                journals[_target(row)] = journal
    return journals


def canceled(row: Any, now: datetime) -> Move:
    """The end of a command that was canceled before it was sent."""
    why = f": {row.cancel_reason}" if row.cancel_reason else ""
    message = f"canceled before it was sent, nothing was done{why}"
    return ending(row.id, CommandState.CANCELED, now, ErrorCode.CANCELED, message)


async def _note(connection: AsyncConnection, made: Sequence[Attempt], now: datetime, turn: Turn) -> None:
    stored = [attempt for attempt in made if attempt.outcome is Outcome.STORED]
    if stored:
        moves = [Move(attempt.command_id, CommandState.SENT) for attempt in stored]
        await states.advance_all(connection, moves, now)
        turn.changed += [attempt.command_id for attempt in stored if attempt.number == 1]
        for statement, some in (
            (_PLACE_FIRST, [attempt for attempt in stored if attempt.number == 1]),
            (_PLACE, [attempt for attempt in stored if attempt.number > 1]),
        ):
            if some:
                await connection.execute(statement, [_placed(attempt, now) for attempt in some])
    not_made = [a for a in made if a.outcome in (Outcome.WITHHELD, Outcome.IMPOSSIBLE)]
    if not_made:
        await connection.execute(_UNCOUNT, [{"k_id": attempt.command_id} for attempt in not_made])
    again = [a.command_id for a in made if a.outcome in (Outcome.WITHHELD, Outcome.DOUBTFUL)]
    soon = {command_id: now + timedelta(seconds=random.uniform(0.5, 1.5)) for command_id in again}
    await postpone(connection, soon)
    impossible = [
        ending(a.command_id, CommandState.FAILED, now, ErrorCode.TOO_LARGE, f"it was not sent: {a.reason}")
        for a in made
        if a.outcome is Outcome.IMPOSSIBLE
    ]
    await states.advance_all(connection, impossible, now)
    turn.changed += [move.command_id for move in impossible]


def _placed(attempt: Attempt, now: datetime) -> dict[str, Any]:
    return {
        "k_id": attempt.command_id,
        "k_now": now - timedelta(seconds=time.monotonic() - attempt.at),
        "k_created": attempt.place.created,
        "k_broker": attempt.place.broker,
        "k_sequence": attempt.sequence,
    }


async def _due(
    connection: AsyncConnection, conditions: Sequence[sa.ColumnElement[bool]], limit: int
) -> list[sa.Row[Any]]:
    found = await connection.execute(
        sa.select(*_COLUMNS, _OUTBOX.c.due_at)
        .join_from(_OUTBOX, _COMMAND, _OUTBOX.c.command_id == _COMMAND.c.id)
        .where(*conditions)
        .order_by(_OUTBOX.c.due_at, _OUTBOX.c.command_id)
        .limit(limit)
    )
    rows: list[sa.Row[Any]] = found.all()  # type: ignore[assignment]  # of columns that are Any
    return rows


_COLUMNS: list[Any] = [
    column
    for column in _COMMAND.columns
    if column.name not in ("result", "evidence", "progress", "idempotency_key", "fingerprint")
]


def _outgoing(row: Any, number: int, journal: str, now: datetime, until: datetime) -> Outgoing:
    return Outgoing(
        command_id=row.id,
        attempt=number,
        target=_target(row),
        action=row.action,
        body=row.body,
        signature=row.signature,
        journal=journal,
        created_at=row.created_at,
        start_by=row.start_by,
        age=(now - row.created_at).total_seconds(),
        ttl=max(1, int((until - now).total_seconds())),
    )


def _target(row: Any) -> Target:
    return Target.parse(row.target_kind, row.target_id)


def _expired_unsent(command_id: str, now: datetime, journal: str) -> Move:
    why = "no master could send it" if journal else "its agent has not said that it takes commands"
    message = f"it was never sent by its start_by, so nothing was done: {why}"
    return ending(command_id, CommandState.EXPIRED, now, ErrorCode.LATE, message)


_COUNT_FIRST = (
    sa.update(_COMMAND)
    .where(_COMMAND.c.id == sa.bindparam("k_id"))
    .values(attempts=1, journal=sa.bindparam("journal"))
)
_COUNT = (
    sa.update(_COMMAND).where(_COMMAND.c.id == sa.bindparam("k_id")).values(attempts=_COMMAND.c.attempts + 1)
)
_UNCOUNT = (
    sa.update(_COMMAND).where(_COMMAND.c.id == sa.bindparam("k_id")).values(attempts=_COMMAND.c.attempts - 1)
)
_POSTPONE = (
    sa.update(_OUTBOX)
    .where(_OUTBOX.c.command_id == sa.bindparam("k_id"))
    .values(due_at=sa.bindparam("due", type_=_OUTBOX.c.due_at.type))
)
_NOW = sa.bindparam("k_now", type_=_COMMAND.c.sent_at.type)
_CREATED = sa.bindparam("k_created", type_=_COMMAND.c.stream_created.type)
_BROKER = sa.bindparam("k_broker", type_=_COMMAND.c.broker.type)
_SEQUENCE = sa.bindparam("k_sequence", type_=_COMMAND.c.stream_sequence.type)
_PLACE_FIRST = (
    sa.update(_COMMAND)
    .where(_COMMAND.c.id == sa.bindparam("k_id"))
    .values(sent_at=_NOW, stream_created=_CREATED, broker=_BROKER, stream_sequence=_SEQUENCE)
)
_HERE = sa.and_(_COMMAND.c.stream_created == _CREATED, _COMMAND.c.broker == _BROKER)
_PLACE = (
    sa.update(_COMMAND)
    .where(_COMMAND.c.id == sa.bindparam("k_id"))
    .values(
        sent_at=sa.func.coalesce(_COMMAND.c.sent_at, _NOW),
        stream_sequence=sa.case((_HERE, _COMMAND.c.stream_sequence), else_=0),
        stream_created=_CREATED,
        broker=_BROKER,
    )
)
