"""The outbox for tests: agents that have been heard, commands that are due, and what was given out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from schemas import ids
from schemas.commands import Command
from schemas.ids import Target
from schemas.presence import Health, Heartbeat
from services.persistence import tables
from services.persistence.commands import outbox
from services.persistence.commands.attempts import Attempt, Outcome, Outgoing, Place
from services.persistence.commands.pace import Pace
from services.persistence.database.engine import Database
from services.persistence.presence.store import Sign, store_signs
from services.runtime.bus.cursor import Cursor

A, B = ids.kubernetes("a"), ids.kubernetes("b")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PACE, GRACE = Pace(10.0, 60.0), timedelta(seconds=10)
HERE = Place(datetime(2026, 11, 1, tzinfo=UTC), "run-1")
_OUTBOX = tables.table_of(tables.Outbox)


async def beat(db: Database, target: Target, journal: str, second: int = 0) -> None:
    """A heartbeat of an agent that names this journal."""
    body = Heartbeat(version="1", interval=15, health=Health(healthy=True, start_time=NOW), journal=journal)
    sign = Sign(target, body, NOW + timedelta(seconds=second))
    await store_signs(db, [sign], [], Cursor("h", "HEARTBEATS", NOW, second + 1))


async def send_new(db: Database, *made: Attempt, limit: int = 100, sendable: bool = True) -> outbox.Turn:
    return await outbox.send_new(db, made, PACE, GRACE, limit, sendable=sendable)


async def again(db: Database, *, count: int = 100) -> list[Any]:
    """What is due of that which was sent."""
    _, rows, _ = await outbox.due_again(db, count)
    return rows


async def make_due(db: Database) -> None:
    async with db.write() as connection:
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        await connection.execute(sa.update(_OUTBOX).values(due_at=long_ago))


async def set_due(db: Database, command: Command, at: datetime | None = None) -> None:
    """At that time, or not while the test lasts."""
    at = at or datetime.now(UTC) + timedelta(hours=1)
    which = _OUTBOX.c.command_id == command.id
    async with db.write() as connection:
        await connection.execute(sa.update(_OUTBOX).where(which).values(due_at=at))


def stored(item: Outgoing, sequence: int, place: Place = HERE) -> Attempt:
    return Attempt(item.command_id, item.attempt, Outcome.STORED, place, sequence)
