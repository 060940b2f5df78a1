"""Agents that are away: lost, by the broker's clock, or gone by their own word."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from services.persistence import tables
from services.persistence.presence.liveness import AgentState, ClockReading, agent_state, read_clock
from services.persistence.targets import any_target, target_of

_AGENT = tables.table_of(tables.Agent)
_CHUNK = 500
"""Agents in one statement."""
_AWAY = (AgentState.LOST, AgentState.STOPPING)


def is_away(agent: Any, clock: ClockReading | None) -> bool:
    """Of a row with `last_seen`, `interval` and `stopping`. Without a clock nobody is lost."""
    now, since = (clock.latest, clock.continuous_since) if clock else (agent.last_seen, agent.last_seen)
    return agent_state(agent.last_seen, agent.interval, now, since, agent.stopping) in _AWAY


async def absent(connection: AsyncConnection, targets: Collection[Target]) -> set[Target]:
    """Those of these agents that are away; one that was never heard of is not among them."""
    clock, away = await read_clock(connection), set[Target]()
    ordered = sorted(targets)
    for start in range(0, len(ordered), _CHUNK):
        found = await connection.execute(
            sa.select(
                *(_AGENT.c.target_kind, _AGENT.c.target_id),
                *(_AGENT.c.last_seen, _AGENT.c.interval, _AGENT.c.stopping),
            ).where(any_target(_AGENT.c, ordered[start : start + _CHUNK]))
        )
        away |= {target_of(row) for row in found if is_away(row, clock)}
    return away
