"""From observed Kubernetes Events to rows."""

from collections import deque
from collections.abc import Mapping, Sequence

from schemas import subjects, topology
from schemas.subjects import Up
from services.master import metrics
from services.master.parts import Parts
from services.persistence.cursors import CursorStore
from services.persistence.events import confirmations
from services.persistence.events.confirmations import Mark, SpoolId, mark_of
from services.persistence.events.store import ObservedEvent, store_events
from services.runtime.bus.consumer import Consumer, Cursor, CursorPosition, Delivery, Rejected

BATCH = 500
"""Versions of Events in one transaction."""


class EventReader:
    """Stores the Events of one shard."""

    def __init__(self, parts: Parts, shard: int) -> None:
        self._db = parts.db
        self._shard = shard
        self._nudges = parts.nudges
        self._work = parts.work
        self._confirmations = parts.confirmations
        self._buried: deque[Mark] = deque(maxlen=2 * BATCH)
        """Dead letters before which something is not committed yet; one that is left out comes again."""
        self.consumer = Consumer(
            parts.bus,
            topology.EVENTS,
            [subjects.events_of_shard(shard)],
            CursorPosition(f"master-events-{shard}", CursorStore(parts.db)),
            self._store,
            service="master",
            batch=BATCH,
            on_poison=self._after_poison,
        )

    async def _store(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> None:
        assert cursor is not None
        observed = [
            ObservedEvent(
                delivery.subject.target.id,
                delivery.body,
                delivery.envelope.epoch or "",
                delivery.envelope.sequence or 0,
            )
            for delivery in deliveries
            if isinstance(delivery.subject, Up)
        ]
        marks = [mark for delivery in deliveries if (mark := _mark(delivery))]
        marks += self._buried
        stored = await self._work.run(topology.EVENTS, store_events(self._db, observed, cursor, marks))
        self._nudges.changed(self._shard, stored.rev)
        self._confirm(stored.confirmed)
        metrics.EVENTS.inc(len(observed))

    async def _after_poison(self, rejected: Rejected) -> None:
        """It is dealt with; without a confirmation its agent would send it for ever."""
        if mark := _mark(rejected):
            self._buried.append(mark)
            self._confirm(await confirmations.store(self._db, list(self._buried)))

    def _confirm(self, reached: Mapping[SpoolId, int]) -> None:
        waiting = [mark for mark in self._buried if mark.sequence > reached.get(mark.spool, 0)]
        self._buried = deque(waiting, self._buried.maxlen)
        self._confirmations.committed(reached)


def _mark(message: Delivery | Rejected) -> Mark | None:
    if not isinstance(message.subject, Up):
        return None
    return mark_of(message.subject.target, message.envelope, message.message.time)
