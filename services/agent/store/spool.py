"""The spool: Events that were observed and that the master has not confirmed yet.

They are numbered in an epoch that begins with each start of the agent; what earlier ones have left keeps its
numbers. In a lasting epoch a number could be given out twice, by a file that is restored from a copy, or
after a full disk did not take it; the confirmation of the one Event would then have the other forgotten.

While the disk fails Events are kept in memory, within MEMORY_BYTES, and are written when it takes them.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from sqlite3 import Connection

from schemas.ids import uuid7
from services.agent.capability import Key, Observed
from services.agent.store import metrics, rows
from services.agent.store.file import (
    Result,
    StateDamaged,
    StateFile,
    StateUnavailable,
    Work,
    probe,
)
from services.agent.store.rows import Spooled
from services.runtime import logs
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import to_its_end
from services.runtime.words import counted

_log = logs.get_logger(__name__)

MEMORY_BYTES = 4 * 1024 * 1024
"""Of Events that the disk does not take; beyond it `append` waits, and so does the source."""
RETRY = 1.0
"""Seconds between two looks whether a disk that failed takes something again."""
_NONE = 2**63
"""Above all sequences."""
FULL_UNTIL = 0.75
"""Part of the limit below which a spool that was full no longer counts as that."""


class Spool:
    """The Events of one agent. `limit`: bytes that they may take; beyond it the oldest are dropped."""

    def __init__(self, file: StateFile, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._lock = asyncio.Lock()
        """Held by whoever changes what is kept."""
        self._generation = 0
        self._epoch = ""
        self._sequence = 0
        self._number = 0
        self._held = rows.Totals()
        self._memory: list[Spooled] = []
        self._confirmed: dict[str, int] = {}
        """By epoch, what is confirmed and not removed from the file yet."""
        self._discarded: set[int] = set()
        """By number, what is given up and not removed from the file yet."""
        self._failing = ""
        self._full = False
        self._room = asyncio.Event()
        self._filled = asyncio.Event()
        self.dropped = 0
        """Events given up before they were confirmed, since the agent started."""

    @property
    def unconfirmed(self) -> int:
        """Events that are kept."""
        return self._held.count + len(self._memory)

    def trouble(self) -> str:
        """What a person should know, and do; empty when all is well."""
        if failing := self._failing or self._file.stuck():
            return f"{failing}; Events are kept in memory until it takes them: see to the disk"
        if self._full:
            return (
                f"the spool is full: {counted(self.dropped, 'Event')} dropped before a master had them; "
                "see that a master runs, or raise AGENT_SPOOL_BYTES"
            )
        return ""

    def first(self, epoch: str) -> int:
        """The lowest sequence of that epoch which is kept; where none is, the next one."""
        if (lowest := self._held.first.get(epoch)) is not None:
            return max(lowest, self._confirmed.get(epoch, 0) + 1)
        here = (event.sequence for event in self._memory if event.epoch == epoch)
        return next(here, self._sequence + 1 if epoch == self._epoch else _NONE)

    def keeps(self, event: Spooled) -> bool:
        """Whether it is neither confirmed nor dropped."""
        return event.sequence >= self.first(event.epoch)

    async def wait_unconfirmed(self) -> None:
        """Until something is kept."""
        while not self.unconfirmed:
            self._filled.clear()
            await self._filled.wait()

    # --- what goes in and out -------------------------------------------------------------------------

    async def begin(self) -> list[Observed]:
        """Begin an epoch; the versions that earlier ones took from the source, without their bodies."""
        async with self._lock:
            if self._generation != self._file.damaged:
                self._drop(self._held.count, "damaged")
            self._generation, self._held = self._file.damaged, rows.Totals()
            self._confirmed.clear()
            self._discarded.clear()
            self._epoch, self._sequence = uuid7(), 0
            try:
                self._held, taken = await self._run(lambda db: (rows.totals(db), rows.taken(db)))
            except StateUnavailable as error:
                self._fail(error)
                taken = []
            # The clock keeps it above the numbers of a file that cannot be read now.
            self._number = max(self._number, self._held.last, time.time_ns() // 1000)
            self._changed()
            if self.unconfirmed:
                _log.info("Events of an earlier start are not confirmed yet", events=self.unconfirmed)
            return taken

    async def append(self, observed: Sequence[Observed], gone: Sequence[tuple[str, Key]]) -> None:
        """Keep Events, and forget (resource and key) what is gone from the source.

        When it returns they are on the disk, or in memory while that fails. Raises StateDamaged; they are in
        memory then.
        """
        while sum(event.size for event in self._memory) > MEMORY_BYTES:
            self._room.clear()
            await self._room.wait()
        async with self._lock:
            self._memory += [self._spooled(item) for item in observed]
            if not self._failing:
                await self._write(observed, gone)
            self._changed()

    async def after(self, number: int, most: int) -> list[Spooled]:
        """What follows `number`, oldest first: at most `most` Events. Raises StateDamaged."""
        confirmed = dict(self._confirmed)
        try:
            found, unreadable = await self._run(lambda db: rows.after(db, number, most, confirmed))
        except StateUnavailable as error:
            self._fail(error)
            found, unreadable = [], []
        if unreadable:
            await self.discard(unreadable, "damaged")
        found = [event for event in found if event.number not in self._discarded]
        here = [event for event in self._memory if event.number > number]
        return found + here[: most - len(found)]

    async def confirm(self, epoch: str, sequence: int) -> bool:
        """The other end has committed these; whether that was news."""
        async with self._lock:
            if sequence < self.first(epoch):
                return False
            before = self.unconfirmed, self.first(epoch)
            self._memory = [e for e in self._memory if e.epoch != epoch or e.sequence > sequence]
            if epoch in self._held.first:
                self._confirmed[epoch] = sequence
                await reach(Point.EVENTS_BEFORE_CONFIRM)
                if not self._failing:
                    with suppress(StateDamaged):  # told to the next one who asks
                        await self._write()
            self._changed()
            return (self.unconfirmed, self.first(epoch)) != before

    async def discard(self, numbers: Collection[int], reason: str) -> None:
        """Give these up; they are counted. Raises StateDamaged."""
        async with self._lock:
            self._drop(len(numbers), reason)
            self._memory = [event for event in self._memory if event.number not in numbers]
            self._discarded.update(numbers)
            if not self._failing:
                await self._write()
            self._changed()

    async def recover(self) -> None:
        """Write what waits once the disk takes it again, for ever. Raises StateDamaged."""
        while True:
            await asyncio.sleep(RETRY)
            if self._failing or self._generation != self._file.damaged:
                async with self._lock:
                    await self._write()
                    self._changed()

    # --- the file -------------------------------------------------------------------------------------

    async def _write(self, observed: Sequence[Observed] = (), gone: Sequence[tuple[str, Key]] = ()) -> None:
        """Bring the file up to what is known here, in one transaction. Raises StateDamaged.

        It is finished also when we are cancelled meanwhile: what is known here and the file must agree.
        """
        await to_its_end(self._write_now(observed, gone))

    async def _write_now(self, observed: Sequence[Observed], gone: Sequence[tuple[str, Key]]) -> None:
        memory, failing = self._memory, self._failing
        epochs = {*self._held.first, *(event.epoch for event in memory)}

        def write(db: Connection) -> tuple[rows.Totals, int]:
            rows.insert(db, memory)
            rows.note(db, observed, gone)
            removed = rows.remove(db, self._confirmed, self._discarded)
            if failing:
                probe(db)
                held = rows.totals(db)  # the file may be one that nobody could count until now
            else:
                held = self._held.plus(memory).minus(*removed)
            surplus = held.bytes - self._limit
            dropped = rows.remove_oldest(db, surplus) if surplus > 0 else (0, 0)
            return replace(held.minus(*dropped), first=rows.firsts(db, epochs | held.first.keys())), dropped[
                0
            ]

        try:
            self._held, dropped = await self._run(write)
        except StateUnavailable as error:
            self._fail(error)
            return
        self._memory = []
        self._confirmed.clear()
        self._discarded.clear()
        was_full = self._full
        self._full = bool(dropped) or (was_full and self._held.bytes > FULL_UNTIL * self._limit)
        self._drop(dropped, "full", tell=not was_full)
        if failing:
            self._failing = ""
            _log.info("the state file takes Events again", file=str(self._file.path))

    async def _run(self, work: Work[Result]) -> Result:
        if self._generation != self._file.damaged:
            raise StateDamaged(f"{self._file.path} was set aside")
        return await self._file.run(work)

    def _spooled(self, observed: Observed) -> Spooled:
        self._number += 1
        self._sequence += 1
        now = datetime.now(UTC)
        return Spooled(self._number, self._epoch, self._sequence, uuid7(), now, observed.about, observed.body)

    def _fail(self, error: StateUnavailable) -> None:
        if not self._failing:
            _log.error("the state file can't be used, Events are kept in memory", reason=str(error))
        self._failing = str(error)

    def _drop(self, count: int, reason: str, *, tell: bool = True) -> None:
        if count:
            self.dropped += count
            metrics.DROPPED.labels(reason=reason).inc(count)
        if count and tell:
            _log.error("Events given up before the master confirmed them", events=count, reason=reason)

    def _changed(self) -> None:
        self._room.set()
        if self.unconfirmed:
            self._filled.set()
        metrics.UNCONFIRMED.set(self.unconfirmed)
        metrics.BYTES.set(self._held.bytes)
