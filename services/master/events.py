"""From observed Kubernetes Events to rows."""

from collections.abc import Sequence

from schemas import subjects, topology
from schemas.subjects import Up
from services.master import metrics
from services.master.work import DatabaseWork
from services.persistence import events
from services.persistence.cursors import CursorStore
from services.persistence.engine import Database
from services.runtime.bus.client import Bus
from services.runtime.bus.consumer import Consumer, Cursor, CursorPosition, Delivery

BATCH = 500
"""Versions of Events in one transaction."""


class EventReader:
    """Stores the Events of one shard."""

    def __init__(self, bus: Bus, db: Database, work: DatabaseWork, shard: int) -> None:
        self._db = db
        self._work = work
        self.consumer = Consumer(
            bus,
            topology.EVENTS,
            [subjects.events_of_shard(shard)],
            CursorPosition(f"master-events-{shard}", CursorStore(db)),
            self._store,
            service="master",
            batch=BATCH,
        )

    async def _store(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> None:
        assert cursor is not None
        observed = [
            events.ObservedEvent(
                delivery.subject.target.id,
                delivery.body,
                delivery.envelope.epoch or "",
                delivery.envelope.sequence or 0,
            )
            for delivery in deliveries
            if isinstance(delivery.subject, Up)
        ]
        await self._work.run(topology.EVENTS, events.store(self._db, observed, cursor))
        metrics.EVENTS.inc(len(observed))
