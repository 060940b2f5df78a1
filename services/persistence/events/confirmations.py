"""Up to where the Events of each spool are committed: what its agent may forget.

An agent numbers its Events from 1 in each epoch of its spool, and says with each message which is the lowest
that it keeps. So what lies below that is of no interest, and above it every number counts: a gap stays one
until the agent has sent again what is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.dialects import upsert
from services.persistence.database.engine import Database
from services.persistence.targets import any_target

_MAX_EPOCH = 64
"""Characters; ours are UUIDs."""


class SpoolId(NamedTuple):
    """One epoch of one agent's spool."""

    target: Target
    epoch: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An Event that is dealt with: it is a row, or a dead letter."""

    spool: SpoolId
    sequence: int
    first: int
    """The lowest number that the agent kept when it sent it."""
    time: datetime
    """When the stream took it."""


def mark_of(target: Target, envelope: Envelope | None, time: datetime) -> Mark | None:
    """What an envelope says about its spool; None where it says nothing, as agents of before did."""
    try:
        if envelope is None or envelope.sequence is None or envelope.first_sequence is None:
            return None
        epoch, sequence, first = envelope.epoch or "", envelope.sequence, envelope.first_sequence
    except ContractError:
        return None
    if not 0 < len(epoch) <= _MAX_EPOCH or not 0 < first <= sequence < 2**63:
        return None
    return Mark(SpoolId(target, epoch), sequence, first, time)


async def store(db: Database, marks: Sequence[Mark]) -> dict[SpoolId, int]:
    """`advance` in a transaction of its own. Raises DatabaseUnavailable."""
    async with db.write(durable=True) as connection:
        return await advance(connection, marks)


async def advance(connection: AsyncConnection, marks: Sequence[Mark]) -> dict[SpoolId, int]:
    """Note what is dealt with, in the transaction that commits it; for each spool of the marks, up to where
    it is committed without a gap.
    """
    by_spool: dict[SpoolId, list[Mark]] = {}
    for mark in marks:
        by_spool.setdefault(mark.spool, []).append(mark)
    if not by_spool:
        return {}
    known = await _known(connection, list(by_spool))
    reached = {spool: _reached(known.get(spool, 0), some) for spool, some in by_spool.items()}
    await upsert(
        connection,
        tables.Confirmation,
        [
            {
                "target_kind": spool.target.kind.value,
                "target_id": spool.target.id,
                "epoch": spool.epoch,
                "sequence": sequence,
                "updated_at": max(mark.time for mark in by_spool[spool]),
            }
            for spool, sequence in reached.items()
            if sequence > known.get(spool, -1)
        ],
    )
    return reached


def _reached(before: int, marks: Sequence[Mark]) -> int:
    """Up to where there is no gap any longer."""
    reached = max(before, max(mark.first for mark in marks) - 1)
    here = {mark.sequence for mark in marks}
    while reached + 1 in here:
        reached += 1
    return reached


async def _known(connection: AsyncConnection, spools: Sequence[SpoolId]) -> dict[SpoolId, int]:
    model = tables.Confirmation
    targets = {spool.target.durable: spool.target for spool in spools}
    found = await connection.execute(
        sa.select(col(model.target_kind), col(model.target_id), col(model.epoch), col(model.sequence)).where(
            any_target(tables.table_of(model).c, list(targets.values())),
            col(model.epoch).in_({spool.epoch for spool in spools}),
        )
    )
    return {SpoolId(Target.parse(row.target_kind, row.target_id), row.epoch): row.sequence for row in found}
