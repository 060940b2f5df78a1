"""Attempts to give commands to the broker: counted before they are made, and what became of them."""

import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import CommandState, ErrorCode
from schemas.ids import Target
from services.persistence import tables
from services.persistence.commands import states
from services.persistence.commands.pace import postpone
from services.persistence.commands.states import Move, ending
from services.persistence.targets import target_of

_COMMAND = tables.table_of(tables.Command)


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


def outgoing(row: Any, number: int, journal: str, now: datetime, until: datetime) -> Outgoing:
    """An attempt on a row of `tables.Command`, which the broker may hand out until then."""
    return Outgoing(
        command_id=row.id,
        attempt=number,
        target=target_of(row),
        action=row.action,
        body=row.body,
        signature=row.signature,
        journal=journal,
        created_at=row.created_at,
        start_by=row.start_by,
        age=(now - row.created_at).total_seconds(),
        ttl=max(1, int((until - now).total_seconds())),
    )


async def count_first(connection: AsyncConnection, journals: Mapping[str, str]) -> None:
    """Count the first attempts on these commands, each with the journal that it is for."""
    if journals:
        rows = [{"k_id": command_id, "journal": journal} for command_id, journal in journals.items()]
        await connection.execute(_COUNT_FIRST, rows)


async def count(connection: AsyncConnection, command_ids: Collection[str]) -> None:
    """Count further attempts."""
    if command_ids:
        await connection.execute(_COUNT, [{"k_id": command_id} for command_id in command_ids])


async def note(connection: AsyncConnection, made: Sequence[Attempt], now: datetime) -> list[Move]:
    """Note what became of attempts on commands that are locked; how they moved on."""
    stored = [attempt for attempt in made if attempt.outcome is Outcome.STORED]
    first = [attempt for attempt in stored if attempt.number == 1]
    if stored:
        moves = [Move(attempt.command_id, CommandState.SENT) for attempt in stored]
        await states.advance_all(connection, moves, now)
        for statement, some in (
            (_PLACE_FIRST, first),
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
    return [Move(attempt.command_id, CommandState.SENT) for attempt in first] + impossible


def _placed(attempt: Attempt, now: datetime) -> dict[str, Any]:
    return {
        "k_id": attempt.command_id,
        "k_now": now - timedelta(seconds=time.monotonic() - attempt.at),
        "k_created": attempt.place.created,
        "k_broker": attempt.place.broker,
        "k_sequence": attempt.sequence,
    }


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
