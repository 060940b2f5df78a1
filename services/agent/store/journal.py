"""The journal: which commands this agent has taken custody of, and what became of each.

A command is written here before its message is acknowledged, what its effect will rest on before the effect,
its result before that is published; and it stays until the other end has committed the result. So each
command has at most one effect, whatever happens in between.

The journal has a random id, which is told in heartbeats and comes back in commands. It is another one
whenever something may be missing: a command that was meant for the one before may have been begun then.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection

from msgspec.structs import replace

from schemas.commands import CommandCompleted
from services.agent.store import journal_rows as rows
from services.agent.store import metrics
from services.agent.store.file import StateDamaged, StateFile, StateUnavailable, Work, probe
from services.agent.store.journal_changes import Change, Changes
from services.agent.store.journal_index import Index
from services.agent.store.journal_rows import Entry
from services.runtime import logs
from services.runtime.tasks import to_its_end

_log = logs.get_logger(__name__)

RETRY = 1.0
"""Seconds between two looks whether a disk that failed takes something again."""
PRUNE = 60.0
"""Seconds between two looks for what may be forgotten."""


class Journal:
    """The commands of one agent. `now` tells the time by which they are forgotten."""

    def __init__(self, file: StateFile, now: Callable[[], datetime]) -> None:
        self._file = file
        self._now = now
        self._lock = asyncio.Lock()
        """Held by whoever changes something."""
        self._generation = -1
        """Of the file: what is in `_index` was read when it had set aside so many."""
        self._id = ""
        self._index = Index()
        self._failing = ""
        """Why the disk does not take anything; empty: it does."""
        self._changes = Changes(self._index, self._lock, self._write, lambda: self._failing)
        metrics.COMMANDS_OPEN.set_function(lambda: len(self._index.open))

    @property
    def id(self) -> str:
        """Of this journal; empty while there is none that could be written."""
        return self._id if self._generation == self._file.damaged else ""

    @property
    def open(self) -> Mapping[str, Entry]:
        """What has not ended, in the order in which it came."""
        return self._index.open

    @property
    def unconfirmed(self) -> list[str]:
        """Ids of those that have ended and are not confirmed."""
        return list(self._index.unconfirmed)

    @property
    def unconfirmed_count(self) -> int:
        """How many those are."""
        return len(self._index.unconfirmed)

    @property
    def full(self) -> bool:
        """Whether it may not take more."""
        return self._index.full

    def knows(self, command_id: str) -> bool:
        """Whether it is here."""
        return command_id in self._index.held

    def awaits_confirmation(self, command_id: str) -> bool:
        """Whether it has ended and nobody has confirmed it."""
        return command_id in self._index.unconfirmed

    def may_have_forgotten(self, start_by: datetime) -> bool:
        """Whether a command that is not here, and was to begin by then, may have been."""
        return start_by.timestamp() <= self._index.horizon

    def trouble(self) -> str:
        """What a person should know, and do; empty when all is well."""
        if self._failing:
            return f"{self._failing}; no command is taken until the journal can be written: see to the disk"
        if self.full:
            return (
                f"the journal is full with {len(self._index.held)} commands, so none is taken; "
                "see that a master runs, which confirms their results"
            )
        return ""

    # --- what happens to a command --------------------------------------------------------------------

    async def begin(self) -> None:
        """Read what is there. A disk that fails is told by `trouble`, and asked again by `recover`."""
        await to_its_end(self._load())
        if self._generation != self._file.damaged:
            await to_its_end(self._load())  # it was found to be damaged: there is an empty one now

    async def accept(self, entries: Sequence[Entry]) -> dict[str, Exception]:
        """Take custody: on the disk when it returns. One that has ended already carries its result.

        By id: why one can't be written at all; it is not here, and the others are. Raises StateUnavailable or
        StateDamaged; what is not here then the disk may have taken all the same: the next reading of the file
        tells.
        """
        return await to_its_end(self._accept(entries))

    async def started(self, command_id: str, seen: bytes, at: datetime, *, lasting: bool) -> Entry:
        """It may have an effect from now on, which will rest on what was `seen`.

        `lasting`: nothing that damages the log of the file may undo this note. Raises StateUnavailable or
        StateDamaged; it must have no effect then.
        """
        return await to_its_end(self._started(command_id, seen, at, lasting))

    async def done(self, command_id: str, completed: CommandCompleted, data: bytes, *, lasting: bool) -> None:
        """It has ended so; `data` is the JSON of its data, which `completed` does not carry.

        On the disk when it returns, or in memory for as long as that fails.
        """
        await to_its_end(self._done(command_id, completed, data, lasting))

    async def read(self, command_id: str) -> tuple[Entry, bytes] | None:
        """An entry and its result's data. None: it is not here, or is damaged.

        Raises StateUnavailable or StateDamaged.
        """
        if unsaved := self._index.unsaved.get(command_id):
            return unsaved
        if entry := self._index.open.get(command_id):
            return entry, b""
        if (held := self._index.held.get(command_id)) is None:
            return None
        number = held.number
        self._check()
        return await self._file.run(lambda db: rows.read(db, number))

    async def confirm(self, command_ids: Sequence[str]) -> list[str]:
        """The other end has committed these results; those of them for which that was news."""
        return await to_its_end(self._confirm(command_ids))

    async def recover(self, reloaded: Callable[[], None]) -> None:
        """Write what waits once the disk takes it again, and forget what is old; for ever.

        `reloaded` is called when the file was read anew: there may be more than anybody was told.
        """
        loop = asyncio.get_running_loop()
        pruned = loop.time()
        while True:
            await asyncio.sleep(RETRY)
            if self._failing or self._index.unsaved or self._generation != self._file.damaged:
                await to_its_end(self._load())
                reloaded()
            if loop.time() - pruned > PRUNE:
                pruned = loop.time()
                await self.prune()

    async def prune(self) -> None:
        """Forget what is confirmed and long past, or given up."""
        await to_its_end(self._prune())

    # --- the file -------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """Read the file; what only memory has is written to it first."""
        async with self._lock:
            generation, index = self._file.damaged, self._index
            fresh = self._generation != generation
            unsaved = dict(index.unsaved)
            if fresh:  # nothing of what was in the file before is in this one
                unsaved |= {id_: (entry, b"") for id_, entry in index.open.items()}
            held = {} if fresh else index.held

            def load(db: Connection) -> rows.Loaded:
                loaded = rows.load(db)
                known = {row.entry.id for row in loaded.rows}
                last = max([index.number, *(row.number for row in loaded.rows)])
                new = []
                for id_, (entry, data) in unsaved.items():
                    if id_ in held:
                        rows.write(db, held[id_].number, entry, data)
                    elif id_ not in known:
                        new.append((last := last + 1, entry, data))
                rows.insert(db, new)
                rows.confirm(db, [held[id_].number for id_ in index.unsaved_confirmations if id_ in held])
                probe(db)
                return rows.load(db)._replace(damaged=loaded.damaged)  # they are mended by now

            try:
                loaded = await self._file.run(load)
            except (StateUnavailable, StateDamaged) as error:
                self._fail(error)
                return
            if self._file.damaged != generation:
                return  # once more, with the new file
            if self._failing:
                _log.info("the journal can be written again", file=str(self._file.path))
            if loaded.damaged:
                metrics.JOURNAL_DAMAGED.inc(loaded.damaged)
                _log.error("entries of the journal are damaged", entries=loaded.damaged)
            if self._id and loaded.id != self._id:
                _log.error("the journal is another one than before", journal=loaded.id)
            self._failing, self._generation, self._id = "", generation, loaded.id
            index.load(loaded)

    async def _accept(self, entries: Sequence[Entry]) -> dict[str, Exception]:
        async with self._lock:
            self._check()
            if self._failing:  # what the file holds is uncertain until it was read again
                raise StateUnavailable(self._failing)
            entries = [entry for entry in entries if not self.knows(entry.id)]  # read while we waited
            faults: dict[str, Exception] = {}
            await self._insert(entries, faults)
            return faults

    async def _insert(self, entries: Sequence[Entry], faults: dict[str, Exception]) -> None:
        """In one transaction. One that can't be written is noted in `faults`, and costs no other."""
        numbered = [(self._index.number + place, entry, b"") for place, entry in enumerate(entries, 1)]
        try:
            lasting = any(entry.done for entry in entries)
            await self._write(lambda db: rows.insert(db, numbered), lasting=lasting)
        except (StateUnavailable, StateDamaged):
            raise
        except Exception as error:  # noqa: BLE001 - see above; nothing of it is in the file
            if len(entries) == 1:
                faults[entries[0].id] = error
                return
            for entry in entries:  # whose fault it is shows when each is written by itself
                await self._insert([entry], faults)
            return
        self._index.add(entries)

    async def _started(self, command_id: str, seen: bytes, at: datetime, lasting: bool) -> Entry:
        def begun(entry: Entry) -> Entry:
            return replace(entry, begun=entry.begun + 1, started_at=entry.started_at or at, seen=seen)

        entry = await self._changes.make(Change(command_id, begun, lasting=lasting))
        if entry is None:
            raise StateDamaged(f"{command_id} has ended, its row was damaged")
        return entry

    async def _done(self, command_id: str, completed: CommandCompleted, data: bytes, lasting: bool) -> None:
        def ended(entry: Entry) -> Entry:
            return rows.with_result(entry, completed, data)

        await self._changes.make(Change(command_id, ended, data, ends=True, lasting=lasting))

    async def _confirm(self, command_ids: Sequence[str]) -> list[str]:
        async with self._lock:
            index = self._index
            if not (news := index.news(command_ids)):
                return []
            numbers = [index.held[id_].number for id_ in news if id_ not in index.unsaved]
            saved = True
            try:
                await self._write(lambda db: rows.confirm(db, numbers))
            except (StateUnavailable, StateDamaged):
                saved = False
            index.confirm(news, saved=saved)
            return news

    async def _prune(self) -> None:
        async with self._lock:
            old = self._index.old(self._now().timestamp())
            if not old or self._failing or self._generation != self._file.damaged:
                return
            numbers = [held.number for held in old.values()]
            horizon = max([self._index.horizon, *(held.start_by for held in old.values())])
            try:
                await self._write(lambda db: rows.forget(db, numbers, horizon), lasting=True)
            except (StateUnavailable, StateDamaged):
                return
            self._index.forget(old, horizon)
            for id_ in [id_ for id_, held in old.items() if not held.confirmed]:
                metrics.RESULTS_GIVEN_UP.inc()
                _log.error("a result was given up, nobody confirmed it", command=id_)

    async def _write(self, work: Work[None], *, lasting: bool = False) -> None:
        """Do `work` on the file that was read. Raises StateUnavailable or StateDamaged, and notes it."""
        try:
            self._check()
            await self._file.run(work, lasting=lasting)
        except (StateUnavailable, StateDamaged) as error:
            self._fail(error)
            raise

    def _check(self) -> None:
        if self._generation != self._file.damaged:
            raise StateDamaged(f"{self._file.path} was set aside")

    def _fail(self, error: Exception) -> None:
        if not self._failing:
            _log.error("the journal can't be written", reason=str(error))
        self._failing = str(error)
