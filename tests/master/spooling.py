"""An agent's Events without Kubernetes: its spool, scheduler and gateway, on a source of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from schemas.frames import Scope, content_hash
from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import KubernetesEvent
from schemas.presence import Collection
from services.agent.capability import Identity, Key, Observed, Sink
from services.agent.gateway.bus import BusGateway
from services.agent.scheduler.events import EventScheduler
from services.agent.store import rows
from services.agent.store.file import StateFile
from services.agent.store.spool import Spool
from services.runtime.bus.client import Bus, Subscription
from services.runtime.tasks import cancelled


def observed(uid: str, count: int, message: str = "") -> Observed:
    """A version of an Event as a Kubernetes agent observes it."""
    body = KubernetesEvent.decode(
        msgspec.json.encode(
            {
                "metadata": {"name": f"event-{uid}", "namespace": "default", "uid": uid},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"},
                "type": "Warning",
                "message": message,
                "firstTimestamp": "2026-11-01T00:00:00Z",
                "lastTimestamp": "2026-11-01T00:00:00Z",
                "count": count,
            }
        )
    ).encode()
    key = Key("default", f"event-{uid}")
    return Observed(
        "events",
        key,
        uid,
        body,
        content_hash("events", *key, body),
        "Warning",
        about=Key("default", "Pod"),
    )


@dataclass
class Source:
    """What has events: it lists what is present to whoever begins to follow, then says what is new."""

    present: dict[Key, Observed] = field(default_factory=dict)
    kind = AgentKind.KUBERNETES
    _sink: Sink | None = None

    async def emit(self, *events: Observed) -> None:
        """Something happens; before anybody follows it is listed later."""
        self.present |= {event.key: event for event in events}
        if self._sink is not None:
            await self._sink.put(events)

    async def follow_events(self, sink: Sink) -> None:
        await sink.put(list(self.present.values()))
        await sink.retain("events", None, set(self.present))
        await sink.synced("events")
        self._sink = sink
        try:
            await asyncio.Event().wait()
        finally:
            self._sink = None

    async def identify(self) -> Identity:
        return Identity("instance", "v1")

    async def announce(self) -> Sequence[str]:
        return []

    def scope(self) -> Scope:
        return Scope(resources=[], namespaces=[])

    async def observe(self, sink: Sink) -> None:
        await asyncio.Event().wait()

    def collection(self) -> list[Collection]:
        return []

    def counters(self) -> dict[str, int]:
        return {}


@dataclass
class SpoolingAgent:
    """The part of an agent that has to do with Events."""

    bus: Bus
    target: Target
    path: Path
    source: Source = field(default_factory=Source)

    @asynccontextmanager
    async def running(
        self, *, deaf: bool = False, limit: int = 2**26, patience: float = 1.0
    ) -> AsyncIterator["Running"]:
        """It runs; `deaf`: it minds no confirmation."""
        async with StateFile(self.path, rows.TABLES) as file:
            spool = Spool(file, limit)
            gateway = BusGateway(self.bus, self.target)
            scheduler = EventScheduler(self.source, gateway, spool, flush_interval=0.0, patience=patience)
            heard: list[int] = []

            async def confirmed(epoch: str, sequence: int) -> None:
                heard.append(sequence)
                if not deaf:
                    await scheduler.confirmed(epoch, sequence)

            subscribed = await _hear(self.bus, gateway, confirmed)
            task = asyncio.create_task(scheduler.run())
            try:
                yield Running(spool, scheduler, file, heard)
            finally:
                await cancelled(task)
                for subscription in subscribed:
                    await subscription.close()


@dataclass
class Running:
    spool: Spool
    scheduler: EventScheduler
    file: StateFile
    heard: list[int]
    """Up to where the master has confirmed, each time it said so."""

    def sent(self, count: int) -> Callable[[], bool]:
        """Whether the bus has taken so many since the start."""
        return lambda: self.scheduler.published >= count


async def _hear(
    bus: Bus, gateway: BusGateway, handler: Callable[[str, int], Awaitable[None]]
) -> Iterable[Subscription]:
    """Listen, and give back the subscriptions that this has made."""
    before = set(bus._subscriptions)
    await gateway.on_confirmed(handler)
    return bus._subscriptions - before
