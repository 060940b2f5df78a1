"""Several agents under one id: whose heartbeats count, and who is to serve.

The epoch that counts decides who serves an id (see `epochs`), and the instance it came from owns the id.
Everybody else is a rival: one that stands by, publishes in an epoch that was replaced, or comes from another
instance. A rival's heartbeats are kept beside those of the agent that serves, never in their place.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from schemas.presence import Heartbeat
from services.persistence import tables
from services.persistence.presence import heartbeats
from services.persistence.presence.heartbeats import StoredHeartbeat
from services.persistence.presence.liveness import AgentState, ClockReading, agent_state, read_clock
from services.persistence.state.epochs import Ledger
from services.persistence.targets import any_target

STANDBY = "standby"
"""The status of an agent that leaves its id to another."""
STOPPING = "stopping"
_AHEAD = timedelta(minutes=1)
"""By which a frame may be later than the clock: other readers read the frames and the master's beats."""
_INTERVAL = 15.0
"""Seconds between the heartbeats of an agent of which none has come yet."""

_AGENTS = tables.table_of(tables.Agent)
_EPOCHS = tables.table_of(tables.Epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who has an id, as far as heartbeats and frames have told."""

    epoch: str = ""
    """The one that counts; empty before the first frame."""
    previous: Collection[str] = ()
    """The epochs that were replaced or refused."""
    instance: str = ""
    last_sign: datetime | None = None
    """When the broker took its last heartbeat or frame."""
    interval: float = _INTERVAL
    stopping: bool = False
    heartbeat: Heartbeat | StoredHeartbeat | None = None
    """The last one that counted."""

    def state(self, clock: ClockReading | None) -> AgentState:
        """Whether it is there. One of whom nothing is known may be heard until the clock has run for a while.

        Without a clock, before a master's first beat, nobody is lost.
        """
        if clock is None:
            return AgentState.LIVE
        stopping = self.stopping and (self.heartbeat is None or self.heartbeat.epoch in ("", self.epoch))
        last_sign = self.last_sign or clock.continuous_since
        return agent_state(last_sign, self.interval, clock.latest, clock.continuous_since, stopping)

    def beaten(self, heartbeat: Heartbeat | StoredHeartbeat, time: datetime) -> "Owner":
        """The same after one more heartbeat of its own."""
        last_sign = max(time, self.last_sign or time)
        stopping = heartbeat.health.status == STOPPING
        return replace(
            self, last_sign=last_sign, interval=heartbeat.interval, stopping=stopping, heartbeat=heartbeat
        )

    def is_foreign(self, instance: str) -> bool:
        """Whether a heartbeat comes from another instance; one that does not know its own may be the same."""
        return "" not in (self.instance, instance) and instance != self.instance


class Standing(Enum):
    """What a heartbeat is."""

    COUNTS = auto()
    """It is the sign of life of the agent that serves, or is about to."""
    RIVAL = auto()
    UNHEARD = auto()
    """Of one that has not begun, while another serves; or the goodbye of one that does not serve."""


def standing(owner: Owner, heartbeat: Heartbeat, clock: ClockReading | None) -> Standing:
    """Whose sign of life a heartbeat is."""
    status = heartbeat.health.status
    if status == STANDBY or owner.is_foreign(heartbeat.instance):
        return Standing.RIVAL
    if not owner.epoch or heartbeat.epoch == owner.epoch or _one_process(owner.heartbeat, heartbeat):
        return Standing.COUNTS
    if heartbeat.epoch in owner.previous:
        return Standing.RIVAL
    if status == STOPPING:
        return Standing.UNHEARD
    hides = owner.heartbeat is not None and owner.state(clock) in (AgentState.LIVE, AgentState.STALE)
    if not heartbeat.epoch and hides:
        return Standing.UNHEARD
    return Standing.COUNTS  # in an epoch whose `begin` is still to be read


def _one_process(one: Heartbeat | StoredHeartbeat | None, other: Heartbeat) -> bool:
    """Whether both heartbeats come from the same run of an agent, which changes its epoch now and then."""
    return (
        one is not None
        and one.health.start_time == other.health.start_time
        and one.instance == other.instance
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """An agent whose heartbeat does not count, and what it is to hear."""

    target: Target
    epoch: str
    """Its own; empty when it has not begun."""
    standing_by: bool
    winner: str
    """The epoch that counts."""
    winner_instance: str
    may_serve: bool
    """Whoever had the id is gone."""


def rival(target: Target, owner: Owner, heartbeat: Heartbeat, clock: ClockReading | None) -> Rival:
    """What follows from a rival's heartbeat.

    The id of an agent that said goodbye goes to one of its own kind at once. To another instance it goes
    only when the agent is lost: it would otherwise change hands whenever its owner is started again.
    """
    state = owner.state(clock)
    gone = state is AgentState.LOST or (
        state is AgentState.STOPPING and not owner.is_foreign(heartbeat.instance)
    )
    return Rival(
        target=target,
        epoch=heartbeat.epoch,
        standing_by=heartbeat.health.status == STANDBY,
        winner=owner.epoch,
        winner_instance=owner.instance,
        may_serve=gone,
    )


async def owners(
    connection: AsyncConnection, targets: Sequence[Target], clock: ClockReading | None
) -> dict[Target, Owner]:
    """Who has these ids."""
    found: dict[Target, Owner] = dict.fromkeys(targets, Owner())
    if not targets:
        return found
    columns = _EPOCHS.c
    for row in await connection.execute(
        sa.select(
            columns.target_kind,
            columns.target_id,
            columns.epoch,
            columns.previous,
            columns.instance,
            columns.as_of,
        ).where(any_target(columns, targets))
    ):
        found[Target.parse(row.target_kind, row.target_id)] = Owner(
            epoch=row.epoch,
            previous=row.previous,
            instance=row.instance,
            last_sign=_believed(row.as_of, clock),
        )
    for row in await connection.execute(sa.select(_AGENTS).where(any_target(_AGENTS.c, targets))):
        target = Target.parse(row.target_kind, row.target_id)
        found[target] = _with_row(found[target], row)
    return found


async def is_served(connection: AsyncConnection, ledger: Ledger) -> bool:
    """Whether the agent whose frames a ledger counts is still there: its id is not another instance's."""
    clock = await read_clock(connection)
    owner = Owner(epoch=ledger.epoch, instance=ledger.instance, last_sign=_believed(ledger.as_of, clock))
    found = await connection.execute(sa.select(_AGENTS).where(any_target(_AGENTS.c, [ledger.target])))
    if (row := found.first()) is not None:
        owner = _with_row(owner, row)
    return owner.state(clock) is not AgentState.LOST


def _believed(as_of: datetime | None, clock: ClockReading | None) -> datetime | None:
    """The time of a frame, unless the broker's clock was set back since."""
    beyond = as_of is not None and clock is not None and as_of > clock.latest + _AHEAD
    return None if beyond else as_of


def _with_row(owner: Owner, row: Any) -> Owner:
    return owner.beaten(heartbeats.read(row.heartbeat), row.last_seen)
