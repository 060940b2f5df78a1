"""Whether an agent is there, judged by the broker's clock.

The master beats on the stream that carries the agents' heartbeats, so the time of its last beat is the
present as the broker sees it: an outage of the broker, or of every master, stops the clock instead of
alarming for every agent. What the clocks of agents, master and API say is of no matter anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persistence import tables

CLOCK = "master"
"""The name of the one clock in `tables.Clock`."""
MISSED_BEATS = 3
"""Beats of the master that may be missing before its clock counts as interrupted."""


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
    last_seen: datetime,
    interval: float,
    now: datetime,
    continuous_since: datetime,
    stopping: bool = False,
) -> AgentState:
    """What follows from an agent's last heartbeat.

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


def advance(clock: tuple[datetime, datetime] | None, beats: Sequence[Beat]) -> tuple[datetime, datetime]:
    """The clock (latest beat, first beat after the last gap) some beats later, in the order of the log.

    Masters may beat at different intervals: there is a gap where both the one that beat last and the one that
    beats now have missed theirs. So `beats` begins with the latest one, where the caller still knows it.
    A beat that is as much earlier is a gap too: the broker's own clock was set back, or that of the host to
    which it has moved, and everything runs on from there. One that is a little earlier does nothing.
    """
    latest, since = clock if clock is not None else (beats[0].time, beats[0].time)
    awaited = 0.0
    for beat in beats:
        if abs(beat.time - latest) > timedelta(seconds=MISSED_BEATS * max(awaited, beat.interval)):
            latest = since = beat.time
        if beat.time >= latest:
            latest, awaited = beat.time, beat.interval
    return latest, since


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The broker's clock, as the master's beats tell it."""

    latest: datetime
    continuous_since: datetime


_CLOCK = tables.table_of(tables.Clock)
_READ_CLOCK = sa.select(_CLOCK.c.latest, _CLOCK.c.continuous_since).where(_CLOCK.c.name == CLOCK)


async def read_clock(connection: AsyncConnection) -> ClockReading | None:
    """The broker's clock; None when no master has beaten yet."""
    row = (await connection.execute(_READ_CLOCK)).first()
    return ClockReading(*row) if row else None
