"""The messages of the stream, as Server-Sent Events (WHATWG HTML, 9.2)."""

import random
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from services.api.watch.position import Position, join, part
from services.persistence.queries import Change
from services.persistence.queries.paging import item

CHUNK = 64 * 1024
"""Bytes written to a reader at a time, roughly."""
_RETRY = (1000, 3000)
_RETRY_SOON = (100, 1000)
"""Milliseconds after which a reader comes again, drawn anew for each so that they do not all come at once."""
_SPACES = bytes.maketrans(b"\r\n", b"  ")
"""A line ends the message; inside JSON it is but a space, since in a text it would be escaped."""


def opening(position: Position) -> bytes:
    """Where the reader stands; without data, so that browsers note it and dispatch nothing."""
    return b"retry: %d\nid: %b\n\n" % (random.randint(*_RETRY), str(position).encode())


def heartbeat(position: Position) -> bytes:
    """A comment and the position: a reader to whom nothing is sent does not grow old."""
    return b": heartbeat\nid: %b\n\n" % str(position).encode()


def synced(position: Position, as_of: datetime | None) -> bytes:
    """All that was there has been sent."""
    return _message("synced", str(position), msgspec.json.encode({"as_of": as_of}))


def resync(position: Position, reason: str) -> bytes:
    """What has changed since the reader's position cannot be told; it goes on from another one."""
    return _message("resync", str(position), msgspec.json.encode({"reason": reason}))


def bye(position: Position) -> bytes:
    """This replica is going."""
    data = msgspec.json.encode({"reason": "this replica of the api is stopping; continue on another"})
    return b"retry: %d\n%b" % (random.randint(*_RETRY_SOON), _message("bye", str(position), data))


def changes(
    shard: int, some: Iterable[Change], position: Position, end: int, *, full: bool
) -> Iterator[tuple[str, bytes]]:
    """The kind of each change and its message. Rows up to `end` have been seen behind the last.

    The id of a message is what has been seen when it has: a revision only after its last change, so that
    a reader cut off between two changes of one commit gets both again rather than one never.
    """
    parts, gone = position.parts(), position.gone[shard]
    listed = list(some)
    for index, change in enumerate(listed):
        seen = listed[index + 1].rev - 1 if index + 1 < len(listed) else end
        parts[shard] = part(max(seen, position.rows[shard]), gone)
        yield _change(change, join(parts), full=full)


def _change(change: Change, id: str, *, full: bool) -> tuple[str, bytes]:
    about = msgspec.json.encode(
        {
            "agent_kind": change.target_kind,
            "cluster": change.target_id,
            "resource": change.resource,
            "namespace": change.namespace,
            "name": change.name,
            "uid": change.uid,
            "rev": change.rev,
        }
    )
    if change.summary is None:
        return "delete", _message("delete", id, about)
    shown = item(change.summary, change.body if full else None)
    return "put", _message("put", id, b'%b,"item":%b}' % (about[:-1], shown))


def _message(event: str, id: str, data: bytes) -> bytes:
    if b"\n" in data or b"\r" in data:
        data = data.translate(_SPACES)
    return b"event: %b\nid: %b\ndata: %b\n\n" % (event.encode(), id.encode(), data)
