"""One reader of the changes: from the database until it has caught up, then from the hub's ring."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from services.api.watch import messages, metrics
from services.api.watch.hub import Batch, Hub, Rendered
from services.api.watch.position import Position
from services.persistence.database.engine import Connection
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.queries import (
    Change,
    ChangeFilter,
    Place,
    Revisions,
    list_changes,
    oldest_state,
    revisions,
)
from services.runtime import logs
from services.runtime.backoff import Backoff

_log = logs.get_logger(__name__)

HEARTBEAT = 15.0
"""Seconds without a message after which one says that the stream is alive."""
_PAGE = 500
_PATIENCE = 30.0
"""Seconds for a look at the database, the wait for a turn included."""
_SHARED = 8
"""Readings of a batch that are kept for readers with the same filter and position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a reader asks for."""

    where: ChangeFilter
    full: bool = False
    """With the projection of each object."""
    initial: bool = False
    """Without a position: what is there comes first, instead of only what changes from now on."""
    position: Position | None = None
    """What it has seen before."""


class _Lost(Exception):
    """The changes since the reader's position are not all there."""


class Reader:
    """`await open()`, then iterate over `blocks()`: pieces of the stream."""

    def __init__(self, hub: Hub, wish: Wish) -> None:
        self._hub = hub
        self._wish = wish
        self._position = wish.position or Position.at(hub.head)
        self._places: dict[int, Place] = {}
        """Where the database is read on in shards that are in the middle of a revision."""
        self._goal: tuple[int, ...] = ()
        """What was there when it came: `synced` is said behind it."""
        self._as_of: datetime | None = None
        self._reason = ""
        """Why a resync is to be said."""
        self._restored = hub.restored

    async def open(self) -> None:
        """Find out where it stands. Raises DatabaseUnavailable."""
        async with self._hub.database.read() as connection:
            now = await revisions(connection)
            self._as_of = await oldest_state(connection, self._wish.where)
        self._hub.saw(now.revs)
        if self._wish.position is None:
            self._begin(now)
            return
        self._goal = now.revs
        try:
            self._check(now)
        except _Lost as lost:
            self._lose(now, str(lost))

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Until the hub closes."""
        yield messages.opening(self._position)
        said_synced = False
        number: int | None = None
        backoff = Backoff(base=0.2, cap=5.0)
        quiet_since = time.monotonic()
        while not self._hub.closing:
            blocks: Iterable[bytes] = ()
            if self._reason:
                _count({"resync": 1})
                blocks = [messages.resync(self._position, self._reason)]
                self._reason, said_synced, number = "", False, None
            elif not said_synced and self._reached(self._goal):
                _count({"synced": 1})
                blocks, said_synced = [messages.synced(self._position, self._as_of)], True
            elif (number := self._number(number)) is None:
                try:
                    blocks = await self._from_database()
                    backoff.reset()
                except (DatabaseUnavailable, TimeoutError) as error:
                    _log.warning("a reader waits for the database", reason=str(error) or "no answer in time")
                    await self._hub.news(backoff.delay())
            elif (batch := self._hub.batch(number, full=self._wish.full)) is not None:
                number += 1
                blocks = self._from_ring(batch)
                await asyncio.sleep(0)
            else:
                self._position = self._position.raised(self._hub.head)
                if self._reached(self._goal) and not said_synced:
                    continue
                await self._hub.news(HEARTBEAT - (time.monotonic() - quiet_since))
            for block in blocks:
                yield block
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since >= HEARTBEAT:
                yield messages.heartbeat(self._position)
                quiet_since = time.monotonic()
        _count({"bye": 1})
        yield messages.bye(self._position)

    # --- where it stands -----------------------------------------------------------------------------

    def _begin(self, now: Revisions) -> None:
        """As one that comes for the first time."""
        self._goal = now.revs
        self._places.clear()
        initial = self._wish.initial
        self._position = Position.beginning(now.revs) if initial else Position.at(now.revs)

    def _lose(self, now: Revisions, reason: str) -> None:
        self._reason = reason
        self._begin(now)

    def _reached(self, goal: tuple[int, ...]) -> bool:
        return all(map(int.__ge__, self._position.rows, goal))

    def _check(self, now: Revisions) -> None:
        """Whether all that has changed since is there. Raises _Lost."""
        if self._restored != self._hub.restored or not all(map(int.__ge__, now.revs, self._position.rows)):
            self._restored = self._hub.restored
            raise _Lost("the database is in another state than the one you have seen: it was restored")
        for shard in self._wish.where.shards:
            if max(self._position.rows[shard], self._position.gone[shard]) < now.forgotten[shard]:
                raise _Lost("your position is older than the removals that are still known")

    # --- the ring ------------------------------------------------------------------------------------

    def _number(self, number: int | None) -> int | None:
        """The number of the batch to go on with; None: not from the ring."""
        if self._places or self._restored != self._hub.restored:
            return None
        if number is not None:
            try:
                self._hub.batch(number, full=self._wish.full)
            except LookupError:
                metrics.BEHIND.inc()
            else:
                return number
        return self._hub.next_batch(self._position, full=self._wish.full)

    def _from_ring(self, batch: Batch) -> list[bytes]:
        key = self._wish.where, self._wish.full, self._position
        made = batch.shared.get(key)
        if made is None:
            made = self._render(batch.shard, batch.changes, batch.end)
            if len(batch.shared) < _SHARED:
                batch.shared[key] = made
        blocks, counts = made
        _count(counts)
        self._position = self._moved(batch.shard, batch.end)
        return blocks

    # --- the database --------------------------------------------------------------------------------

    async def _from_database(self) -> list[bytes]:
        """A page of what has changed since; the position moves past it, unless this fails."""
        before = self._position, dict(self._places)
        try:
            async with asyncio.timeout(_PATIENCE), self._hub.reading, self._hub.database.read() as connection:
                now = await revisions(connection)
                try:
                    self._check(now)
                except _Lost as lost:
                    self._lose(now, str(lost))
                    return []
                self._hub.saw(now.revs)
                return await self._page(connection, now)
        except BaseException:
            self._position, self._places = before
            raise

    async def _page(self, connection: Connection, now: Revisions) -> list[bytes]:
        wish, blocks = self._wish, list[bytes]()
        left = _PAGE // 10 if wish.full else _PAGE
        for shard in wish.where.shards:
            if self._position.rows[shard] >= now.revs[shard]:
                continue
            page = await list_changes(
                connection,
                shard,
                wish.where,
                after=self._places.pop(shard, Place.behind(self._position.rows[shard])),
                gone_after=self._position.gone[shard],
                upto=now.revs[shard],
                limit=left,
                full=wish.full,
            )
            made, counts = self._render(shard, page.changes, page.seen)
            blocks += made
            _count(counts)
            self._position = self._moved(shard, page.seen)
            if not page.complete:
                self._places[shard] = page.place
            left -= len(page.changes)
            if left <= 0:
                return blocks
        self._position = self._position.raised(now.revs)
        return blocks

    def _moved(self, shard: int, seen: int) -> Position:
        return self._position.moved(shard, max(seen, self._position.rows[shard]))

    def _render(self, shard: int, some: list[Change], end: int) -> Rendered:
        """The changes that are wanted and new, in pieces to be written; and how many of each kind."""
        seen, where = self._position.rows[shard], self._wish.where
        wanted = [change for change in some if change.rev > seen and where.matches(change)]
        made = list(messages.changes(shard, wanted, self._position, end, full=self._wish.full))
        counts: dict[str, int] = {}
        for event, _ in made:
            counts[event] = counts.get(event, 0) + 1
        return list(_pieces(block for _, block in made)), counts


def _count(events: dict[str, int]) -> None:
    for event, number in events.items():
        metrics.SENT.labels(event=event).inc(number)


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Messages joined to pieces of at most CHUNK bytes, or one message."""
    piece: list[bytes] = []
    size = 0
    for block in blocks:
        if piece and size + len(block) > messages.CHUNK:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(block)
        size += len(block)
    if piece:
        yield b"".join(piece)
