"""A simulated agent: real frames, digests and heartbeats under its own credential, and no cluster behind it.

What it says is what the agent of a cluster of running pods says, in the same order and with the same bounds:
one publish in flight, repeated until the bus has it, a new epoch when the master asks for one.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import kube, stage
from benchmarks.pod import pod
from benchmarks.processes import Rest
from schemas import registry, subjects
from schemas.envelope import Envelope, sequence_text
from schemas.frames import MAX_BYTES, MAX_ITEMS, Frame, Phase, Put, ResourceDigest, Scope, content_hash
from schemas.ids import Target, uuid7
from schemas.kubernetes import KINDS
from schemas.presence import Collection, Health, Heartbeat
from schemas.snapshot import ClusterSummary
from services.runtime.backoff import Backoff
from services.runtime.bus.broker import Broker
from services.runtime.bus.client import Bus, BusError

PODS = "pods"
NAMESPACE = "default"
GZIP_ABOVE = 4096
"""Bytes, as the agent's gateway has it."""


class SimulatedAgent:
    """One agent with pods `pod-0` … on a connection of its own."""

    def __init__(self, bus: Bus, target: Target, pods: int) -> None:
        self.bus = bus
        self.target = target
        self.resyncs = 0
        """Epochs that the master has asked for."""
        self._versions = [1] * pods
        self._hashes = [0] * pods
        self._epoch = ""
        self._sequence = 0
        self._started = datetime.now(UTC)
        self._turn = asyncio.Lock()
        """Frames go out one after the other."""

    @classmethod
    async def start(cls, bus: Bus, target: Target, pods: int) -> "SimulatedAgent":
        """Listen, beat once and publish everything."""
        agent = cls(bus, target, pods)
        await bus.subscribe(subjects.control(target, "resync"), agent._on_resync)
        await agent.publish_all()
        await agent.beat()
        return agent

    async def publish_all(self) -> None:
        """A whole epoch."""
        async with self._turn:
            self._epoch, self._sequence = uuid7(), 0
            await self._frame(
                phase=Phase.BEGIN, instance=f"instance-{self.target.id}", scope=Scope(resources=[PODS])
            )
            size = min(MAX_ITEMS, MAX_BYTES // (len(pod(self.target.id, "pod-0", 1)) + 200))
            for start in range(0, len(self._versions), size):
                numbers = range(start, min(start + size, len(self._versions)))
                await self._frame(phase=Phase.DATA, items=[self._put(number) for number in numbers])
            await self._frame(phase=Phase.SYNCED, synced=[PODS])

    async def change(self, number: int) -> int:
        """One pod changes; its new resourceVersion, once the bus has the frame."""
        self._versions[number] += 1
        version = self._versions[number]
        async with self._turn:
            await self._frame(phase=Phase.DATA, items=[self._put(number)])
        return version

    async def digest(self) -> None:
        """The proof of what it has said."""
        async with self._turn:
            held = ResourceDigest(count=len(self._hashes), sum=sum(self._hashes))
            summary = ClusterSummary(pods={"Running": len(self._hashes)})
            await self._frame(phase=Phase.DIGEST, digest={PODS: held}, summary=summary)

    async def beat(self, interval: float = 15.0) -> None:
        """One heartbeat, as large as a real one. One that the bus does not take is left out."""
        body = Heartbeat(
            version="0.1.0",
            instance=f"instance-{self.target.id}",
            platform="v1.36.3",
            epoch=self._epoch,
            interval=interval,
            capabilities=[f"observe:{resource}" for resource in KINDS],
            health=Health(healthy=True, status="running", start_time=self._started),
            collection=[
                Collection(
                    resource=resource,
                    state="synced",
                    objects=len(self._versions) if resource == PODS else 0,
                    relists=1,
                    last_event_at=datetime.now(UTC),
                )
                for resource in KINDS
            ],
            counters={"dropped": 0, "rejected": 0},
        )
        envelope = registry.HEARTBEAT_SENT.envelope(body, source=subjects.agent_source(self.target))
        try:
            await self.bus.publish(subjects.heartbeat(self.target), envelope)
        except BusError:
            return

    async def live(self, *, heartbeat: float = 15.0, digest: float = 30.0) -> None:
        """Heartbeats and digests from a random moment on, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.beat, heartbeat))
            group.create_task(_repeat(self.digest, digest))

    async def churn(self, interval: float) -> None:
        """A change of some pod each interval, until cancelled."""
        await _repeat(lambda: self.change(random.randrange(len(self._versions))), interval)

    def _put(self, number: int) -> Put:
        name = f"pod-{number}"
        body = pod(self.target.id, name, self._versions[number])
        self._hashes[number] = content_hash(PODS, NAMESPACE, name, body)
        return Put(
            resource=PODS,
            namespace=NAMESPACE,
            name=name,
            uid=f"{self.target.id}-{name}",
            body=msgspec.Raw(body),
        )

    async def _frame(self, **fields: object) -> None:
        self._sequence += 1
        frame = Frame(epoch=self._epoch, sequence=self._sequence, **fields)  # type: ignore[arg-type]
        envelope = registry.FRAME_PUBLISHED.envelope(
            frame,
            source=subjects.agent_source(self.target),
            subject=frame.phase,
            epoch=frame.epoch,
            sequence=sequence_text(frame.sequence),
        )
        backoff = Backoff(base=0.2, cap=10.0)  # as the agent's gateway
        while True:
            try:
                subject = subjects.snapshot(self.target)
                await self.bus.publish(subject, envelope, compress=len(envelope.data) > GZIP_ABOVE)
            except BusError:
                await self.bus.pause(backoff)
            else:
                return

    async def _on_resync(self, _subject: str, envelope: Envelope) -> None:
        if registry.RESYNC_REQUESTED.decode(envelope.data).epoch in ("", self._epoch):
            self.resyncs += 1
            await self.publish_all()


async def _repeat(work: Callable[[], Awaitable[object]], interval: float) -> None:
    await asyncio.sleep(random.uniform(0, interval))
    clock = asyncio.get_running_loop().time
    due = clock()
    while True:
        await work()
        due = max(due + interval, clock())
        await asyncio.sleep(due - clock())


async def start(buses: Sequence[Bus], targets: Sequence[Target], pods: int) -> list[SimulatedAgent]:
    """An agent on each connection, in their order, once the bus has the whole state of all."""
    found: dict[int, SimulatedAgent] = {}

    async def one(number: int) -> None:
        found[number] = await SimulatedAgent.start(buses[number], targets[number], pods)

    await kube.each(one, range(len(targets)))
    return [found[number] for number in range(len(targets))]


@asynccontextmanager
async def connections(broker: Broker, home: Path, targets: Sequence[Target]) -> AsyncIterator[list[Bus]]:
    """A connection for each target, under its own credential, in their order."""
    async with AsyncExitStack() as stack:
        found: dict[int, Bus] = {}

        async def connect(number: int) -> None:
            connection = stage.connect(broker, home, targets[number].durable)
            found[number] = await stack.enter_async_context(connection)

        await kube.each(connect, range(len(targets)))
        yield [found[number] for number in range(len(targets))]


async def synced(rest: Rest, targets: Sequence[Target], seconds: float) -> None:
    """Until the api shows every one of them in sync."""
    async with asyncio.timeout(seconds):
        while True:
            agents = await rest.agents()
            if all(agents.get(target.id, {}).get("in_sync") for target in targets):
                return
            await asyncio.sleep(0.5)
