"""The write side of liveness: the agents' heartbeats and the master's own.

The broker's clock is the judge. The master beats on the stream that carries the agents' heartbeats, so the
time of its last beat is the present as the broker sees it: an outage of the broker, or of every master,
stops the clock instead of alarming for every agent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from schemas.ids import Target
from schemas.presence import Collection, CollectionState, Heartbeat
from services.persistence import cursors, tables
from services.persistence.dialects import upsert
from services.persistence.engine import Database
from services.persistence.targets import is_target
from services.runtime.bus.cursor import Cursor

CLOCK = "master"
"""The name of the one clock in `tables.Clock`."""
MISSED_BEATS = 3
"""Beats of the master that may be missing before its clock counts as interrupted."""
_NOT_AWAITED = (CollectionState.FORBIDDEN, CollectionState.ABSENT, CollectionState.OFF)
"""States of a resource that last until somebody changes rights, definitions or settings."""


class AgentState(StrEnum):
    """Whether an agent is there."""

    LIVE = "live"
    STALE = "stale"
    """Two heartbeats are missing."""
    LOST = "lost"
    """Three are."""
    STOPPING = "stopping"
    """It said that it is going."""


def agent_state(
    last_seen: datetime, interval: float, now: datetime, continuous_since: datetime, stopping: bool = False
) -> AgentState:
    """The state of an agent by the age of its last heartbeat.

    `now` is the broker's clock, `interval` the agent's own, in seconds. Silence counts from the moment on
    from which the clock has run without a gap: before it, the heartbeats may have been lost on our side.
    A tenth of the interval is allowed for a heartbeat that is merely late.
    """
    silence = (now - max(last_seen, continuous_since)).total_seconds()
    if silence > 3 * interval:
        return AgentState.LOST
    if stopping:
        return AgentState.STOPPING
    return AgentState.STALE if silence > 2.1 * interval else AgentState.LIVE


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat of a master, as the broker took it."""

    time: datetime
    interval: float


@dataclass(frozen=True, slots=True)
class Sign:
    """One heartbeat of an agent, as the broker took it."""

    target: Target
    heartbeat: Heartbeat
    time: datetime


async def store(db: Database, signs: Sequence[Sign], beats: Sequence[Beat], cursor: Cursor) -> None:
    """Store a batch and move the cursor past it, in one transaction. Raises DatabaseUnavailable."""
    rows = [
        {
            "target_kind": sign.target.kind.value,
            "target_id": sign.target.id,
            "last_seen": sign.time,
            "interval": sign.heartbeat.interval,
            "stopping": sign.heartbeat.health.status == "stopping",
            "heartbeat": sign.heartbeat.model_dump_json().encode(),
            "rival_seen": None,
            "rival": None,
        }
        for sign in signs
    ]
    async with db.write() as session:
        connection = await session.connection()
        await upsert(connection, tables.Agent, rows, newer_by=("last_seen",))
        if beats:
            model = tables.Clock
            found = await connection.execute(
                sa.select(col(model.latest), col(model.continuous_since)).where(col(model.name) == CLOCK)
            )
            before = found.first()
            latest, since = advance((before[0], before[1]) if before else None, beats)
            row = {"name": CLOCK, "latest": latest, "continuous_since": since}
            await upsert(connection, model, [row])
        await cursors.save(connection, cursor)


def advance(clock: tuple[datetime, datetime] | None, beats: Sequence[Beat]) -> tuple[datetime, datetime]:
    """The clock (latest beat, first beat after the last gap) some beats later; past ones do nothing."""
    latest, since = clock if clock is not None else (beats[0].time, beats[0].time)
    for beat in beats:
        if beat.time - latest > timedelta(seconds=MISSED_BEATS * beat.interval):
            since = beat.time
        latest = max(latest, beat.time)
    return latest, since


def cannot_collect(collection: Iterable[Collection]) -> frozenset[str]:
    """The resources that an agent says it cannot collect: their rows are not awaited."""
    return frozenset(item.resource for item in collection if item.state in _NOT_AWAITED)


async def not_collected(connection: AsyncConnection, target: Target) -> frozenset[str]:
    """What an agent's last heartbeat says it cannot collect."""
    model = tables.Agent
    heartbeat = await connection.scalar(sa.select(col(model.heartbeat)).where(is_target(model, target)))
    return cannot_collect(Heartbeat.model_validate_json(heartbeat).collection) if heartbeat else frozenset()
