"""Hints that commands were accepted or have moved on: who waits need not look all the time."""

import asyncio
from collections.abc import Callable, Iterable

from schemas import registry, subjects
from schemas.control import CommandsChanged
from schemas.envelope import Envelope
from services.master.teller import Teller
from services.runtime.bus.client import Handler

AT_ONCE = 500
"""Ids in one message."""
_KEPT = 10_000
"""Ids that wait to be told; whoever waits for one that is left out looks by himself."""
_TIMEOUT = 1.0


class Hints:
    """Tells the apis which commands have moved on. What is lost costs a second, nothing else."""

    def __init__(self, teller: Teller, source: str) -> None:
        self._teller = teller
        self._source = source
        self._due: dict[str, bool] = {}
        """Commands, and whether they have ended."""
        self._news = asyncio.Event()
        self.listener: Callable[[], None] = lambda: None
        """Called for our own news as well, here in this process."""

    def changed(self, command_ids: Iterable[str], ended: Iterable[str] = ()) -> None:
        """These have moved on, and those of them have ended, which is committed."""
        for some, end in ((command_ids, False), (ended, True)):
            for command_id in some:
                if command_id in self._due or len(self._due) < _KEPT:
                    self._due[command_id] = end or self._due.get(command_id, False)
        if self._due:
            self._news.set()
            self.listener()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            due, self._due = list(self._due.items()), {}
            for start in range(0, len(due), AT_ONCE):
                some = due[start : start + AT_ONCE]
                ended = [command_id for command_id, end in some if end]
                body = CommandsChanged(command_ids=[command_id for command_id, _ in some], ended=ended)
                await self._teller.tell(subjects.COMMANDS_CHANGED, registry.COMMANDS_CHANGED, body, _TIMEOUT)

    def heard_by(self, wake: Callable[[], None]) -> Handler:
        """A handler for what others say of commands; our own words are no news to us."""

        async def hear(subject: str, envelope: Envelope) -> None:  # noqa: ARG001 - the bus' protocol
            if envelope.source != self._source:
                wake()

        return hear
