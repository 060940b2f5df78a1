"""The journal's table: one row per command, its checksum beside it.

What is known of a command is one packed value, so that one checksum covers all of it, and an old or damaged
row can never be read as something else. The data of a result, which may be large, lies in a column of its
own and is read only when it is sent.
"""

import secrets
import zlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.commands import CommandCompleted, CommandError, CommandState, ErrorCode

TABLES = (
    """CREATE TABLE IF NOT EXISTS journal (
        number INTEGER PRIMARY KEY, entry BLOB NOT NULL, checksum INTEGER NOT NULL, data BLOB NOT NULL)""",
)
KEPT_DATA = 64 * 1024
"""Bytes of a result's data that are kept once it is confirmed: the other end has it."""

_ID, _COUNT, _HORIZON = "journal", "journal_rows", "journal_horizon"
"""Names in the table `meta`."""


class Entry(Struct, frozen=True):
    """What the journal knows of one command, apart from its result's data."""

    id: str
    body: bytes
    """The command as it was received."""
    extensions: dict[str, str]
    """Of its envelope: `signature`, `journal` and the others."""
    stored_at: datetime
    """When the broker took the message, by the core's clock."""
    received_at: datetime
    """When it was written here; as all that follow, by the core's clock as it is known here."""
    start_by: datetime
    finish_by: datetime
    begun: int = 0
    """How often it was begun: 0 means that it had no effect."""
    started_at: datetime | None = None
    """When it was first begun."""
    seen: bytes = b""
    """What the effect rests on, as of the last time."""
    result: bytes = b""
    """CommandCompleted as JSON, without its data; empty: not ended."""
    data_size: int = 0
    data_checksum: int = 0
    confirmed: bool = False
    """The other end has committed the result."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self.result)


class Row(NamedTuple):
    """An entry with its place."""

    number: int
    entry: Entry


class Loaded(NamedTuple):
    """What the file holds."""

    id: str
    """Of the journal."""
    horizon: float
    """The latest `start_by` of what was forgotten, Unix seconds."""
    rows: list[Row]
    damaged: int
    """Rows that are not what was written."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def load(db: Connection) -> Loaded:
    """Read all entries, without data; make the journal's id where there is none.

    A row that is not what was written ends as `unknown`, if it can be told which command it was. It may have
    been any, so the journal gets a new id then: whatever it held and does not hold now, ends as `unknown`.
    """
    rows: list[Row] = []
    bad: list[tuple[int, bytes]] = []
    ids: set[str] = set()
    for number, packed, checksum in db.execute("SELECT number, entry, checksum FROM journal ORDER BY number"):
        entry = _entry(number, packed, checksum)
        if entry is None or entry.id in ids:
            bad.append((number, packed))
        else:
            ids.add(entry.id)
            rows.append(Row(number, entry))
    whole = not bad and _meta(db, _COUNT) == len(rows)
    for number, packed in bad:
        entry = _remains(packed)
        if entry is None or entry.id in ids:
            db.execute("DELETE FROM journal WHERE number = ?", (number,))
        else:
            ids.add(entry.id)
            rows.append(Row(number, entry))
            write(db, number, entry, b"")
    id_, horizon = _meta(db, _ID), _meta(db, _HORIZON)
    if not whole or not isinstance(id_, bytes) or len(id_) != 16 or not isinstance(horizon, float):
        id_, horizon = secrets.token_hex(8).encode(), horizon if isinstance(horizon, float) else 0.0
        _set_meta(db, _ID, id_)
        _set_meta(db, _HORIZON, horizon)
        _set_meta(db, _COUNT, len(rows))
    return Loaded(id_.decode("ascii", "replace"), horizon, sorted(rows), len(bad))


def insert(db: Connection, rows: Sequence[tuple[int, Entry, bytes]]) -> None:
    """Write entries that are new."""
    write_all(db, rows)
    db.execute("UPDATE meta SET value = value + ? WHERE name = ?", (len(rows), _COUNT))


def write(db: Connection, number: int, entry: Entry, data: bytes) -> None:
    """Write an entry in its place."""
    packed = _encode(entry)
    db.execute(
        "INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?)", (number, packed, _crc(number, packed), data)
    )


def write_all(db: Connection, rows: Sequence[tuple[int, Entry, bytes]]) -> None:
    """Write entries in their places."""
    for number, entry, data in rows:
        write(db, number, entry, data)


def read(db: Connection, number: int) -> tuple[Entry, bytes] | None:
    """An entry and its result's data; None when the row is not what was written.

    Data that is not what was written is left out: the entry's `data_size` tells.
    """
    row = db.execute("SELECT entry, checksum, data FROM journal WHERE number = ?", (number,)).fetchone()
    entry = _entry(number, row[0], row[1]) if row else None
    if entry is None:
        return None
    data = row[2]
    whole = isinstance(data, bytes) and zlib.crc32(data) == entry.data_checksum
    return entry, data if whole else b""


def confirm(db: Connection, numbers: Collection[int]) -> None:
    """Note that these results are committed; large data is let go."""
    for number in numbers:
        found = read(db, number)
        if found is not None:
            entry, data = found
            write(db, number, replace(entry, confirmed=True), data if len(data) <= KEPT_DATA else b"")


def forget(db: Connection, numbers: Collection[int], horizon: float) -> None:
    """Remove entries; `horizon` is the latest `start_by` of all that ever were removed."""
    db.executemany("DELETE FROM journal WHERE number = ?", [(number,) for number in numbers])
    db.execute("UPDATE meta SET value = value - ? WHERE name = ?", (len(numbers), _COUNT))
    _set_meta(db, _HORIZON, horizon)


def with_result(entry: Entry, completed: CommandCompleted, data: bytes = b"") -> Entry:
    """The entry with its end; `completed` carries no data itself."""
    return replace(
        entry,
        result=completed.model_dump_json().encode(),
        data_size=len(data),
        data_checksum=zlib.crc32(data),
    )


def _entry(number: int, packed: Any, checksum: Any) -> Entry | None:
    if not isinstance(packed, bytes) or checksum != _crc(number, packed):
        return None
    try:
        return _decode(packed)
    except msgspec.MsgspecError:
        return None


def _remains(packed: Any) -> Entry | None:
    """A damaged entry, ended as `unknown`; None when not even its id can be read."""
    try:
        entry = _decode(packed)
    except (msgspec.MsgspecError, TypeError, ValueError):
        return None
    error = CommandError(
        code=ErrorCode.JOURNAL_LOST, message="the agent's journal of this command is damaged"
    )
    now = datetime.now(UTC)
    completed = CommandCompleted(
        command_id=entry.id, state=CommandState.UNKNOWN, success=False, error=error, executed_at=now
    )
    return with_result(replace(entry, confirmed=False), completed)


def _crc(number: int, packed: bytes) -> int:
    return zlib.crc32(packed, number & 0xFFFFFFFF)


def _meta(db: Connection, name: str) -> Any:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def _set_meta(db: Connection, name: str, value: object) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
