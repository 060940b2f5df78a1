"""The agents' heartbeats, and the master's own, which are the clock they are judged by."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from schemas import registry, subjects, topology
from schemas.presence import Health, ServiceHeartbeat
from schemas.subjects import Core, Up
from services.master.parts import Parts
from services.persistence.cursors import CursorStore
from services.persistence.presence.liveness import Beat
from services.persistence.presence.store import Sign, store_signs
from services.runtime import logs
from services.runtime.bus.client import Bus, BusError
from services.runtime.bus.consumer import Consumer, Cursor, CursorPosition, Delivery
from services.runtime.version import VERSION

_log = logs.get_logger(__name__)

BATCH = 500
GATHER = 0.5
"""Seconds in which heartbeats come together for one transaction: nobody waits for a single one."""


class HeartbeatReader:
    """Stores the last heartbeat of each agent, moves the clock, and answers agents that share an id."""

    def __init__(self, parts: Parts) -> None:
        self._db = parts.db
        self._work = parts.work
        self._superseding = parts.superseding
        self._last_beat: list[Beat] = []
        """One at most: what a beat of another master is measured by."""
        self.consumer = Consumer(
            parts.bus,
            topology.HEARTBEATS,
            topology.HEARTBEATS.subjects,
            CursorPosition("master-heartbeats", CursorStore(parts.db)),
            self._store,
            service="master",
            batch=BATCH,
        )

    async def _store(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> None:
        assert cursor is not None
        signs, beats = [], []
        for delivery in deliveries:
            match delivery.subject:
                case Up(target=target):
                    signs.append(Sign(target, delivery.body, delivery.stream_time))
                case Core(noun="heartbeat", rest=("master", _)):
                    beats.append(Beat(delivery.stream_time, delivery.body.interval))
        last, self._last_beat = self._last_beat, []  # unknown if the transaction fails: it may have been made
        if beats:
            beats = [*last, *beats]
        rivals = await self._work.run(topology.HEARTBEATS, store_signs(self._db, signs, beats, cursor))
        self._last_beat = beats[-1:] or last
        for rival in rivals:
            await self._superseding.meet(rival)
        await asyncio.sleep(GATHER)


class HeartbeatSender:
    """Publishes the master's own heartbeat."""

    def __init__(self, bus: Bus, interval: float, failing: Callable[[], dict[str, str]]) -> None:
        self._bus = bus
        self._interval = interval
        self._failing = failing
        self._started = datetime.now(UTC)

    async def run(self) -> None:
        """Until cancelled. A beat that cannot be published is left out: a late one would be a lie."""
        loop = asyncio.get_running_loop()
        while True:
            next_beat = loop.time() + self._interval
            try:
                await self._beat()
            except BusError as error:
                _log.warning("heartbeat could not be published", reason=str(error))
            await asyncio.sleep(max(0.0, next_beat - loop.time()))

    async def _beat(self) -> None:
        failing = self._failing()
        health = Health(
            healthy=not failing,
            status="degraded" if failing else "running",
            last_error="; ".join(f"{name}: {why}" for name, why in failing.items()),
            start_time=self._started,
        )
        body = ServiceHeartbeat(version=VERSION, interval=self._interval, health=health)
        source = subjects.service_source("master", self._bus.name)
        await self._bus.publish(
            subjects.service_heartbeat("master", self._bus.name),
            registry.SERVICE_HEARTBEAT_SENT.envelope(body, source=source),
            timeout=self._interval,
        )
