"""What the holder of a lease does: read a shard, or the heartbeats, or see to the commands."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from services.master.commands.duty import CommandsDuty
from services.master.concurrently import all_of
from services.master.events import EventReader
from services.master.heartbeats import HeartbeatReader
from services.master.keeper import COMMANDS, HEARTBEATS, Duty
from services.master.parts import Parts
from services.master.snapshots import SnapshotReader
from services.persistence import queries, retention
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.leases import FencedDatabase, Holding
from services.persistence.state.ledgers import wanted_resyncs
from services.runtime import logs
from services.runtime.bus.consumer import Consumer

_log = logs.get_logger(__name__)

_HOUSEKEEPING = 300.0
"""Seconds between two removals of what is past its retention."""


class ShardDuty:
    """Frames and Events of one shard become rows, and its agents are told what follows."""

    def __init__(self, parts: Parts, shard: int) -> None:
        self._db = parts.db
        self._work = parts.work
        self._resyncs = parts.resyncs
        self._shard = shard
        self.consumers: Sequence[Consumer] = (
            SnapshotReader(parts, shard).consumer,
            EventReader(parts, shard).consumer,
        )

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost, DatabaseUnavailable."""
        try:
            await all_of(*(consumer.run for consumer in self.consumers), self._recall)
        finally:
            self._resyncs.forget(self._shard)
            self._work.forget()

    async def _recall(self) -> None:
        """Ask on where the one before us asked. Nobody's frames wait for it: a request that names an epoch
        which has been replaced meanwhile is none to its agent.
        """
        for target, (epoch, reason) in (await wanted_resyncs(self._db, self._shard)).items():
            self._resyncs.want(target, epoch, reason)


class HeartbeatsDuty:
    """The agents' heartbeats and the clock they are judged by; and what is past its retention goes."""

    def __init__(self, parts: Parts) -> None:
        self._db = parts.db
        self._work = parts.work
        self._keep = retention.Keep(
            rows=timedelta(seconds=parts.settings.retention),
            tombstones=timedelta(seconds=parts.settings.tombstone_retention),
        )
        self.consumers: Sequence[Consumer] = (HeartbeatReader(parts).consumer,)

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        try:
            await all_of(*(consumer.run for consumer in self.consumers), self._forget)
        finally:
            self._work.forget()

    async def _forget(self) -> None:
        """Remove what is past its retention, by the broker's clock, for ever."""
        while True:
            try:
                async with self._db.read() as connection:
                    now = await queries.clock(connection)
                if now is not None and (gone := await retention.forget(self._db, self._keep, now.latest)):
                    await self._db.give_back()
                    _log.info("old rows removed", rows=gone)
            except DatabaseUnavailable as error:
                _log.warning("old rows could not be removed", reason=str(error))
            await asyncio.sleep(_HOUSEKEEPING)


def duty_of(parts: Parts, holding: Holding) -> Duty:
    """The duty of a lease: all that it writes is under its fence."""
    fenced = replace(parts, db=FencedDatabase(parts.db, holding))
    if holding.name == HEARTBEATS:
        return HeartbeatsDuty(fenced)
    if holding.name == COMMANDS:
        return CommandsDuty(fenced)
    return ShardDuty(fenced, int(holding.name.removeprefix("shard/")))
