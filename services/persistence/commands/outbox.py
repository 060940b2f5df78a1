"""The outbox: which commands have to be looked at now, and what was given to the broker.

Each command that has not ended has one row, due when something is to be done: to send it, to ask what has
become of it, or to judge that its time is over. What is given to the broker is counted before (`attempts`,
in a durable transaction under the fence of the lease): so a command with no attempt was certainly never sent,
and a master that has lost its lease cannot send a new one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import OPEN_STATES, CommandState, ErrorCode
from schemas.ids import Target
from services.persistence import tables
from services.persistence.commands import attempts, states
from services.persistence.commands.attempts import Attempt, Outcome, Outgoing, Place, outgoing
from services.persistence.commands.pace import Pace, postpone
from services.persistence.commands.states import Move, ending
from services.persistence.database import clock
from services.persistence.database.engine import Database
from services.persistence.presence.absent import absent, is_away
from services.persistence.presence.journals import journals_of
from services.persistence.presence.liveness import read_clock
from services.persistence.targets import any_target, is_same_agent, target_of

_COMMAND = tables.table_of(tables.Command)
_OUTBOX = tables.table_of(tables.Outbox)
_AGENT = tables.table_of(tables.Agent)

_HANDED_OVER = (_COMMAND.c.state.in_(OPEN_STATES), _COMMAND.c.attempts > 0)
"""What a broker has, or may have, of that which has not ended."""
_UNSENT = (
    _COMMAND.c.state == sa.literal_column(f"'{CommandState.ACCEPTED.value}'"),
    _COMMAND.c.attempts == sa.literal_column("0"),
)
"""What no broker has. Without parameters, so that every plan knows of the index that has just that."""
_HELD = (*_UNSENT, _COMMAND.c.journal == "")
"""What nobody has tried to send; what the broker did not take, as when it is full, keeps its own pauses."""
_CHUNK = 500
_HELD_FOR = timedelta(seconds=30)
"""Until it is looked at again, whether its agent was seen coming back or not."""
_TRIED_FOR = timedelta(seconds=1)
"""The same of what a broker did not take: nobody hastens that."""
SOON = timedelta(seconds=0.25)
"""Until what is held for a moment only is looked at again."""
_JUST_HEARD = timedelta(seconds=30)
"""By the broker's clock: who has been back for longer was found before, or is by that look."""


