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

from msgspec import Struct
from msgspec.structs import replace

from schemas.commands import CommandCompleted
from services.agent.store import journal_rows as rows
from services.agent.store import metrics
from services.agent.store.file import StateDamaged, StateFile, StateUnavailable, probe
from services.agent.store.journal_changes import Change
from services.agent.store.journal_rows import Entry
from services.runtime import logs
from services.runtime.tasks import to_its_end

_log = logs.get_logger(__name__)

RETRY = 1.0
"""Seconds between two looks whether a disk that failed takes something again."""
PRUNE = 60.0
"""Seconds between two looks for what may be forgotten."""
KEEP = 3600.0
"""Seconds: for so long after `finish_by` a confirmed result is kept, to answer a copy that comes late."""
GIVE_UP = 7 * 86400.0
"""Seconds: for so long after `finish_by` an unconfirmed one is kept, as long as RESULTS keeps it."""
MAX_ENTRIES = 50_000
MAX_DATA = 512 * 1024 * 1024
"""Bytes of results' data. Beyond these bounds no command is taken."""


class _Held(Struct):
    """What is known in memory of every entry."""

    number: int
    start_by: float
    """Unix seconds, as the next one."""
    finish_by: float
    size: int
    done: bool
    confirmed: bool


class Journal:
    """The commands of one agent. `now` tells the time by which they are forgotten."""

    def __init__(self, file: StateFile, now: Callable[[], datetime]) -> None:
        self._file = file
        self._now = now
        self._lock = asyncio.Lock()
        """Held by whoever changes something."""
        self._changes: list[Change] = []
        """Those that wait for the lock."""
        self._generation = -1
        self._id = ""
        self._number = 0
        self._horizon = 0.0
        self._held: dict[str, _Held] = {}
        self._open: dict[str, Entry] = {}
        self._unconfirmed: dict[str, None] = {}
        self._data = 0
        """Bytes of all results' data."""
        self._unsaved: dict[str, tuple[Entry, bytes]] = {}
        """Results that the disk has not taken."""
        self._unsaved_confirmations: set[str] = set()
        self._failing = ""
        metrics.COMMANDS_OPEN.set_function(lambda: len(self._open))

    @property
    def id(self) -> str:
        """Of this journal; empty while there is none that could be written."""
        return self._id if self._generation == self._file.damaged else ""

    @property
    def open(self) -> Mapping[str, Entry]:
        """What has not ended, in the order in which it came."""
        return self._open

    @property
    def unconfirmed(self) -> list[str]:
        """Ids of those that have ended and are not confirmed."""
        return list(self._unconfirmed)

    @property
    def unconfirmed_count(self) -> int:
        """How many those are."""
        return len(self._unconfirmed)

    @property
    def full(self) -> bool:
        """Whether it may not take more."""
        return len(self._held) >= MAX_ENTRIES or self._data >= MAX_DATA

    def knows(self, command_id: str) -> bool:
        """Whether it is here."""
        return command_id in self._held

    def awaits_confirmation(self, command_id: str) -> bool:
        """Whether it has ended and nobody has confirmed it."""
        return command_id in self._unconfirmed

    def may_have_forgotten(self, start_by: datetime) -> bool:
        """Whether a command that is not here, and was to begin by then, may have been."""
        return start_by.timestamp() <= self._horizon

    def trouble(self) -> str:
        """What a person should know, and do; empty when all is well."""
        if self._failing:
            return f"{self._failing}; no command is taken until the journal can be written: see to the disk"
        if self.full:
            return (
                f"the journal is full with {len(self._held)} commands, so none is taken; "
                "see that a master runs, which confirms their results"
            )
        return ""

    # --- what happens to a command --------------------------------------------------------------------

    async def begin(self) -> None:
        """Read what is there. A disk that fails is told by `trouble`, and asked again by `recover`."""
        await to_its_end(self._load())
        if self._generation != self._file.damaged:
            await to_its_end(self._load())  # it was found to be damaged: there is an empty one now

    async def accept(self, entries: Sequence[Entry]) -> None:
        """Take custody: on the disk when it returns. One that has ended already carries its result.

        Raises StateUnavailable or StateDamaged; nothing of it is here then. The disk may have taken it all
        the same: the next reading of the file tells.
        """
        await to_its_end(self._accept(entries))

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
        if unsaved := self._unsaved.get(command_id):
            return unsaved
        if entry := self._open.get(command_id):
            return entry, b""
        if (held := self._held.get(command_id)) is None:
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
            if self._failing or self._unsaved or self._generation != self._file.damaged:
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
            generation = self._file.damaged
            fresh = self._generation != generation
            unsaved = dict(self._unsaved)
            if fresh:  # nothing of what was in the file before is in this one
                unsaved |= {id_: (entry, b"") for id_, entry in self._open.items()}
            held = {} if fresh else self._held

            def load(db: Connection) -> rows.Loaded:
                loaded = rows.load(db)
                known = {row.entry.id for row in loaded.rows}
                last = max([self._number, *(row.number for row in loaded.rows)])
                new = []
                for id_, (entry, data) in unsaved.items():
                    if id_ in held:
                        rows.write(db, held[id_].number, entry, data)
                    elif id_ not in known:
                        new.append((last := last + 1, entry, data))
                rows.insert(db, new)
                rows.confirm(db, [held[id_].number for id_ in self._unsaved_confirmations if id_ in held])
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
            self._horizon = loaded.horizon
            self._number = max([self._number, *(row.number for row in loaded.rows)])
            self._unsaved.clear()
            self._unsaved_confirmations.clear()
            self._held = {row.entry.id: _held(row.number, row.entry) for row in loaded.rows}
            self._open = {row.entry.id: row.entry for row in loaded.rows if not row.entry.done}
            waiting = [row.entry.id for row in loaded.rows if row.entry.done and not row.entry.confirmed]
            self._unconfirmed = dict.fromkeys(waiting)
            self._data = sum(held.size for held in self._held.values())

    async def _accept(self, entries: Sequence[Entry]) -> None:
        async with self._lock:
            self._check()
            if self._failing:  # what the file holds is uncertain until it was read again
                raise StateUnavailable(self._failing)
            entries = [entry for entry in entries if entry.id not in self._held]  # read while we waited
            numbered = [(self._number + place, entry, b"") for place, entry in enumerate(entries, 1)]
            lasting = any(entry.done for entry in entries)
            try:
                await self._file.run(lambda db: rows.insert(db, numbered), lasting=lasting)
            except (StateUnavailable, StateDamaged) as error:
                self._fail(error)
                raise
            self._number += len(entries)
            for number, entry, _ in numbered:
                self._held[entry.id] = _held(number, entry)
                if entry.done:
                    self._unconfirmed[entry.id] = None
                else:
                    self._open[entry.id] = entry

    async def _started(self, command_id: str, seen: bytes, at: datetime, lasting: bool) -> Entry:
        def begun(entry: Entry) -> Entry:
            return replace(entry, begun=entry.begun + 1, started_at=entry.started_at or at, seen=seen)

        change = await self._change(Change(command_id, begun, lasting=lasting))
        if change.error is not None:
            raise change.error
        if change.entry is None:
            raise StateDamaged(f"{command_id} has ended, its row was damaged")
        return change.entry

    async def _done(self, command_id: str, completed: CommandCompleted, data: bytes, lasting: bool) -> None:
        def ended(entry: Entry) -> Entry:
            return rows.with_result(entry, completed, data)

        await self._change(Change(command_id, ended, data, ends=True, lasting=lasting))

    async def _change(self, change: Change) -> Change:
        """Make it, and what others have asked for by then: all of them wait for the disk together."""
        self._changes.append(change)
        async with self._lock:
            if change in self._changes:  # else whoever had the lock before has made it
                changes, self._changes = self._changes, []
                first: dict[str, Change] = {}
                for one in changes:  # of one command one at a time: the next builds on it
                    if first.setdefault(one.command_id, one) is not one:
                        self._changes.append(one)
                await self._make([one for one in first.values() if one.command_id in self._open])
        return change

    async def _make(self, changes: Sequence[Change]) -> None:
        """In one transaction; of each command there is one."""
        lines: list[tuple[int, Entry, bytes]] = []
        lasting = False
        for change in changes:
            held = self._held[change.command_id]
            change.entry = change.make(self._open[change.command_id])
            if change.ends:
                held.done, held.size = True, len(change.data)
                self._data += len(change.data)
                self._unconfirmed[change.command_id] = None
            elif self._failing:  # what the file holds is uncertain until it was read again
                change.error = StateUnavailable(self._failing)
                continue
            lines.append((held.number, change.entry, change.data))
            lasting |= change.lasting
        try:
            self._check()
            if lines:
                await self._file.run(lambda db: rows.write_all(db, lines), lasting=lasting)
        except (StateUnavailable, StateDamaged) as error:
            self._fail(error)
            for change in changes:
                change.error = error
        for change in changes:
            assert change.entry is not None
            if change.ends:
                if change.error is not None:
                    self._unsaved[change.command_id] = change.entry, change.data
                del self._open[change.command_id]
            elif change.error is None:
                self._open[change.command_id] = change.entry

    async def _confirm(self, command_ids: Sequence[str]) -> list[str]:
        async with self._lock:
            news = {id_: held for id_ in command_ids if (held := self._held.get(id_)) and held.done}
            news = {id_: held for id_, held in news.items() if not held.confirmed}
            if not news:
                return []
            for id_, held in news.items():
                held.confirmed = True
                self._unconfirmed.pop(id_, None)
                if unsaved := self._unsaved.get(id_):
                    self._unsaved[id_] = replace(unsaved[0], confirmed=True), unsaved[1]
                elif held.size > rows.KEPT_DATA:
                    self._data -= held.size
                    held.size = 0
            numbers = [held.number for id_, held in news.items() if id_ not in self._unsaved]
            try:
                self._check()
                await self._file.run(lambda db: rows.confirm(db, numbers))
            except (StateUnavailable, StateDamaged) as error:
                self._fail(error)
                self._unsaved_confirmations.update(news)
            return list(news)

    async def _prune(self) -> None:
        async with self._lock:
            now = self._now().timestamp()
            old = {
                id_: held
                for id_, held in self._held.items()
                if held.done and now > held.finish_by + (KEEP if held.confirmed else GIVE_UP)
            }
            if not old or self._failing or self._generation != self._file.damaged:
                return
            numbers = [held.number for held in old.values()]
            horizon = max([self._horizon, *(held.start_by for held in old.values())])
            try:
                await self._file.run(lambda db: rows.forget(db, numbers, horizon), lasting=True)
            except (StateUnavailable, StateDamaged) as error:
                self._fail(error)
                return
            self._horizon = horizon
            for id_, held in old.items():
                del self._held[id_]
                self._data -= held.size
                self._unconfirmed.pop(id_, None)
                if not held.confirmed:
                    metrics.RESULTS_GIVEN_UP.inc()
                    _log.error("a result was given up, nobody confirmed it", command=id_)

    def _check(self) -> None:
        if self._generation != self._file.damaged:
            raise StateDamaged(f"{self._file.path} was set aside")

    def _fail(self, error: Exception) -> None:
        if not self._failing:
            _log.error("the journal can't be written", reason=str(error))
        self._failing = str(error)


def _held(number: int, entry: Entry) -> _Held:
    size = 0 if entry.confirmed and entry.data_size > rows.KEPT_DATA else entry.data_size
    start_by, finish_by = entry.start_by.timestamp(), entry.finish_by.timestamp()
    return _Held(number, start_by, finish_by, size, entry.done, entry.confirmed)
