"""Publishes state: one epoch after another, one frame at a time.

An epoch starts with the agent, when the master asks for a resync, and each full interval; not with a
reconnect. While a frame is on its way, changes coalesce in the ledger: no timer, no queue that grows.
"""

import asyncio
import random
from base64 import b64encode
from collections.abc import Callable, Iterator

import msgspec

from schemas.frames import MAX_BYTES, MAX_ITEMS, Delete, Frame, Part, Phase, Put
from schemas.ids import uuid7
from schemas.snapshot import ClusterSummary
from services.agent.capability import Capability, Observed
from services.agent.gateway.interfaces import MasterGateway
from services.agent.scheduler.ledger import Batch, Gone, Ledger
from services.runtime import logs
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

MAX_BODY = 600 * 1024
"""Bytes of a body that still fits a frame beside its names; a larger one travels in parts."""
PART_BYTES = 450 * 1024
"""Bytes of one part, a multiple of three; Base64 makes them 600 KiB."""
FULL_INTERVAL_JITTER = 0.1
"""Fraction by which full intervals are spread, so that a fleet does not list at one moment."""
DIGEST_AFTER_SYNCED = 1.0
"""Seconds: what has just been completed is proven soon, not after a whole interval."""


class SnapshotScheduler:
    """Runs the epochs of one agent. Intervals in seconds."""

    def __init__(
        self,
        capability: Capability,
        gateway: MasterGateway,
        *,
        instance: str,
        digest_interval: float,
        full_interval: float,
        events: Callable[[], dict[str, int]],
    ) -> None:
        self._capability = capability
        self._gateway = gateway
        self._instance = instance
        self._digest_interval = digest_interval
        self._full_interval = full_interval
        self._events = events
        self._end = asyncio.Event()
        self._sequence = 0
        self._ledger = Ledger()
        self.epoch = ""
        self.frames = 0
        """Frames the bus has taken since the agent started."""

    @property
    def pending(self) -> int:
        """Changes waiting to be sent."""
        return self._ledger.pending

    async def resync(self, epoch: str, reason: str) -> None:
        """Begin a new epoch, unless the one it is about is over already."""
        if epoch in ("", self.epoch) and not self._end.is_set():
            _log.info("resync", epoch=self.epoch, reason=reason)
            self._end.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._end.clear()
            self._ledger = Ledger()
            self._sequence = 0
            self.epoch = uuid7()
            await self._publish_begin()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._capability.observe(self._ledger), name="observe"),
                    group.create_task(self._publish(), name="publish frames"),
                ]
                spread = 1 + random.uniform(-FULL_INTERVAL_JITTER, FULL_INTERVAL_JITTER)
                if not await set_within(self._end, self._full_interval * spread):
                    _log.info("full interval is over", epoch=self.epoch)
                for task in tasks:
                    task.cancel()

    async def _publish(self) -> None:
        """Send what the ledger holds, and a digest each interval, whatever the load."""
        loop = asyncio.get_running_loop()
        next_digest = loop.time() + self._digest_interval
        while True:
            try:
                async with asyncio.timeout_at(next_digest):
                    await self._ledger.wait()
            except TimeoutError:
                pass
            batch = self._ledger.take(MAX_ITEMS, MAX_BYTES)
            for items in _frames_of(batch):
                await self._send(Phase.DATA, items=items)
            if batch.synced:
                await self._send(Phase.SYNCED, synced=batch.synced)
                next_digest = min(next_digest, loop.time() + DIGEST_AFTER_SYNCED)
            if loop.time() >= next_digest:
                next_digest = loop.time() + self._digest_interval
                summary: ClusterSummary = msgspec.structs.replace(self._ledger.summary, events=self._events())
                await self._send(Phase.DIGEST, digest=self._ledger.digest(), summary=summary)

    async def _publish_begin(self) -> None:
        await self._send(Phase.BEGIN, instance=self._instance, scope=self._capability.scope())

    async def _send(self, phase: Phase, **fields: object) -> None:
        self._sequence += 1
        frame = Frame(epoch=self.epoch, sequence=self._sequence, phase=phase, **fields)  # type: ignore[arg-type]
        await reach(Point.FRAME_BEFORE_PUBLISH)
        await self._gateway.publish_frame(frame)
        await reach(Point.FRAME_AFTER_PUBLISH)
        self.frames += 1


def _frames_of(batch: Batch) -> Iterator[list[Put | Delete]]:
    """The items of each frame: one frame as a rule, one per part for an object over the limit."""
    items: list[Put | Delete] = []
    for change in batch.changes:
        if isinstance(change, Gone):
            items.append(
                Delete(
                    resource=change.resource,
                    namespace=change.key.namespace,
                    name=change.key.name,
                    uid=change.uid,
                )
            )
        elif len(change.body) <= MAX_BODY:
            items.append(_put(change, msgspec.Raw(change.body)))
        else:
            if items:
                yield items
                items = []
            slices = range(0, len(change.body), PART_BYTES)
            for index, start in enumerate(slices):
                text = b'"' + b64encode(change.body[start : start + PART_BYTES]) + b'"'
                yield [_put(change, msgspec.Raw(text), Part(index=index, count=len(slices)))]
    if items:
        yield items


def _put(change: Observed, body: msgspec.Raw, part: Part | None = None) -> Put:
    return Put(
        resource=change.resource,
        namespace=change.key.namespace,
        name=change.key.name,
        uid=change.uid,
        body=body,
        part=part,
    )
