"""The write side of liveness: the agents' heartbeats and the master's own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from schemas.ids import Target
from schemas.presence import CollectionState, Heartbeat
from services.persistence import cursors, tables
from services.persistence.database.dialects import key_is, key_parameters, upsert
from services.persistence.database.engine import Database
from services.persistence.presence import announcements, heartbeats, rivals
from services.persistence.presence.heartbeats import StoredCollection
from services.persistence.presence.liveness import CLOCK, Beat, ClockReading, advance, read_clock
from services.persistence.presence.rivals import Rival, Standing
from services.persistence.targets import is_target
from services.runtime.bus.cursor import Cursor

_NOT_AWAITED = (CollectionState.FORBIDDEN, CollectionState.ABSENT, CollectionState.OFF)
"""States of a resource that last until somebody changes rights, definitions or settings."""
_AGENT = tables.table_of(tables.Agent)
_NOTE_RIVAL = (
    sa.update(_AGENT)
    .where(*key_is(tables.Agent))
    .values(rival_seen=sa.bindparam("seen"), rival=sa.bindparam("said"))
)
_LATEST = sa.bindparam("latest", type_=_AGENT.c.last_seen.type)
_NOT_BEYOND = (
    sa.update(_AGENT)
    .where((_AGENT.c.last_seen > _LATEST) | (_AGENT.c.rival_seen > _LATEST))
    .values(
        last_seen=sa.case((_AGENT.c.last_seen > _LATEST, _LATEST), else_=_AGENT.c.last_seen),
        rival_seen=sa.case((_AGENT.c.rival_seen > _LATEST, _LATEST), else_=_AGENT.c.rival_seen),
    )
)
"""Where the broker's clock was set back: a heartbeat of a time yet to come would hide the next ones."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One heartbeat of an agent, as the broker took it."""

    target: Target
    heartbeat: Heartbeat
    time: datetime


async def store_signs(
    db: Database, signs: Sequence[Sign], beats: Sequence[Beat], cursor: Cursor
) -> list[Rival]:
    """Store a batch and move the cursor past it, in one transaction; the rivals among the senders.

    Raises LeaseLost, DatabaseUnavailable.
    """
    async with db.write() as connection:
        before = await read_clock(connection)
        clock = await _move_clock(connection, before, beats)
        known = await rivals.owners(connection, list({sign.target for sign in signs}), clock)
        serving, others = [], []
        for sign in signs:
            match rivals.standing(known[sign.target], sign.heartbeat, clock):
                case Standing.COUNTS:
                    serving.append(sign)
                    known[sign.target] = known[sign.target].beaten(sign.heartbeat, sign.time)
                case Standing.RIVAL:
                    others.append(sign)
        rows = [_row(sign) for sign in serving]
        await upsert(connection, tables.Agent, rows, newer_by=("last_seen",), keep=("rival_seen", "rival"))
        announcing = [sign for sign in serving if sign.heartbeat.actions is not None]
        said = {sign.target: (sign.heartbeat, sign.time) for sign in announcing}
        await announcements.keep(connection, said)
        if others:
            await connection.execute(_NOTE_RIVAL, [_note(sign) for sign in others])
        if before and clock and clock.latest < before.latest:
            await connection.execute(_NOT_BEYOND, {"latest": clock.latest})
        await cursors.save(connection, cursor)
    return [rivals.rival(sign.target, known[sign.target], sign.heartbeat, clock) for sign in others]


def _row(sign: Sign) -> dict[str, object]:
    return {
        **_key(sign.target),
        "last_seen": sign.time,
        "interval": sign.heartbeat.interval,
        "stopping": sign.heartbeat.health.status == rivals.STOPPING,
        "heartbeat": _said(sign),
        "rival_seen": None,
        "rival": None,
    }


def _note(sign: Sign) -> dict[str, object]:
    """The parameters of _NOTE_RIVAL: a rival that goes is none."""
    here = sign.heartbeat.health.status != rivals.STOPPING
    return {
        **key_parameters(_key(sign.target)),
        "seen": sign.time if here else None,
        "said": _said(sign) if here else None,
    }


def _said(sign: Sign) -> bytes:
    """Without what is kept beside it."""
    return sign.heartbeat.model_dump_json(exclude={"actions"}).encode()


def _key(target: Target) -> dict[str, str]:
    return {"target_kind": target.kind.value, "target_id": target.id}


async def _move_clock(
    connection: AsyncConnection, before: ClockReading | None, beats: Sequence[Beat]
) -> ClockReading | None:
    if not beats:
        return before
    latest, since = advance((before.latest, before.continuous_since) if before else None, beats)
    row = {"name": CLOCK, "latest": latest, "continuous_since": since}
    await upsert(connection, tables.Clock, [row])
    return ClockReading(latest, since)


def cannot_collect(collection: Iterable[StoredCollection]) -> frozenset[str]:
    """The resources that an agent says it cannot collect: their rows are not awaited."""
    return frozenset(item.resource for item in collection if item.state in _NOT_AWAITED)


async def not_collected(connection: AsyncConnection, target: Target) -> frozenset[str]:
    """What an agent's last heartbeat says it cannot collect."""
    model = tables.Agent
    heartbeat = await connection.scalar(sa.select(col(model.heartbeat)).where(is_target(model, target)))
    return cannot_collect(heartbeats.read(heartbeat).collection) if heartbeat else frozenset()
