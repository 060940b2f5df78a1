"""What is known in memory of the journal's entries.

Nothing here waits or fails. It follows the file: it is changed when the file has taken something, or when a
disk that fails has not, and memory has to keep it for so long.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from services.agent.store import journal_rows as rows
from services.agent.store.journal_rows import Entry

KEEP = 3600.0
"""Seconds: for so long after `finish_by` a confirmed result is kept, to answer a copy that comes late."""
GIVE_UP = 7 * 86400.0
"""Seconds: for so long after `finish_by` an unconfirmed one is kept, as long as RESULTS keeps it."""
MAX_ENTRIES = 50_000
MAX_DATA = 512 * 1024 * 1024
"""Bytes of results' data. Beyond these bounds no command is taken."""


class Held(Struct):
    """What is known of every entry."""

    number: int
    """Its place in the file."""
    start_by: float
    """Unix seconds, as the next one."""
    finish_by: float
    size: int
    """Bytes of its result's data that are kept."""
    done: bool
    confirmed: bool


class Index:
    """The entries by command id. Others read what is here; only the methods change it."""

    def __init__(self) -> None:
        self.number = 0
        """Of the latest entry."""
        self.horizon = 0.0
        """The latest `start_by` of what was forgotten, Unix seconds."""
        self.held: dict[str, Held] = {}
        self.open: dict[str, Entry] = {}
        """What has not ended, in the order in which it came."""
        self.unconfirmed: dict[str, None] = {}
        """What has ended and is not confirmed, in the order in which it ended."""
        self.unsaved: dict[str, tuple[Entry, bytes]] = {}
        """Results that the disk has not taken, with their data."""
        self.unsaved_confirmations: set[str] = set()
        self._data = 0
        """Bytes of all results' data."""

    @property
    def full(self) -> bool:
        """Whether there may not be more."""
        return len(self.held) >= MAX_ENTRIES or self._data >= MAX_DATA

    def load(self, loaded: rows.Loaded) -> None:
        """Be what the file holds; what only memory had was written to it."""
        self.number = max([self.number, *(row.number for row in loaded.rows)])
        self.horizon = loaded.horizon
        self.held = {row.entry.id: _held(row.number, row.entry) for row in loaded.rows}
        self.open = {row.entry.id: row.entry for row in loaded.rows if not row.entry.done}
        waiting = [row.entry.id for row in loaded.rows if row.entry.done and not row.entry.confirmed]
        self.unconfirmed = dict.fromkeys(waiting)
        self.unsaved.clear()
        self.unsaved_confirmations.clear()
        self._data = sum(held.size for held in self.held.values())

    def add(self, entries: Sequence[Entry]) -> None:
        """They have the next places."""
        for entry in entries:
            self.number += 1
            self.held[entry.id] = _held(self.number, entry)
            if entry.done:
                self.unconfirmed[entry.id] = None
            else:
                self.open[entry.id] = entry

    def change(self, entry: Entry, data: bytes, *, saved: bool) -> None:
        """An open one has become this; `data` is its result's. `saved`: the disk has it."""
        if not entry.done:
            self.open[entry.id] = entry
            return
        del self.open[entry.id]
        held = self.held[entry.id]
        held.done, held.size = True, len(data)
        self._data += len(data)
        self.unconfirmed[entry.id] = None
        if not saved:
            self.unsaved[entry.id] = entry, data

    def news(self, command_ids: Sequence[str]) -> list[str]:
        """Those of them that have ended and were not confirmed before, each once."""
        known = [id_ for id_ in dict.fromkeys(command_ids) if id_ in self.held]
        return [id_ for id_ in known if self.held[id_].done and not self.held[id_].confirmed]

    def confirm(self, command_ids: Sequence[str], *, saved: bool) -> None:
        """These results are committed; large data is let go. `saved`: the disk has that."""
        for id_ in command_ids:
            held = self.held[id_]
            held.confirmed = True
            self.unconfirmed.pop(id_, None)
            if unsaved := self.unsaved.get(id_):
                self.unsaved[id_] = replace(unsaved[0], confirmed=True), unsaved[1]
            elif held.size > rows.KEPT_DATA:
                self._data -= held.size
                held.size = 0
        if not saved:
            self.unsaved_confirmations.update(command_ids)

    def old(self, now: float) -> Mapping[str, Held]:
        """What may be forgotten at that time, in Unix seconds."""
        return {
            id_: held
            for id_, held in self.held.items()
            if held.done and now > held.finish_by + (KEEP if held.confirmed else GIVE_UP)
        }

    def forget(self, command_ids: Collection[str], horizon: float) -> None:
        """They are not in the file any more."""
        self.horizon = horizon
        for id_ in command_ids:
            self._data -= self.held.pop(id_).size
            self.unconfirmed.pop(id_, None)


def _held(number: int, entry: Entry) -> Held:
    size = 0 if entry.confirmed and entry.data_size > rows.KEPT_DATA else entry.data_size
    start_by, finish_by = entry.start_by.timestamp(), entry.finish_by.timestamp()
    return Held(number, start_by, finish_by, size, entry.done, entry.confirmed)
