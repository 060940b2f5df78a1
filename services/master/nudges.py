"""Telling the apis that rows have changed: a hint that may be lost, so that they need not always look."""

import asyncio

from schemas import registry, subjects
from schemas.control import Nudge
from services.master import metrics
from services.master.teller import Teller

PAUSE = 0.05
"""Seconds between two nudges of a shard at least; the later one tells of all changes meanwhile."""
_TIMEOUT = 1.0


class Nudges:
    """Sends at most one nudge per shard and PAUSE."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._due: dict[int, int] = {}
        self._news = asyncio.Event()

    def changed(self, shard: int, rev: int) -> None:
        """Rows of a shard have changed, and the change is committed; revision 0 says that none has."""
        if rev:
            self._due[shard] = max(rev, self._due.get(shard, 0))
            self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            due, self._due = self._due, {}
            for shard, rev in due.items():
                nudge = Nudge(shard=shard, rev=rev)
                if await self._teller.tell(subjects.nudge(shard), registry.ROWS_CHANGED, nudge, _TIMEOUT):
                    metrics.NUDGES.inc()
            await asyncio.sleep(PAUSE)
