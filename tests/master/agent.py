"""An agent for the master's tests: publishes what it is told to, and hears what is said to it."""

from datetime import UTC, datetime

import msgspec

from schemas import registry, subjects
from schemas.envelope import Envelope, sequence_text
from schemas.frames import Frame
from schemas.kubernetes.event import KubernetesEvent
from schemas.presence import Health, Heartbeat
from services.runtime.bus.client import Bus
from tests.persistence.frames import FrameSource


class BusAgent:
    """One agent on the bus; `source` makes its frames."""

    def __init__(self, bus: Bus, source: FrameSource) -> None:
        self.bus = bus
        self.source = source
        self.heard: list[tuple[str, dict[str, str]]] = []
        """What came over `ctl`: its last token and the body."""

    @property
    def source_name(self) -> str:
        return subjects.agent_source(self.source.target)

    async def listen(self) -> None:
        await self.bus.subscribe(subjects.controls(self.source.target), self._hear)

    async def _hear(self, subject: str, envelope: Envelope) -> None:
        self.heard.append((subject.rpartition(".")[2], msgspec.json.decode(envelope.data)))

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            envelope = registry.FRAME_PUBLISHED.envelope(
                frame, source=self.source_name, epoch=frame.epoch, sequence=sequence_text(frame.sequence)
            )
            await self.bus.publish(subjects.snapshot(self.source.target), envelope, compress=True)

    async def send_bytes(self, data: bytes) -> None:
        """Something that is no frame, as one."""
        envelope = Envelope(type=registry.FRAME_PUBLISHED.name, source=self.source_name, data=data)
        await self.bus.publish(subjects.snapshot(self.source.target), envelope)

    async def beat(self, interval: float = 15.0) -> None:
        health = Health(healthy=True, status="running", start_time=datetime.now(UTC))
        body = Heartbeat(version="1", interval=interval, health=health, epoch=self.source.epoch)
        envelope = registry.HEARTBEAT_SENT.envelope(body, source=self.source_name)
        await self.bus.publish(subjects.heartbeat(self.source.target), envelope)

    async def observe(self, uid: str, count: int, sequence: int, **fields: object) -> None:
        """Publish one version of an Event."""
        body = KubernetesEvent.decode(
            msgspec.json.encode(
                {
                    "metadata": {"name": f"event-{uid}", "namespace": "default", "uid": uid},
                    "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"},
                    "firstTimestamp": "2026-11-01T00:00:00Z",
                    "lastTimestamp": "2026-11-01T00:00:00Z",
                    "count": count,
                }
                | fields
            )
        )
        envelope = registry.EVENT_OBSERVED.envelope(
            body, source=self.source_name, epoch="e1", sequence=sequence_text(sequence)
        )
        await self.bus.publish(subjects.event(self.source.target, "default", "Pod"), envelope)
