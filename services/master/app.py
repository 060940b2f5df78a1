"""Composition of the master."""

import asyncio
import re
import socket
from collections.abc import Collection
from datetime import timedelta

from schemas import topology
from schemas.ids import SHARDS
from services.master.events import EventReader
from services.master.heartbeats import Heart, HeartbeatReader
from services.master.resync import Resyncs, Superseding
from services.master.settings import MasterSettings
from services.master.snapshots import SnapshotReader
from services.master.work import DatabaseWork
from services.persistence import queries, retention
from services.persistence.engine import Database
from services.persistence.errors import DatabaseUnavailable
from services.persistence.ledgers import wanted_resyncs
from services.persistence.migrate import check_revision
from services.runtime import logs
from services.runtime.bus.client import connect
from services.runtime.bus.consumer import Consumer
from services.runtime.health import Health
from services.runtime.lifecycle import Service

_log = logs.get_logger(__name__)

MAX_LAG = 20_000
"""Messages behind which the rows are no longer called current."""
_HOUSEKEEPING = 3600.0
"""Seconds between two removals of what is past its retention."""


async def run(settings: MasterSettings) -> None:
    """Until SIGTERM or SIGINT. Raises UserError for what a person has to put right."""
    # A subject token, and the same after a restart: the stream keeps the last heartbeat of each name.
    instance = re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname()) or "master"
    health = Health("master")
    async with (
        Database(settings.database_url) as db,
        connect(settings, topology.MASTER.name, name=instance, wait=True) as bus,
        Service("master") as service,
    ):
        await check_revision(db)
        work = DatabaseWork()
        resyncs = Resyncs(bus, settings.resync_concurrency, settings.resync_interval)
        for target, (epoch, reason) in (await wanted_resyncs(db)).items():
            resyncs.want(target, epoch, reason)
        losers = Superseding(bus)
        consumers = {
            "heartbeats": HeartbeatReader(bus, db, work).consumer,
            **{
                f"snapshots {shard}": SnapshotReader(bus, db, work, resyncs, losers, shard).consumer
                for shard in range(SHARDS)
            },
            **{f"events {shard}": EventReader(bus, db, work, shard).consumer for shard in range(SHARDS)},
        }
        health.check("bus", bus.health)
        health.check("database", work.health)
        health.check("consumers", lambda: _reading(consumers.values()))
        health.check("lag", lambda: _lag(consumers.values()))
        listen, was_set = settings.metrics_listen, settings.was_set("metrics_listen")
        async with health.serve(listen, was_set, name="MASTER_METRICS_LISTEN"):
            for name, consumer in consumers.items():
                service.supervise(name, consumer.run)
            service.supervise("resyncs", resyncs.run)
            service.supervise("retention", lambda: _forget(db, timedelta(seconds=settings.retention)))
            service.supervise("heartbeat", Heart(bus, settings.heartbeat_interval, health.failing).run)
            await service.wait()


def _reading(consumers: Collection[Consumer]) -> str | None:
    return next((why for consumer in consumers if (why := consumer.health()) is not None), None)


def _lag(consumers: Collection[Consumer]) -> str | None:
    worst = max(consumer.lag for consumer in consumers)
    return f"{worst} messages are still to be read" if worst > MAX_LAG else None


async def _forget(db: Database, older_than: timedelta) -> None:
    """Remove what is past its retention, by the broker's clock, for ever."""
    while True:
        try:
            async with db.read() as session:
                now = await queries.clock(session)
            if now is not None and (gone := await retention.forget(db, older_than, now.latest)):
                await db.give_back()
                _log.info("old events and dead letters removed", rows=gone)
        except DatabaseUnavailable as error:
            _log.warning("old rows could not be removed", reason=str(error))
        await asyncio.sleep(_HOUSEKEEPING)
