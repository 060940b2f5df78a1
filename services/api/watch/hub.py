"""Reads each change once from the database, and keeps the last ones for all readers.

The hub wakes up on a nudge of the bus, and every second without one. It holds nothing per reader: each
takes from the ring at its own pace, and one that is too slow for it goes to the database itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from schemas.control import Nudge
from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.ids import SHARDS
from schemas.registry import ROWS_CHANGED
from services.api.watch import metrics
from services.api.watch.position import Position
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.queries import EVERYTHING, Change, Place, list_changes, revisions
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

POLL = 1.0
"""Seconds after which it looks without a nudge: what a lost one costs."""
PACE = 0.05
"""Seconds between two looks at least: what changes meanwhile is one transaction, and one write per reader."""
PAGE = 500
"""Changes read in one transaction; a tenth of it with whole objects, which may be of 1 MiB."""
RING_CHANGES = 10_000
RING_BYTES = 32 * 1024 * 1024
"""What the ring holds at most; the last batch always."""
_PATIENCE = 10.0
"""Seconds for one look at the database."""
_RETRY_CAP = 5.0
_READING = 2
"""Readers that are in the database at a time: lists and the hub need its connections too."""


Rendered = tuple[list[bytes], dict[str, int]]
"""Pieces of the stream, and how many messages of each kind are in them."""


@dataclass(eq=False, slots=True)
class Batch:
    """Changes of one shard, in their order."""

    shard: int
    start: int
    """Whoever has seen the shard up to there may go on with this batch."""
    end: int
    """And has then seen it up to here."""
    changes: list[Change]
    full: bool
    """With the bodies."""
    shared: dict[object, Rendered] = field(default_factory=dict)
    """What a reader has made of it, for others that want the same."""

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return sum(200 + len(change.summary or b"") + len(change.body or b"") for change in self.changes)


class TooManyReaders(Exception):
    """No seat is left."""


class Hub:
    """`run` is to be supervised; `close` sends all readers away."""

    def __init__(self, database: Database, max_readers: int = 500) -> None:
        self.database = database
        self.max_readers = max_readers
        self.closing = False
        self.restored = 0
        """How often the revisions went backwards: another state of the database took its place."""
        self.head: tuple[int, ...] = (0,) * SHARDS
        """Everything up to there is in the ring or was before it."""
        self.reading = asyncio.Semaphore(_READING)
        self._known = self.head
        """The highest revisions that anybody here has seen."""
        self._ring: deque[Batch] = deque()
        self._first = 0
        """Number of the ring's first batch; batches are counted for ever."""
        self._changes = self._bytes = 0
        self._places: dict[int, Place] = {}
        """Where the next page begins in shards that are in the middle of a revision."""
        self._readers = self._full_readers = 0
        self._news = asyncio.Event()
        self._nudged = asyncio.Event()
        self._current_at = time.monotonic()
        metrics.LAG.set_function(lambda: time.monotonic() - self._current_at)

    # --- for readers ---------------------------------------------------------------------------------

    @contextmanager
    def seat(self, *, full: bool) -> Iterator[None]:
        """Take part, with whole objects or without. Raises TooManyReaders."""
        if self._readers >= self.max_readers:
            metrics.REFUSED.inc()
            raise TooManyReaders
        self._readers += 1
        self._full_readers += full
        metrics.READERS.inc()
        try:
            yield
        finally:
            self._readers -= 1
            self._full_readers -= full
            metrics.READERS.dec()

    def next_batch(self, position: Position, *, full: bool) -> int | None:
        """The number of the batch with which a reader at that position goes on; None: not from the ring."""
        # Of a revision that is half in the ring, whoever has not seen it wholly needs the first half.
        need = [self._places[s].rev if s in self._places else rev for s, rev in enumerate(self.head)]
        behind = {shard for shard, rev in enumerate(need) if rev > position.rows[shard]}
        number = self._first + len(self._ring)
        for batch in reversed(self._ring):
            if not behind or batch.full < full:
                break
            number -= 1
            if batch.start <= position.rows[batch.shard]:
                behind.discard(batch.shard)
            else:
                behind.add(batch.shard)
        return None if behind else number

    def batch(self, number: int, *, full: bool) -> Batch | None:
        """A batch of the ring, None when that is still to come. Raises LookupError: the ring is past it."""
        if number >= self._first + len(self._ring):
            return None
        if number < self._first or self._ring[number - self._first].full < full:
            raise LookupError(number)
        return self._ring[number - self._first]

    def saw(self, revs: tuple[int, ...]) -> None:
        """A reader has seen the database there: it may be ahead of the hub."""
        self._known = tuple(map(max, self._known, revs))

    async def news(self, seconds: float) -> None:
        """Until there is another batch or the hub closes, at most so long."""
        await set_within(self._news, seconds)

    # --- for the service -----------------------------------------------------------------------------

    async def nudge(self, _subject: str, envelope: Envelope) -> None:
        """A handler for `Bus.subscribe`. Raises ContractError."""
        if envelope.type != ROWS_CHANGED.name:
            raise ContractError(f"{envelope.type!r} is no nudge")
        told: Nudge = ROWS_CHANGED.decode(envelope.data)
        if told.shard in range(SHARDS) and told.rev > self.head[told.shard]:
            self._nudged.set()

    def close(self) -> None:
        """Readers say good-bye and end."""
        self.closing = True
        self._tell()

    async def run(self) -> None:
        """Until cancelled. What fails is tried again from where it stood."""
        backoff = Backoff(base=0.2, cap=_RETRY_CAP)
        while True:
            try:
                async with asyncio.timeout(_PATIENCE):
                    more = await self._look()
            except (DatabaseUnavailable, TimeoutError) as error:
                _log.warning("cannot read what has changed", reason=str(error) or "no answer in time")
                await backoff.sleep()
                continue
            backoff.reset()
            if more:
                continue
            self._current_at = time.monotonic()
            await asyncio.sleep(PACE)
            await set_within(self._nudged, POLL - PACE)

    async def _look(self) -> bool:
        """Read what has changed, a page of each shard; whether there is more."""
        self._nudged.clear()
        full = self._full_readers > 0
        limit = PAGE // 10 if full else PAGE
        batches: list[Batch] = []
        places, known = dict(self._places), self._known
        async with self.database.read() as connection:
            now = (await revisions(connection)).revs
            if restored := any(map(int.__lt__, now, known)):
                _log.warning("revisions went backwards: the database was replaced by another state of it")
                self.restored += 1
                self._known = now
            if restored or not self._readers:
                self._start_at(now)
                return False
            self.saw(now)
            for shard in range(SHARDS):
                if now[shard] <= self.head[shard]:
                    continue
                place = places.pop(shard, None)
                after = place or Place.behind(self.head[shard])
                page = await list_changes(
                    connection, shard, EVERYTHING, after=after, upto=now[shard], limit=limit, full=full
                )
                batches.append(Batch(shard, after.rev, page.seen, page.changes, full))
                if not page.complete:
                    places[shard] = page.place
        self._places = places
        for batch in batches:
            self._append(batch)
        if batches:
            self._tell()
        return bool(places)

    def _append(self, batch: Batch) -> None:
        self.head = (*self.head[: batch.shard], batch.end, *self.head[batch.shard + 1 :])
        if not batch.changes:
            return
        if self._ring:
            self._ring[-1].shared.clear()
        self._ring.append(batch)
        self._changes += len(batch.changes)
        self._bytes += batch.size
        metrics.CHANGES.inc(len(batch.changes))
        while len(self._ring) > 1 and (self._changes > RING_CHANGES or self._bytes > RING_BYTES):
            oldest = self._ring.popleft()
            self._first += 1
            self._changes -= len(oldest.changes)
            self._bytes -= oldest.size

    def _start_at(self, revs: tuple[int, ...]) -> None:
        """Without a ring: there is nobody to read it, or the database is another one."""
        if revs == self.head and not self._ring:
            return
        self._first += len(self._ring) + 1  # whoever has a number is told that the ring is past it
        self._ring.clear()
        self._places.clear()
        self._changes = self._bytes = 0
        self.head = revs
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        if not self.closing:
            self._news = asyncio.Event()
