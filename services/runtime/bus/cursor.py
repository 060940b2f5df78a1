"""How far a stream was handled; apart from the consumers, since the database keeps it without nats-py."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where a stream was handled. Its `created` tells a stream from another one of that name."""

    name: str
    stream: str
    created: datetime
    sequence: int
    """Of the last message handled; 0 for none."""


class ReaderReplaced(Exception):
    """Somebody else reads in this one's place: raised by its store or handler, it ends the reader."""


class CursorStore(Protocol):
    """Keeps cursors. Raises ReaderReplaced."""

    async def load(self, name: str, stream: str) -> Cursor | None: ...

    async def save(self, cursor: Cursor) -> None: ...
