"""The agent's composition root: settings → capability → bus → scheduler."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime

from schemas import topology
from schemas.actions import capability as name_of
from schemas.ids import AgentKind, Target
from schemas.presence import ActionSchemas, CollectionState, Heartbeat
from schemas.presence import Health as HealthReport
from services.agent.capability import Capability, Identity
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.commands import BusCommands
from services.agent.gateway.interfaces import Unavailable
from services.agent.gateway.logs import BusLogCalls
from services.agent.kubernetes.factory import kubernetes_capability
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.scheduler.events import EventScheduler
from services.agent.scheduler.heartbeats import HeartbeatScheduler
from services.agent.scheduler.logs import LogScheduler
from services.agent.scheduler.snapshots import SnapshotScheduler
from services.agent.scheduler.standby import Standby
from services.agent.settings import AgentSettings
from services.agent.store import journal_rows
from services.agent.store import rows as spool_tables
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from services.agent.store.spool import Spool
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

TABLES = (*spool_tables.TABLES, *journal_rows.TABLES)
"""Of the state file."""
ASKED_EACH = 300.0
"""Seconds between two questions what we may do there: rights come and go, also with a server's start."""
GOOD = (CollectionState.SYNCED, CollectionState.OFF)


class Agent:
    """One running agent, put together."""

    def __init__(
        self,
        settings: AgentSettings,
        target: Target,
        capability: Capability,
        identity: Identity,
        bus: Bus,
        file: StateFile,
    ) -> None:
        self._settings = settings
        self._capability = capability
        self._identity = identity
        self._bus = bus
        self._started = datetime.now(UTC)
        self._capabilities: list[str] = []
        self._schemas: ActionSchemas = {}
        """Of the actions among them."""
        self._stopping = False
        self._target = target
        self.standby = Standby(target, identity.instance)
        self.gateway = BusGateway(bus, target)
        self.spool = Spool(file, settings.spool_bytes)
        self.events = EventScheduler(
            capability,
            self.gateway,
            self.spool,
            flush_interval=settings.event_flush_interval,
            patience=settings.timeout_confirm,
        )
        self.snapshots = SnapshotScheduler(
            capability,
            self.gateway,
            instance=identity.instance,
            digest_interval=settings.snapshot_interval,
            full_interval=settings.snapshot_full_interval,
            events=self.events.by_type,
        )
        self.logs = LogScheduler(capability.logs, BusLogCalls(bus, target), settings.log_sessions)
        self.commands = CommandScheduler(
            target,
            identity.instance,
            capability.actions,
            Journal(file, self.gateway.clock.now),
            BusCommands(
                bus,
                target,
                self.gateway,
                poll_interval=settings.command_poll_interval,
                patience=settings.timeout_command_poll,
            ),
            read_only=settings.read_only,
            patience=settings.timeout_confirm,
            now=self.gateway.clock.now,
        )
        self.heartbeats = HeartbeatScheduler(
            self.compose,
            self.actions,
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
        await self.commands.journal.begin()  # its id is in every heartbeat
        await self.commands.listen()
        await self.gateway.on_resync(self.resync)
        await self.gateway.on_superseded(self.superseded)
        await self.gateway.on_confirmed(self.events.confirmed)
        await self.gateway.on_logs_requested(self.logs.requested)
        service.supervise("heartbeats", self.heartbeats.run)
        service.supervise("announce", _each(ASKED_EACH, self.announce))
        service.supervise("events", lambda: self.standby.while_serving(self.events.run))
        service.supervise("snapshots", lambda: self.standby.while_serving(self.snapshots.run))
        service.supervise("journal", self.commands.recover)
        service.supervise("reports", self.commands.report)
        service.supervise("execution", lambda: self.standby.while_serving(self.commands.execute))
        service.supervise("commands", lambda: self.standby.while_serving(self.commands.take))
        service.supervise("logs", lambda: self.standby.while_serving(self.logs.run))

    async def announce(self) -> None:
        """Ask what we may do there, and say so with the next heartbeat."""
        able = list(await self._capability.announce())
        declared = self._capability.actions.declared()
        self._schemas = {name: action.schema() for name, action in declared.items() if name_of(name) in able}
        self._capabilities = able

    async def superseded(self, epoch: str, by: str, instance: str) -> None:
        """Told that frames of this epoch are ignored: another agent serves our id."""
        if epoch == self.snapshots.epoch and not self.standby.reason:
            self.standby.stand_by(by, instance)

    async def resync(self, epoch: str, reason: str) -> None:
        """Asked for a new epoch; one that stands by is meant only where its own is named."""
        if not self.standby.reason:
            await self.snapshots.resync(epoch, reason)
        elif epoch == self.snapshots.epoch:
            self.standby.serve(reason)

    async def stop(self) -> None:
        """Say that this end is wanted."""
        self._stopping = True
        if self._bus.connected:
            await self.heartbeats.beat()

    def compose(self) -> Heartbeat:
        """The heartbeat as of now."""
        standing_by = self.standby.reason
        collection = [] if standing_by else self._capability.collection()
        bad = [item for item in collection if item.state not in GOOD]
        troubles = [f"{item.resource}: {item.reason or item.state}" for item in bad[:3]]
        troubles[:0] = filter(None, (self._bus.health(), self.spool.trouble(), self.commands.trouble()))
        if standing_by:
            troubles = [standing_by]
        status = "standby" if standing_by else "degraded" if troubles else "running"
        return Heartbeat(
            version=VERSION,
            instance=self._identity.instance,
            platform=self._identity.platform,
            epoch=self.snapshots.epoch,
            interval=self._settings.heartbeat_interval,
            capabilities=self._capabilities,
            labels=self._settings.label_map,
            journal=self.commands.journal.id,
            read_only=self._settings.read_only,
            health=HealthReport(
                healthy=not troubles,
                status="stopping" if self._stopping else status,
                last_error="; ".join(troubles),
                start_time=self._started,
            ),
            collection=collection,
            counters={
                "frames_published": self.snapshots.frames,
                "events_published": self.events.published,
                "events_repeated": self.events.repeated,
                "events_unconfirmed": self.spool.unconfirmed,
                "events_dropped": self.spool.dropped,
                **self.commands.counters(),
                **self._capability.counters(),
            },
        )

    def actions(self) -> ActionSchemas | None:
        """What it can do, for the heartbeat; None while it does not serve, or does not know."""
        return None if self.standby.reason or not self._capabilities else self._schemas

    def state(self) -> Hashable:
        """What the master should hear of soon: epoch, rights, and where the collection stands."""
        collection = tuple((i.resource, i.state, bool(i.reason)) for i in self._capability.collection())
        troubled = bool(self.spool.trouble()), bool(self._bus.health()), bool(self.commands.trouble())
        told = self.snapshots.epoch, tuple(self._capabilities), self.commands.journal.id, self.standby.reason
        return told, troubled, collection

    def unready(self) -> str | None:
        """Why not every resource is collected; None when all are, or none is to be."""
        if self.standby.reason:
            return None
        collection = self._capability.collection()
        bad = [f"{item.resource} {item.state}" for item in collection if item.state not in GOOD]
        return ", ".join(bad) or (None if collection else "nothing is collected yet")


async def run(settings: AgentSettings, kind: AgentKind = AgentKind.KUBERNETES) -> None:
    """Serve until told to stop. Raises UserError for what only a person can put right."""
    target = Target(kind, settings.cluster_id)
    health = Health("agent")
    listen, was_set = settings.metrics_listen, settings.was_set("metrics_listen")
    async with (
        StateFile(settings.state_file(target), TABLES) as file,
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
            agent = Agent(settings, target, capability, identity, bus, file)
            health.check("bus", bus.health)
            health.check("serving", lambda: agent.standby.reason or None)
            health.check("collection", agent.unready)
            health.check("spool", lambda: agent.spool.trouble() or None)
            health.check("commands", lambda: agent.commands.trouble() or None)
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
