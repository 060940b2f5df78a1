"""What agents announce of their actions stays until they announce something else; both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from schemas.ids import Target, kubernetes
from schemas.presence import ActionSchemas, Health, Heartbeat
from services.persistence import queries, tables
from services.persistence.database.engine import Database
from services.persistence.presence.store import Sign, store_signs
from tests.persistence.frames import START, Log

C1, C2 = kubernetes("c1"), kubernetes("c2")
SCALE: ActionSchemas = {"scale": {"properties": {"replicas": {"type": "integer"}}, "title": "ä \u0000"}}
BOTH = SCALE | {"restart": {"properties": {}}}
_ANNOUNCEMENT = tables.table_of(tables.Announcement)


def sign(second: float, actions: ActionSchemas | None = None, target: Target = C1, **fields: Any) -> Sign:
    """A heartbeat at that second."""
    health = Health(
        healthy=True, status=fields.pop("status", "running"), start_time=datetime(2026, 11, 1, tzinfo=UTC)
    )
    body = {"version": "1", "interval": 15, "health": health, "actions": actions} | fields
    return Sign(target, Heartbeat(**body), START + timedelta(seconds=second))


async def store(db: Database, *signs: Sign) -> None:
    await store_signs(db, signs, [], Log().cursor)


async def announced(db: Database) -> dict[Target, ActionSchemas]:
    """Of all agents, as the API asks for it."""
    async with db.read() as connection:
        page = await queries.list_agents(connection, limit=100)
        return await queries.announced(connection, page.items)


async def since(db: Database) -> dict[str, float]:
    """The second of each row, by the agent's id."""
    async with db.read() as connection:
        rows = await connection.execute(sa.select(_ANNOUNCEMENT))
        return {row.target_id: (row.announced_at - START).total_seconds() for row in rows}


async def test_it_is_kept(db: Database) -> None:
    """Over heartbeats that say nothing of it, in the same batch and in later ones."""
    await store(db, sign(0, SCALE), sign(1), sign(0, BOTH, C2))
    assert await announced(db) == {C1: SCALE, C2: BOTH}
    await store(db, sign(15), sign(15, target=C2))
    assert await announced(db) == {C1: SCALE, C2: BOTH}


async def test_it_is_replaced_by_what_is_announced_next(db: Database) -> None:
    """The last of a batch counts; to be able to do nothing is announced as well."""
    await store(db, sign(0, SCALE), sign(0, SCALE, C2))
    await store(db, sign(15, SCALE), sign(16, BOTH))
    assert await announced(db) == {C1: BOTH, C2: SCALE}
    await store(db, sign(30, {}))
    assert await announced(db) == {C1: {}, C2: SCALE}


async def test_the_same_again_is_not_written(db: Database) -> None:
    """The row stays as it was; one that differs is another."""
    await store(db, sign(0, SCALE), sign(0, SCALE, C2))
    await store(db, sign(600, SCALE), sign(600, BOTH, C2))
    assert await since(db) == {"c1": 0, "c2": 600}


async def test_it_holds_for_the_version_that_announced_it(db: Database) -> None:
    """Of one that was exchanged, what the one before could do is of no matter; it may be exchanged back."""
    await store(db, sign(0, SCALE))
    await store(db, sign(15, version="2"))
    assert await announced(db) == {}
    await store(db, sign(30))
    assert await announced(db) == {C1: SCALE}
    await store(db, sign(45, SCALE, version="2"))
    assert await announced(db) == {C1: SCALE}
    await store(db, sign(60))
    assert await announced(db) == {}


async def test_a_late_one_changes_nothing(db: Database) -> None:
    await store(db, sign(30, BOTH))
    await store(db, sign(15, SCALE))
    assert await announced(db) == {C1: BOTH}


async def test_a_rival_announces_nothing(db: Database) -> None:
    """Commands go to the agent that serves."""
    await store(db, sign(0, SCALE))
    await store(db, sign(15, BOTH, status="standby"))
    assert await announced(db) == {C1: SCALE}


async def test_heartbeats_are_kept_without_it(db: Database) -> None:
    """They are written and read far more often, a rival's as well."""
    await store(db, sign(0, SCALE), sign(1, SCALE, status="standby"))
    agent = tables.table_of(tables.Agent)
    async with db.read() as connection:
        [row] = await connection.execute(sa.select(agent.c.heartbeat, agent.c.rival))
    assert all("actions" not in msgspec.json.decode(stored) for stored in row)


async def test_of_whom_nothing_was_announced_nothing_is_known(db: Database) -> None:
    """Older agents do not announce."""
    await store(db, sign(0))
    assert await announced(db) == {}
