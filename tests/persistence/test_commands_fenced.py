"""Commands under a lease: who has lost it sends, ends, steps and forgets nothing any longer."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from schemas import ids
from schemas.commands import CommandCompleted, CommandState
from schemas.presence import Health, Heartbeat
from services.persistence import retention, tables
from services.persistence.commands import cancels, operations, outbox, results
from services.persistence.commands.attempts import Attempt, Outcome, Place
from services.persistence.commands.pace import Pace
from services.persistence.commands.results import Report
from services.persistence.database.engine import Database
from services.persistence.leases import FencedDatabase, LeaseLost, Leases
from services.persistence.presence.store import Sign, store_signs
from services.runtime.bus.cursor import Cursor
from tests.master.commanding import Commands, command_for
from tests.persistence.test_leases import expire, must_take
from tests.persistence.test_operations import accepted

pytestmark = pytest.mark.timeout(180)

A = ids.kubernetes("a")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PACE, GRACE = Pace(10.0, 60.0), timedelta(seconds=10)
STORED = ("Command", "Outbox", "Operation", "OperationTarget", "CommandPart", "Cursor")


async def stored(db: Database) -> dict[str, list[Any]]:
    """Every row that has to do with commands."""
    found = {}
    async with db.read() as connection:
        for name in STORED:
            rows = await connection.execute(sa.select(tables.table_of(getattr(tables, name))))
            found[name] = sorted(map(tuple, rows), key=repr)
    return found


async def test_former_holder_moves_no_command(db: Database) -> None:
    """Each write of the duty raises, and every row stays as the one that took over has found it."""
    health = Health(healthy=True, start_time=NOW)
    body = Heartbeat(version="1", interval=15, health=health, journal="j1")
    await store_signs(db, [Sign(A, body, NOW)], [], Cursor("h", "HEARTBEATS", NOW, 1))
    command = command_for(A)
    await Commands(db).accept(command)
    operation = await accepted(db)
    stale = FencedDatabase(db, await must_take(Leases(db, "one", 60.0)))
    await expire(db)
    owner = FencedDatabase(db, await must_take(Leases(db, "two", 60.0)))
    place = Place(NOW, "run-1")
    result = CommandCompleted(
        command_id=command.id, state=CommandState.SUCCEEDED, success=True, executed_at=NOW
    )
    report = Report(A, result, result.model_dump_json().encode())
    cursor = Cursor("results", "RESULTS", NOW, 1)
    keep = retention.Keep(rows=timedelta(0), tombstones=timedelta(0))
    made = Attempt(command.id, 1, Outcome.STORED, place, 1)

    def writes(by: Database) -> dict[str, Callable[[], Awaitable[Any]]]:
        return {
            "send": lambda: outbox.send_new(by, [], PACE, GRACE, 10, sendable=True),
            "send again": lambda: outbox.send_again(by, [], {}, [], PACE, GRACE),
            "note": lambda: outbox.note(by, [made]),
            "hasten": lambda: outbox.hasten(by, place, unnoted=True),
            "result": lambda: results.store(by, [report], cursor, PACE, GRACE),
            "cancel": lambda: cancels.end_unsent(by, [command.id]),
            "step": lambda: operations.step(by, operation),
            "forget": lambda: retention.forget(by, keep, NOW),
        }

    before = await stored(db)
    for what, write in writes(stale).items():
        with pytest.raises(LeaseLost):
            await write()
        assert await stored(db) == before, what
    for write in writes(owner).values():
        await write()
    after = await stored(db)
    assert [name for name in STORED if after[name] != before[name]] == [
        "Command",
        "Outbox",
        "OperationTarget",
        "Cursor",
    ]