@dataclass(slots=True)
class Turn:
    """What one transaction has decided."""

    outgoing: list[Outgoing] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Commands that moved on."""
    ended: list[Move] = field(default_factory=list)
    held: bool = False
    """Something is held for an agent that is away, or that cannot be reached yet, or was not taken."""
    soon: bool = False
    """Something is held for a moment only: for a consumer, or behind what was accepted before it."""
    full: bool = False
    """There may be more that is due."""


async def send_new(
    db: Database,
    made: Sequence[Attempt],
    pace: Pace,
    grace: timedelta,
    limit: int,
    *,
    sendable: bool,
    reachable: Callable[[Target], bool] = lambda _: True,
    judging: bool = True,
    holding: bool = True,
) -> Turn:
    """Note what became of the last attempts, and count first ones of what is due, the longest due first.

    One whose time is over ends as expired, one that was canceled as that: nothing of it was ever sent. What
    is for an agent that is away is held: sent, it would wait where nobody can take it back.
    `sendable`: False while there is no stream. `reachable`: whether an agent has its consumer; what is stored
    before it was made may have been handed out by an earlier one, as far as anybody can tell. `judging`:
    False while the broker's clock stands, by which agents are away. `holding`: False where nothing is held,
    and nothing has to wait for it. Raises LeaseLost, DatabaseUnavailable.
    """
    turn = Turn()
    async with db.write(durable=True) as connection:
        now = await clock.now(connection)
        conditions = [_OUTBOX.c.due_at <= now, _COMMAND.c.attempts == 0]
        if not sendable:
            conditions.append(_COMMAND.c.start_by <= now)
        rows = await _due(connection, conditions, limit)
        locked = await states.lock_again(connection, rows, [attempt.command_id for attempt in made])
        moves = await attempts.note(connection, made, now)
        turn.full = len(rows) == limit
        targets = {target_of(row) for row in rows}
        journals = await journals_of(connection, targets)
        away = await absent(connection, targets) if judging else set()
        turn.held = any(attempt.outcome is Outcome.WITHHELD for attempt in made)
        some_left = holding or turn.held or turn.full
        left = await _left(connection, targets, [row.id for row in rows]) if some_left else {}
        due: dict[str, datetime] = {}
        first: dict[str, str] = {}
        for row in sorted(
            rows, key=lambda row: (row.created_at, row.id)
        ):  # what was held is due later than newer
            current = locked.get(row.id)
            if current is None or CommandState(current.state).terminal:
                continue  # it was ended, as on request, before we had it
            target = target_of(row)
            journal = journals.get(target, "")
            if current.cancel_requested_at is not None:
                turn.ended.append(canceled(current, now))
            elif row.start_by <= now:
                turn.ended.append(_expired_unsent(row.id, now, journal, away=target in away))
            elif not journal or target in away:
                due[row.id] = min(now + (_TRIED_FOR if row.journal else _HELD_FOR), row.start_by)
                turn.held = True
            elif left.get(target, row.created_at) < row.created_at or not reachable(target):
                due[row.id] = min(now + SOON, row.start_by)
                turn.held = turn.soon = True
            else:
                first[row.id] = journal
                due[row.id] = pace.next(now, row, grace)
                turn.outgoing.append(outgoing(row, 1, journal, now, row.start_by))
        await attempts.count_first(connection, first)
        await postpone(connection, due)
        await states.advance_all(connection, turn.ended, now)
        moves += turn.ended
    turn.changed = [move.command_id for move in moves]
    turn.ended = [move for move in moves if move.state.terminal]
    return turn


async def _left(
    connection: AsyncConnection, targets: Collection[Target], looked_at: Collection[str]
) -> dict[Target, datetime]:
    """Since when agents have something unsent that is not looked at now: what followed it goes after it."""
    if not targets:
        return {}
    agent = (_COMMAND.c.target_kind, _COMMAND.c.target_id)
    theirs = any_target(_COMMAND.c, sorted(targets))
    found = await connection.execute(
        sa.select(*agent, sa.func.min(_COMMAND.c.created_at).label("since"))
        .where(*_UNSENT, theirs, _COMMAND.c.id.not_in(looked_at))
        .group_by(*agent)
    )
    return {target_of(row): row.since for row in found}


async def due_again(db: Database, limit: int) -> tuple[datetime, list[sa.Row[Any]], dict[Target, str]]:
    """Commands that were sent and are due, the longest first; with the time, and their agents' journals now.

    Raises DatabaseUnavailable.
    """
    async with db.read() as connection:
        now = await clock.now(connection)
        rows = await _due(connection, [_OUTBOX.c.due_at <= now, _COMMAND.c.attempts > 0], limit)
        return now, rows, await journals_of(connection, {target_of(row) for row in rows})


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
    async with db.write(durable=True) as connection:
        now = await clock.now(connection)
        locked = await states.lock(connection, [row.id for row in ask] + [move.command_id for move in ends])
        still = {row.id for row in locked.values() if not CommandState(row.state).terminal}
        due = dict(until)
        for row in ask:
            if row.id in still:
                until_then = row.start_by if row.start_by > now else row.finish_by
                number = locked[row.id].attempts + 1
                turn.outgoing.append(outgoing(row, number, row.journal, now, until_then))
                due.setdefault(row.id, pace.next(now, row, grace))
        await attempts.count(connection, [item.command_id for item in turn.outgoing])
        await postpone(connection, due)
        turn.ended = [move for move in ends if move.command_id in still]
        await states.advance_all(connection, turn.ended, now)
        turn.changed = [move.command_id for move in turn.ended]
    return turn


async def note(db: Database, made: Sequence[Attempt]) -> list[Move]:
    """Note what became of attempts; how commands moved on. Raises LeaseLost, DatabaseUnavailable."""
    if not made:
        return []
    async with db.write(durable=True) as connection:
        await states.lock_again(connection, [], [attempt.command_id for attempt in made])
        return await attempts.note(connection, made, await clock.now(connection))


async def hasten(db: Database, place: Place, *, unnoted: bool) -> int:
    """Make due at once what is in another stream than that one; how many that is.

    `unnoted`: also that of which nobody has noted whether it was sent.

    Raises LeaseLost, DatabaseUnavailable.
    """
    lost = _COMMAND.c.stream_created != place.created
    if unnoted:
        lost |= _COMMAND.c.state == CommandState.ACCEPTED
    return await _hasten(db, [*_HANDED_OVER, lost])


async def any_held(db: Database) -> bool:
    """Whether anything that was never sent waits for its time. Raises DatabaseUnavailable."""
    async with db.read() as connection:
        now = await clock.now(connection)
        found = await connection.execute(
            sa.select(_COMMAND.c.id)
            .join_from(_COMMAND, _OUTBOX, _OUTBOX.c.command_id == _COMMAND.c.id)
            .where(*_UNSENT, _OUTBOX.c.due_at > now)
            .limit(1)
        )
        return found.first() is not None


async def hasten_returned(
    db: Database, *, reachable: Callable[[Target], bool] = lambda _: True, judging: bool
) -> int:
    """Make due at once what was held for agents that have been heard again; how many that is.

    One look at what is held, however many agents there are. What is held for a moment only comes up by itself
    while its agent is not `reachable`: due at once again and again, it would be all that a batch has room
    for. `reachable` and `judging` as in `send_new`. Raises LeaseLost, DatabaseUnavailable.
    """
    columns = (_COMMAND.c.target_kind, _COMMAND.c.target_id)
    heard = (_AGENT.c.last_seen, _AGENT.c.interval, _AGENT.c.stopping)
    async with db.read() as connection:
        now, reading = await clock.now(connection), await read_clock(connection)
        here = [*_HELD, _OUTBOX.c.due_at > now]
        if judging and reading is not None:
            here.append(_AGENT.c.last_seen >= reading.latest - _JUST_HEARD)
        found = await connection.execute(
            sa.select(*columns, *heard, sa.func.max(_OUTBOX.c.due_at).label("until"))
            .join_from(_COMMAND, _OUTBOX, _OUTBOX.c.command_id == _COMMAND.c.id)
            .join(_AGENT, is_same_agent(_AGENT.c, _COMMAND.c))
            .where(*here)
            .group_by(*columns, *heard)
        )
        back = {target_of(row): row.until for row in found if not (judging and is_away(row, reading))}
        known = sorted(await journals_of(connection, back)) if back else []
    ready = [target for target in known if reachable(target) or back[target] > now + SOON]
    hastened = 0
    for start in range(0, len(ready), _CHUNK):
        theirs = any_target(_COMMAND.c, ready[start : start + _CHUNK])
        hastened += await _hasten(db, [*_HELD, theirs], as_accepted=True)
    return hastened


async def hasten_lost_journals(db: Database) -> int:
    """Make due at once what was sent to a journal that its agent does not have any longer; how many.

    Raises LeaseLost, DatabaseUnavailable.
    """
    columns = (_COMMAND.c.target_kind, _COMMAND.c.target_id, _COMMAND.c.journal)
    async with db.read() as connection:
        found = (await connection.execute(sa.select(*columns).where(*_HANDED_OVER).distinct())).all()
        journals = await journals_of(connection, {target_of(row) for row in found})
    lost = [row for row in found if journals.get(target_of(row), row.journal) != row.journal]
    hastened = 0
    for row in lost:
        same = [column == value for column, value in zip(columns, row, strict=True)]
        hastened += await _hasten(db, [*_HANDED_OVER, *same])
    return hastened


async def _hasten(db: Database, which: Sequence[sa.ColumnElement[bool]], *, as_accepted: bool = False) -> int:
    """In several transactions, and in one order (`states.lock`). `as_accepted`: due in the order of that."""
    hastened = 0
    while True:
        async with db.write() as connection:
            now = await clock.now(connection)
            found = await connection.execute(
                sa.select(_OUTBOX.c.command_id, _COMMAND.c.created_at)
                .join_from(_OUTBOX, _COMMAND, _OUTBOX.c.command_id == _COMMAND.c.id)
                .where(*which, _OUTBOX.c.due_at > now)
                .order_by(_COMMAND.c.id)
                .limit(_CHUNK)
                .with_for_update(of=_COMMAND)
            )
            some = found.all()
            due = {row.command_id: min(row.created_at, now) if as_accepted else now for row in some}
            await postpone(connection, due)
        hastened += len(some)
        if len(some) < _CHUNK:
            return hastened


def canceled(row: Any, now: datetime, before: str = "it was sent") -> Move:
    """The end of a command that was canceled in time: before what, in words."""
    why = f": {row.cancel_reason}" if row.cancel_reason else ""
    message = f"canceled before {before}, nothing was done{why}"
    return ending(row.id, CommandState.CANCELED, now, ErrorCode.CANCELED, message)


def _expired_unsent(command_id: str, now: datetime, journal: str, *, away: bool) -> Move:
    why = "no master could send it"
    if not journal:
        why = "its agent has not said that it takes commands"
    elif away:
        why = "its agent was away"
    message = f"it was never sent by its start_by, so nothing was done: {why}"
    return ending(command_id, CommandState.EXPIRED, now, ErrorCode.LATE, message)


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
