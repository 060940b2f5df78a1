"""Ledgers in the database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.dialects import insert_new, upsert
from services.persistence.database.engine import Database
from services.persistence.state.epochs import Ledger
from services.persistence.targets import any_target

_EPOCHS = tables.table_of(tables.Epoch)
_COLLECTIONS = tables.table_of(tables.Collection)


class Ledgers:
    """The ledgers of one shard, kept in memory by the one who writes them: each frame looks at its agent's.

    They are copies of what is committed: a transaction works on copies of them, and after one that failed,
    whose fate may be unknown, they are read again.
    """

    def __init__(self) -> None:
        self._known: dict[Target, Ledger] = {}

    async def get(self, connection: AsyncConnection, targets: Iterable[Target]) -> dict[Target, Ledger]:
        """Copies of the ledgers of those agents that are known."""
        wanted = set(targets)
        if missing := wanted - self._known.keys():
            self._known |= await _load(connection, list(missing))
        return {target: _copy(self._known[target]) for target in wanted if target in self._known}

    def has(self, targets: Collection[Target]) -> bool:
        """Whether nothing has to be read for these agents."""
        return self._known.keys() >= set(targets)

    def in_sync(self, targets: Collection[Target]) -> dict[Target, str]:
        """Those of them that are in sync, of those that are in memory; with their epochs."""
        known = {target: self._known[target] for target in targets if target in self._known}
        return {target: ledger.epoch for target, ledger in known.items() if ledger.in_sync}

    def keep(self, ledgers: Mapping[Target, Ledger]) -> None:
        """These have been committed."""
        self._known |= ledgers

    def forget(self) -> None:
        """Read all of them again when they are needed."""
        self._known.clear()


def _copy(ledger: Ledger) -> Ledger:
    return replace(ledger, synced=dict(ledger.synced))


async def save(
    connection: AsyncConnection,
    ledgers: Mapping[Target, Ledger],
    collections: Mapping[tuple[Target, str], datetime | None],
) -> None:
    """Write ledgers, and those collections with the time when they became complete (None: not yet)."""
    await upsert(connection, tables.Epoch, [ledger.columns() for ledger in ledgers.values()])
    rows: list[dict[str, Any]] = [
        {
            "target_kind": target.kind.value,
            "target_id": target.id,
            "resource": resource,
            "synced_epoch": ledgers[target].synced[resource],
            "synced_at": time,
        }
        for (target, resource), time in collections.items()
        if resource in ledgers[target].synced
    ]
    await insert_new(connection, tables.Collection, [row for row in rows if row["synced_at"] is None])
    await upsert(connection, tables.Collection, [row for row in rows if row["synced_at"] is not None])


async def wanted_resyncs(db: Database, shard: int) -> dict[Target, tuple[str, str]]:
    """The agents of a shard of which a new epoch is wanted: the epoch they are in and the reason."""
    model = tables.Epoch
    async with db.read() as connection:
        found = await connection.execute(
            sa.select(
                col(model.target_kind), col(model.target_id), col(model.epoch), col(model.resync_reason)
            ).where(col(model.resync_reason) != "")
        )
        wanted = {Target.parse(kind, name): (epoch, reason) for kind, name, epoch, reason in found}
    return {target: value for target, value in wanted.items() if target.shard == shard}


async def _load(connection: AsyncConnection, targets: Sequence[Target]) -> dict[Target, Ledger]:
    synced: dict[Target, dict[str, str]] = {target: {} for target in targets}
    collections = sa.select(_COLLECTIONS).where(any_target(_COLLECTIONS.c, targets))
    for row in await connection.execute(collections):
        synced[Target.parse(row.target_kind, row.target_id)][row.resource] = row.synced_epoch
    ledgers: dict[Target, Ledger] = {}
    for row in await connection.execute(sa.select(_EPOCHS).where(any_target(_EPOCHS.c, targets))):
        target = Target.parse(row.target_kind, row.target_id)
        ledgers[target] = Ledger.from_row(target, row, synced[target])
    return ledgers
