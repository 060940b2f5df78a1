"""The agent's composition root: settings → capability → bus → scheduler."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime

from schemas import topology
from schemas.ids import AgentKind, Target
from schemas.presence import CollectionState, Heartbeat
from schemas.presence import Health as HealthReport
from services.agent.capability import Capability, Identity
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.interfaces import Unavailable
from services.agent.kubernetes.factory import kubernetes_capability
from services.agent.scheduler.events import EventScheduler
from services.agent.scheduler.heartbeats import HeartbeatScheduler
from services.agent.scheduler.snapshots import SnapshotScheduler
from services.agent.settings import AgentSettings
from services.runtime import logs
from services.runtime.bus import client as bus_client
from services.runtime.bus.client import Bus
from services.runtime.errors import UserError
from services.runtime.health import Health
from services.runtime.lifecycle import Service
from services.runtime.version import VERSION

_log = logs.get_logger(__name__)

CAPABILITIES: dict[AgentKind, Callable[[AgentSettings], AbstractAsyncContextManager[Capability]]] = {
    AgentKind.KUBERNETES: kubernetes_capability,
}
"""What an agent can serve: the next kind is one line here."""

GOOD = (CollectionState.SYNCED, CollectionState.OFF)


class Agent:
    """One running agent, put together."""

    def __init__(
        self, settings: AgentSettings, target: Target, capability: Capability, identity: Identity, bus: Bus
    ) -> None:
        self._settings = settings
        self._capability = capability
        self._identity = identity
        self._bus = bus
        self._started = datetime.now(UTC)
        self._capabilities: list[str] = []
        self._stopping = False
        self._target = target
        self._superseded: str | None = None
        """The epoch that another agent's has replaced."""
        self.gateway = BusGateway(bus, target)
        self.events = EventScheduler(capability, self.gateway, flush_interval=settings.event_flush_interval)
        self.snapshots = SnapshotScheduler(
            capability,
            self.gateway,
            instance=identity.instance,
            digest_interval=settings.snapshot_interval,
            full_interval=settings.snapshot_full_interval,
            events=self.events.by_type,
        )
        self.heartbeats = HeartbeatScheduler(
            self.compose,
            self.state,
            self.gateway,
            interval=settings.heartbeat_interval,
            timeout=settings.timeout_heartbeat,
        )

    async def start(self, service: Service) -> None:
        """Listen to the master, and begin to work under the service's supervision."""
        _log.info(
            "agent serves",
            target=str(self._target),
            instance=self._identity.instance,
            platform=self._identity.platform,
            read_only=self._settings.read_only,
        )
        await self.gateway.on_resync(self.snapshots.resync)
        await self.gateway.on_superseded(self.superseded)
        service.supervise("heartbeats", self.heartbeats.run)
        service.supervise("announce", _each(self._settings.snapshot_full_interval, self.announce))
        service.supervise("events", self.events.run)
        service.supervise("snapshots", self.snapshots.run)

    async def announce(self) -> None:
        """Ask what we may do there, and say so with the next heartbeat."""
        self._capabilities = list(await self._capability.announce())

    async def superseded(self, epoch: str) -> None:
        """Told that frames of this epoch are ignored: somebody else publishes under our id."""
        if epoch == self.snapshots.epoch != self._superseded:
            self._superseded = epoch
            _log.error("superseded", epoch=epoch, reason=self._rival)

    @property
    def _rival(self) -> str:
        """Who is in our way; empty again when an epoch of ours has won."""
        if self._superseded != self.snapshots.epoch:
            return ""
        return f"another agent publishes as {self._target}: give one of them an id of its own"

    async def stop(self) -> None:
        """Say that this end is wanted."""
        self._stopping = True
        if self._bus.connected:
            await self.heartbeats.beat()

    def compose(self) -> Heartbeat:
        """The heartbeat as of now."""
        collection = self._capability.collection()
        bad = [item for item in collection if item.state not in GOOD]
        status = "stopping" if self._stopping else "degraded" if bad else "running"
        return Heartbeat(
            version=VERSION,
            instance=self._identity.instance,
            platform=self._identity.platform,
            epoch=self.snapshots.epoch,
            interval=self._settings.heartbeat_interval,
            capabilities=self._capabilities,
            read_only=self._settings.read_only,
            health=HealthReport(
                healthy=not bad and not self._rival,
                status=status,
                last_error=self._rival
                or "; ".join(f"{item.resource}: {item.reason or item.state}" for item in bad[:3]),
                start_time=self._started,
            ),
            collection=collection,
            counters={
                "frames_published": self.snapshots.frames,
                "events_published": self.events.published,
                "events_dropped": self.gateway.dropped,
                **self._capability.counters(),
            },
        )

    def state(self) -> Hashable:
        """What the master should hear of soon: epoch, rights, and where the collection stands."""
        collection = tuple((item.resource, item.state) for item in self._capability.collection())
        return self.snapshots.epoch, tuple(self._capabilities), self._rival, collection

    def unready(self) -> str | None:
        """Why not every resource is collected; None when all are."""
        collection = self._capability.collection()
        bad = [f"{item.resource} {item.state}" for item in collection if item.state not in GOOD]
        return ", ".join(bad) or (None if collection else "nothing is collected yet")


async def run(settings: AgentSettings, kind: AgentKind = AgentKind.KUBERNETES) -> None:
    """Serve until told to stop. Raises UserError for what only a person can put right."""
    target = Target(kind, settings.cluster_id)
    health = Health("agent")
    listen, was_set = settings.metrics_listen, settings.was_set("metrics_listen")
    async with (
        CAPABILITIES[kind](settings) as capability,
        health.serve(listen, was_set, name="AGENT_METRICS_LISTEN"),
        bus_client.connect(settings, topology.agent(target).name, name=f"agent {target}") as bus,
    ):
        try:
            identity = await capability.identify()
        except UserError as error:
            await _tell(bus, target, settings, error)
            raise
        async with Service("agent") as service:  # inside: its tasks end before what they stand on
            agent = Agent(settings, target, capability, identity, bus)
            health.check("bus", bus.health)
            health.check("collection", agent.unready)
            await agent.start(service)
            try:
                await service.wait()
            finally:
                await agent.stop()


async def _tell(bus: Bus, target: Target, settings: AgentSettings, error: UserError) -> None:
    """Say on the bus why this agent can't begin, or it would be seen as lost without a reason."""
    beat = Heartbeat(
        version=VERSION,
        interval=settings.heartbeat_interval,
        read_only=settings.read_only,
        health=HealthReport(
            healthy=False, status="starting", last_error=error.message, start_time=datetime.now(UTC)
        ),
    )
    with suppress(Unavailable):
        await BusGateway(bus, target).beat(beat)


def _each(interval: float, do: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """`do` now and once per interval (seconds), for ever."""

    async def loop() -> None:
        while True:
            await do()
            await asyncio.sleep(interval)

    return loop
