"""Telling agents which results are committed. What is lost is told again when it repeats one."""

import asyncio
from collections.abc import Collection

from schemas import registry, subjects
from schemas.control import ResultsConfirmed
from schemas.ids import Target
from services.master.commands import metrics
from services.master.concurrently import for_each
from services.master.teller import Teller
from services.runtime.failpoints import Point, reach

AT_ONCE = 64
"""Ids in one message, and messages on their way at one time."""
PAUSE = 0.02
"""Seconds in which further ones come together."""
_KEPT = 100_000
"""Ids that wait to be told; one that is left out is repeated by its agent."""


class ResultConfirmations:
    """Sends `ctl.results`."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._due: dict[Target, dict[str, None]] = {}
        self._waiting = 0
        self._news = asyncio.Event()

    def committed(self, target: Target, command_ids: Collection[str]) -> None:
        """The ends of these are committed."""
        if self._waiting < _KEPT:
            due = self._due.setdefault(target, {})
            before = len(due)
            due.update(dict.fromkeys(command_ids))
            self._waiting += len(due) - before
            self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            due, self._due, self._waiting = self._due, {}, 0
            messages = [
                (target, ids[start : start + AT_ONCE])
                for target, ids in ((target, list(some)) for target, some in due.items())
                for start in range(0, len(ids), AT_ONCE)
            ]
            await for_each(messages, self._tell, AT_ONCE)
            await asyncio.sleep(PAUSE)

    async def _tell(self, message: tuple[Target, list[str]]) -> None:
        target, command_ids = message
        await reach(Point.RESULT_BEFORE_CONFIRM)
        body = ResultsConfirmed(command_ids=command_ids)
        if await self._teller.tell(subjects.control(target, "results"), registry.RESULTS_CONFIRMED, body):
            metrics.CONFIRMED.inc(len(command_ids))
