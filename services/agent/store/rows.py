"""The spool's tables: which Events are kept, and which versions were taken from the source."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from msgspec import Struct

from services.agent.capability import Key, Observed

TABLES = (
    """CREATE TABLE IF NOT EXISTS spool (
        number INTEGER PRIMARY KEY, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, id TEXT NOT NULL,
        time TEXT NOT NULL, about_namespace TEXT NOT NULL, about_name TEXT NOT NULL, body BLOB NOT NULL,
        checksum INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS spool_epoch ON spool (epoch, sequence)",
    """CREATE TABLE IF NOT EXISTS taken (
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,
        hash INTEGER NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID""",
)
ROW_BYTES = 300
"""What an Event takes in the file beside its body: the other columns and the index."""
MAX_BYTES = 1024 * 1024
"""Of bodies that are read together."""


class Spooled(Struct, frozen=True, gc=False):
    """An Event as it is kept and sent: everything about its envelope is fixed."""

    number: int
    """Its place in the spool, over all epochs."""
    epoch: str
    sequence: int
    id: str
    time: datetime
    about: Key
    """Namespace and kind of the object it is about."""
    body: bytes

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.body) + ROW_BYTES


@dataclass(slots=True)
class Totals:
    """What the file holds."""

    count: int = 0
    bytes: int = 0
    last: int = 0
    """The highest `number`."""
    first: dict[str, int] = field(default_factory=dict)
    """The lowest sequence of each epoch."""

    def plus(self, events: Sequence[Spooled]) -> "Totals":
        """With these; `first` as it was."""
        return replace(self, count=self.count + len(events), bytes=self.bytes + sum(e.size for e in events))

    def minus(self, count: int, size: int) -> "Totals":
        """Without so many; `first` as it was."""
        return replace(self, count=self.count - count, bytes=self.bytes - size)


_SIZE = f"count(*), coalesce(sum(length(body) + {ROW_BYTES}), 0)"


def totals(db: Connection) -> Totals:
    """Count everything: for the start, not for every change."""
    (last,) = db.execute("SELECT coalesce(max(number), 0) FROM spool").fetchone()
    count, size = db.execute(f"SELECT {_SIZE} FROM spool").fetchone()  # noqa: S608 - our own words
    epochs = db.execute("SELECT epoch, min(sequence) FROM spool GROUP BY epoch").fetchall()
    return Totals(count, size, last, dict(epochs))


def insert(db: Connection, events: Sequence[Spooled]) -> None:
    """Keep these."""
    db.executemany(
        "INSERT INTO spool VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (e.number, e.epoch, e.sequence, e.id, e.time.isoformat(), *e.about, e.body, _checksum(e))
            for e in events
        ],
    )


def remove(db: Connection, confirmed: Mapping[str, int], numbers: Collection[int]) -> tuple[int, int]:
    """Remove those up to a sequence of their epoch, and those numbers; how many, and their bytes."""
    wheres: list[tuple[str, tuple[object, ...]]]
    wheres = [("epoch = ? AND sequence <= ?", pair) for pair in confirmed.items()]
    wheres += [("number = ?", (number,)) for number in numbers]
    count = freed = 0
    for where, values in wheres:
        some, size = db.execute(f"SELECT {_SIZE} FROM spool WHERE {where}", values).fetchone()  # noqa: S608
        db.execute(f"DELETE FROM spool WHERE {where}", values)  # noqa: S608 - our own words
        count, freed = count + some, freed + size
    return count, freed


def remove_oldest(db: Connection, surplus: int) -> tuple[int, int]:
    """Remove the oldest until `surplus` bytes are free; how many, and their bytes."""
    count = freed = last = 0
    for number, size in db.execute("SELECT number, length(body) FROM spool ORDER BY number"):
        last, count, freed = number, count + 1, freed + size + ROW_BYTES
        if freed >= surplus:
            break
    db.execute("DELETE FROM spool WHERE number <= ?", (last,))
    return count, freed


def firsts(db: Connection, epochs: Collection[str]) -> dict[str, int]:
    """The lowest sequence of each of these epochs that has any."""
    query = "SELECT min(sequence) FROM spool WHERE epoch = ?"
    found = {epoch: db.execute(query, (epoch,)).fetchone()[0] for epoch in epochs}
    return {epoch: lowest for epoch, lowest in found.items() if lowest is not None}


def after(
    db: Connection, number: int, most: int, confirmed: Mapping[str, int]
) -> tuple[list[Spooled], list[int]]:
    """Events after `number` that are not confirmed; and the numbers of those whose bytes have changed."""
    found: list[Spooled] = []
    unreadable: list[int] = []
    size = 0
    where = "".join(" AND NOT (epoch = ? AND sequence <= ?)" for _ in confirmed)
    values = [value for pair in confirmed.items() for value in pair]
    query = f"SELECT * FROM spool WHERE number > ?{where} ORDER BY number LIMIT ?"  # noqa: S608 - our own words
    for row in db.execute(query, (number, *values, most)):
        event = _event(row)
        if event is None:
            unreadable.append(row[0])
            continue
        size += event.size
        if found and size > MAX_BYTES:
            break
        found.append(event)
    return found, unreadable


def note(db: Connection, observed: Sequence[Observed], gone: Sequence[tuple[str, Key]]) -> None:
    """These versions were taken from the source; those objects are gone from it."""
    db.executemany(
        "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?, ?)",
        [(o.resource, *o.key, o.uid, o.hash, o.state) for o in observed],
    )
    db.executemany(
        "DELETE FROM taken WHERE resource = ? AND namespace = ? AND name = ?",
        [(resource, *key) for resource, key in gone],
    )


def taken(db: Connection) -> list[Observed]:
    """The versions that were taken, without their bodies."""
    return [
        Observed(resource, Key(namespace, name), uid, b"", hash_, state)
        for resource, namespace, name, uid, hash_, state in db.execute("SELECT * FROM taken")
    ]


def _event(row: tuple[Any, ...]) -> Spooled | None:
    """None when it is not what was written."""
    number, epoch, sequence, id_, time, about_namespace, about_name, body, checksum = row
    try:
        event = Spooled(
            number, epoch, sequence, id_, datetime.fromisoformat(time), Key(about_namespace, about_name), body
        )
    except (TypeError, ValueError):
        return None
    return event if _checksum(event) == checksum else None


def _checksum(event: Spooled) -> int:
    """SQLite has none for its pages: a flipped bit in a body would be sent as it is."""
    head = f"{event.epoch} {event.sequence} {event.id} {event.time.isoformat()} {event.about}"
    return zlib.crc32(event.body, zlib.crc32(head.encode()))
