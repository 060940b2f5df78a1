"""Composition of the master."""

import re
import secrets
from collections.abc import Collection
from functools import partial
from pathlib import Path

from schemas import topology
from services.master.confirmations import Confirmations
from services.master.duties import duty_of
from services.master.heartbeats import HeartbeatSender
from services.master.keeper import Keeper
from services.master.nudges import Nudges
from services.master.parts import Parts
from services.master.resync import Resyncs, Superseding
from services.master.settings import MasterSettings
from services.master.teller import Teller
from services.master.work import DatabaseWork
from services.persistence.database.engine import Database
from services.persistence.database.lock import ProcessLock
from services.persistence.database.migrate import check_revision
from services.persistence.database.probe import DatabaseProbe
from services.persistence.leases import Leases
from services.runtime.bus.client import connect
from services.runtime.bus.consumer import Consumer
from services.runtime.health import Health
from services.runtime.lifecycle import Service

MAX_LAG = 20_000
"""Messages behind which the rows are no longer called current."""


async def run(settings: MasterSettings) -> None:
    """Until SIGTERM or SIGINT. Raises UserError for what a person has to put right."""
    # A subject token, and the same after a restart: the stream keeps the last heartbeat of each name.
    instance = re.sub(r"[^A-Za-z0-9_-]", "_", settings.instance)
    health = Health("master")
    async with (
        Database(settings.database_url, "master") as db,
        connect(settings, topology.MASTER.name, name=instance, wait=True) as bus,
        Service("master") as service,
    ):
        await check_revision(db)
        teller, work = Teller(bus), DatabaseWork()
        resyncs = Resyncs(
            teller, settings.resync_concurrency, settings.resync_interval, settings.resync_patience
        )
        nudges, confirmations = Nudges(teller), Confirmations(teller)
        parts = Parts(
            settings=settings,
            bus=bus,
            db=db,
            work=work,
            resyncs=resyncs,
            superseding=Superseding(teller, settings.resync_interval),
            nudges=nudges,
            confirmations=confirmations,
        )
        keeper = Keeper(
            Leases(db, f"{instance}/{secrets.token_hex(4)}", settings.lease),
            partial(duty_of, parts),
            bus,
            ProcessLock(Path(f"{db.name}.master")) if db.is_sqlite else None,
        )
        heartbeat = HeartbeatSender(bus, settings.heartbeat_interval, health.failing)
        health.check("bus", bus.health)
        probe = DatabaseProbe(db)
        health.check("database", lambda: work.health() or probe.health())
        health.check("leases", keeper.health, keeper.status)
        health.check("consumers", lambda: _reading(keeper.consumers))
        health.check("lag", lambda: _lag(keeper.consumers))
        listen, was_set = settings.metrics_listen, settings.was_set("metrics_listen")
        async with health.serve(listen, was_set, name="MASTER_METRICS_LISTEN"):
            service.supervise("database probe", probe.run)
            service.supervise("resyncs", resyncs.run)
            service.supervise("nudges", nudges.run)
            service.supervise("confirmations", confirmations.run)
            service.supervise("leases", keeper.run)
            service.supervise("heartbeat", heartbeat.run)
            await service.wait()


def _reading(consumers: Collection[Consumer]) -> str | None:
    return next((why for consumer in consumers if (why := consumer.health()) is not None), None)


def _lag(consumers: Collection[Consumer]) -> str | None:
    worst = max((consumer.lag for consumer in consumers), default=0)
    return f"{worst} messages are still to be read" if worst > MAX_LAG else None
