"""What has been sent, and what waits to be sent.

The agent keeps the key, uid and hash of each object, never the object. Changes of one object coalesce
while the bus is busy, so the backlog is bounded by what exists, and by MAX_PENDING_BYTES of bodies.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.frames import ResourceDigest
from schemas.snapshot import ClusterSummary
from services.agent.capability import NOTHING, Key, Observed

MAX_PENDING_BYTES = 1024 * 1024
"""Bodies waiting to be sent; beyond it `put` waits, and so does the source."""


ITEM_BYTES = 256
"""What an item takes beside its body and name: resource, namespace (63 at most), uid and punctuation."""


def _after(resource: str, key: Key) -> tuple[str, Key]:
    """A place in the queue for what is to come after the object's own."""
    return f"{resource} gone", key


class Sent(NamedTuple):
    """What the other end holds of one object once it has read all frames so far."""

    uid: str
    hash: int
    counts: tuple[str, int, int]
    """State, desired, ready: many objects share one tuple."""


class Gone(NamedTuple):
    """A deletion waiting to be sent."""

    resource: str
    key: Key
    uid: str


class Synced(NamedTuple):
    """A mark in the queue: what stands before it completes the resource."""

    resource: str


@dataclass(slots=True)
class Batch:
    """What goes out next: changes in order, or the resources that are complete."""

    changes: list[Observed | Gone] = field(default_factory=list)
    synced: list[str] = field(default_factory=list)


class Ledger:
    """A Sink of one epoch, emptied by the publisher with `take`.

    What `take` has handed out counts as sent: the publisher repeats it until the bus has it.
    With `outlive` a deletion does not take back what waits to be sent: what was observed has happened.
    """

    def __init__(self, *, outlive: bool = False) -> None:
        self._outlive = outlive
        self._sent: dict[str, dict[Key, Sent]] = {}
        self._pending: dict[tuple[str, Key], Observed | Gone | Synced] = {}
        self._pending_bytes = 0
        self._complete: set[str] = set()
        self._assumed: dict[str, set[Key]] = {}
        self._counts: dict[tuple[str, int, int], tuple[str, int, int]] = {}
        self._digest: dict[str, ResourceDigest] = {}
        self.summary = ClusterSummary()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    def assume(self, observed: Observed) -> None:
        """This was sent, by whoever was here before. It counts as gone once a full list is without it."""
        self._record(observed)
        self._assumed.setdefault(observed.resource, set()).add(observed.key)

    # --- Sink ---------------------------------------------------------------------------------------

    async def put(self, objects: Iterable[Observed]) -> None:
        for observed in objects:
            if assumed := self._assumed.get(observed.resource):
                assumed.discard(observed.key)
            waiting = self._pending.get((observed.resource, observed.key))
            if isinstance(waiting, Observed):
                known: tuple[str, int] | None = (waiting.uid, waiting.hash)
            elif waiting is None:
                sent = self._sent.get(observed.resource, {}).get(observed.key)
                known = (sent.uid, sent.hash) if sent else None
            else:
                known = None
            if known != (observed.uid, observed.hash):
                self._pending.pop(_after(observed.resource, observed.key), None)
                self._enqueue((observed.resource, observed.key), observed)
        await self._wait_for_room()

    async def delete(self, resource: str, keys: Iterable[Key]) -> None:
        for key in keys:
            sent = self._sent.get(resource, {}).get(key)
            waiting = self._pending.get((resource, key))
            if self._outlive and isinstance(waiting, Observed):
                self._enqueue(_after(resource, key), Gone(resource, key, waiting.uid))
            elif sent:
                self._enqueue((resource, key), Gone(resource, key, sent.uid))
            elif isinstance(waiting, Observed):
                self._pending_bytes -= len(waiting.body)
                del self._pending[resource, key]

    async def retain(self, resource: str, namespace: str | None, keys: set[Key]) -> None:
        known = set(self._sent.get(resource, {}))
        known.update(
            key for (of, key), item in self._pending.items() if of == resource and isinstance(item, Observed)
        )
        await self.delete(
            resource, [key for key in known - keys if namespace is None or key.namespace == namespace]
        )

    async def synced(self, resource: str) -> None:
        await self.delete(resource, self._assumed.pop(resource, ()))
        # No object has this key, so the mark keeps a place of its own in the queue.
        if resource not in self._complete:
            self._enqueue((resource, NOTHING), Synced(resource))

    def _enqueue(self, place: tuple[str, Key], item: Observed | Gone | Synced) -> None:
        before = self._pending.get(place)
        if isinstance(before, Observed):
            self._pending_bytes -= len(before.body)
        if isinstance(item, Observed):
            self._pending_bytes += len(item.body)
        self._pending[place] = item  # keeps the place of the change it replaces
        self._filled.set()

    async def _wait_for_room(self) -> None:
        while self._pending_bytes > MAX_PENDING_BYTES:
            self._drained.clear()
            await self._drained.wait()

    # --- publisher ----------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Changes waiting to be sent."""
        return len(self._pending)

    def __len__(self) -> int:
        """Objects that the other end holds once it has read all frames so far."""
        return sum(len(objects) for objects in self._sent.values())

    async def wait(self) -> None:
        """Until something waits to be sent."""
        while not self._pending:
            self._filled.clear()
            await self._filled.wait()

    def take(self, max_items: int, max_bytes: int) -> Batch:
        """The next batch: never empty while something is pending, one object at least whatever its size."""
        batch, size = Batch(), 0
        while self._pending and len(batch.changes) < max_items:
            place, item = next(iter(self._pending.items()))
            if isinstance(item, Synced):
                if batch.changes:
                    break
                batch.synced.append(item.resource)
                self._complete.add(item.resource)
                del self._pending[place]
                continue
            if batch.synced:
                break
            body = len(item.body) if isinstance(item, Observed) else 0
            cost = body + ITEM_BYTES + len(item.key.name)
            if batch.changes and size + cost > max_bytes:
                break
            size += cost
            del self._pending[place]
            self._pending_bytes -= body
            self._record(item)
            batch.changes.append(item)
        self._drained.set()
        return batch

    def digest(self) -> dict[str, ResourceDigest]:
        """Count and hash sum of each complete resource, as of what `take` has handed out."""
        return {
            resource: self._digest.get(resource, ResourceDigest(count=0, sum=0))
            for resource in sorted(self._complete)
        }

    def _record(self, item: Observed | Gone) -> None:
        """Book an object that is handed out: replace what was counted of it before."""
        objects = self._sent.setdefault(item.resource, {})
        digest = self._digest.setdefault(item.resource, ResourceDigest(count=0, sum=0))
        if before := objects.pop(item.key, None):
            digest.count -= 1
            digest.sum -= before.hash
            self.summary.add(item.resource, *before.counts, sign=-1)
        if isinstance(item, Observed):
            counts = (item.state, item.desired, item.ready)
            counts = self._counts.setdefault(counts, counts)
            objects[item.key] = Sent(item.uid, item.hash, counts)
            digest.count += 1
            digest.sum += item.hash
            self.summary.add(item.resource, *counts)
