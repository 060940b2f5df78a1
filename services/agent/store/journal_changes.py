"""Changes of the journal's entries: what several commands ask for while one is written is one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.agent.store import journal_rows as rows
from services.agent.store.file import StateDamaged, StateUnavailable, Work
from services.agent.store.journal_index import Index
from services.agent.store.journal_rows import Entry


class Write(Protocol):
    """Does work in one transaction on the journal's file. Raises StateUnavailable or StateDamaged."""

    def __call__(self, work: Work[None], *, lasting: bool = False) -> Awaitable[None]: ...


@dataclass(slots=True, eq=False)
class Change:
    """What is to become of one entry."""

    command_id: str
    make: Callable[[Entry], Entry]
    """From the entry as it is; changes nothing else."""
    data: bytes = b""
    """Of its result, as JSON."""
    ends: bool = False
    lasting: bool = False
    """As for `StateFile.run`."""
    entry: Entry | None = None
    """As it was made; None: its command is not open any more, since its row was damaged."""
    error: Exception | None = None
    """Why it was not made."""


class Changes:
    """Makes them. `lock`: held by whoever changes something of the journal.

    `failing`: why the disk does not take anything, empty while it does.
    """

    def __init__(self, index: Index, lock: asyncio.Lock, write: Write, failing: Callable[[], str]) -> None:
        self._index = index
        self._lock = lock
        self._write = write
        self._failing = failing
        self._waiting: list[Change] = []
        """Those that wait for the lock."""

    async def make(self, change: Change) -> Entry | None:
        """Make it, and what others have asked for by then: all of them wait for the disk together.

        An end is on the disk when it returns, or in memory for as long as that fails. Raises StateUnavailable
        or StateDamaged when another one is not on the disk, and whatever `change.make` raises.
        """
        self._waiting.append(change)
        async with self._lock:
            if change in self._waiting:  # else whoever had the lock before has made it
                changes, self._waiting = self._waiting, []
                first: dict[str, Change] = {}
                for one in changes:  # of one command one at a time: the next builds on it
                    if first.setdefault(one.command_id, one) is not one:
                        self._waiting.append(one)
                await self._make([one for one in first.values() if one.command_id in self._index.open])
        if change.error is not None:
            raise change.error
        return change.entry

    async def _make(self, changes: Sequence[Change]) -> None:
        """In one transaction; of each command there is one. Each of them has its entry then, or its error.

        A fault of ours in one of them is told to whoever asked for that one, and costs no other.
        """
        made: list[tuple[Change, Entry]] = []
        for change in changes:
            if (why := self._failing()) and not change.ends:
                change.error = StateUnavailable(why)  # what the file holds is uncertain until it is read
                continue
            try:
                made.append((change, change.make(self._index.open[change.command_id])))
            except Exception as error:  # noqa: BLE001 - see above
                change.error = error
        if not made:
            return
        lines = [(self._index.held[entry.id].number, entry, change.data) for change, entry in made]
        saved = True
        try:
            lasting = any(change.lasting for change, _ in made)
            await self._write(lambda db: rows.write_all(db, lines), lasting=lasting)
        except (StateUnavailable, StateDamaged) as error:
            saved = False
            for change, _ in made:
                change.error = None if change.ends else error
        except Exception as error:  # noqa: BLE001 - see above; nothing of it is in the file
            if len(made) == 1:
                made[0][0].error = error
                return
            for change, _ in made:  # whose fault it is shows when each is written by itself
                await self._make([change])
            return
        for change, entry in made:
            if change.error is None:
                change.entry = entry
                self._index.change(entry, change.data, saved=saved)
