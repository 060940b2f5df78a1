"""What a reader has fetched and not handled yet, and the order in which it is handled."""

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from services.runtime.bus.delivery import Delivery, Message

_PORTION = 32 * 1024
"""Bytes of what may wait that are handled, one message at least, before there is a look at what is new."""


class Room:
    """The bytes that several readers may hold together, as they came over the bus (packed).

    The limit is passed by what one pull of each brings: a reader that holds nothing may always fetch.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


@dataclass(slots=True, eq=False)
class Fetched:
    """One message of a backlog."""

    message: Message
    waits: bool
    delivery: Delivery | None = None
    """Once it has been read, which is when its turn has come: packed it is several times smaller."""


class Backlog:
    """What one session of a reader holds; with it the room is given back.

    Messages of subjects that may wait come after all others, those of one subject in the stream's order. A
    crash or the session's end loses nothing: the cursor stays before the oldest one that is not handled.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes = 0
        self._first: deque[Fetched] = deque()
        self._waiting: deque[Fetched] = deque()
        self._lanes = (self._first, self._waiting)
        self._subjects: Counter[str] = Counter()
        """Of those that wait."""
        self._last: Message | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.used -= self._bytes

    def __len__(self) -> int:
        return len(self._first) + len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether something is to be handled before more is fetched."""
        return bool(self._first) or (bool(self._waiting) and self._room.used >= self._room.limit)

    @property
    def lag(self) -> int:
        """Messages that are not handled yet, here and in the stream, by the last one that was fetched."""
        return len(self) + (self._last.pending if self._last else 0)

    def add(self, messages: Sequence[Message], may_wait: Collection[str] = ()) -> None:
        """The next ones of the stream; those of the subjects `may_wait` wait."""
        for message in messages:
            waits = message.subject in may_wait or message.subject in self._subjects
            (self._waiting if waits else self._first).append(Fetched(message, waits))
            if waits:
                self._subjects[message.subject] += 1
            self._count(len(message.data))
            self._last = message

    def portion(self, most: int) -> list[Fetched]:
        """What is to be handled next, in the stream's order; it stays here until it is `done`."""
        if self._first:
            return list(islice(self._first, most))
        taken: list[Fetched] = []
        size = 0
        for item in islice(self._waiting, most):
            size += len(item.message.data)
            if taken and size > _PORTION:
                break
            taken.append(item)
        return taken

    def reached(self, portion: Collection[Fetched]) -> int:
        """Up to where in the stream all is handled, once this portion is."""
        assert self._last is not None
        now = set(portion)
        oldest = (next((item for item in lane if item not in now), None) for lane in self._lanes)
        left = [item.message.sequence for item in oldest if item is not None]
        return min(left) - 1 if left else self._last.sequence

    def done(self, item: Fetched) -> None:
        """It is handled, or has gone to the dead letters."""
        message = item.message
        (self._waiting if item.waits else self._first).remove(item)
        if item.waits:
            self._subjects[message.subject] -= 1
            if not self._subjects[message.subject]:
                del self._subjects[message.subject]
        self._count(-len(message.data))

    def _count(self, size: int) -> None:
        self._bytes += size
        self._room.used += size
