"""Telling agents up to where their Events are committed.

What is lost on the way is said again when the agent sends the Event again, as for a new one.
"""

import asyncio
import time
from collections.abc import Mapping

from schemas import registry, subjects
from schemas.control import Confirmed
from services.master import metrics
from services.master.teller import Teller
from services.persistence.events.confirmations import SpoolId
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import set_within

INTERVAL = 1.0
"""Seconds between two confirmations of one spool at least; the first one is sent at once."""
AT_ONCE = 64
"""Confirmations on their way at one time."""


class Confirmations:
    """Sends confirmations, the newest one for each spool."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._due: dict[SpoolId, int] = {}
        self._told: dict[SpoolId, float] = {}
        """When, in monotonic seconds; of the last INTERVAL."""
        self._news = asyncio.Event()

    def committed(self, reached: Mapping[SpoolId, int]) -> None:
        """Up to there everything is committed."""
        for spool, sequence in reached.items():
            self._due[spool] = max(sequence, self._due.get(spool, 0))
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while not self._due:
                self._news.clear()
                await self._news.wait()
            now = time.monotonic()
            self._told = {spool: at for spool, at in self._told.items() if now - at < INTERVAL}
            ready = [spool for spool in self._due if spool not in self._told][:AT_ONCE]
            if not ready:
                await self._pause(min(self._told[spool] for spool in self._due) + INTERVAL - now)
                continue
            self._told |= dict.fromkeys(ready, now)
            await asyncio.gather(*(self._tell(spool, self._due.pop(spool)) for spool in ready))

    async def _pause(self, seconds: float) -> None:
        """Until then, or until there is something new, for which it may be time already."""
        self._news.clear()
        await set_within(self._news, max(0.01, seconds))

    async def _tell(self, spool: SpoolId, sequence: int) -> None:
        body = Confirmed(epoch=spool.epoch, sequence=sequence)
        await reach(Point.CONFIRMATION_BEFORE_SEND)
        subject = subjects.control(spool.target, "confirmed")
        if await self._teller.tell(subject, registry.EVENTS_CONFIRMED, body):
            metrics.CONFIRMATIONS.inc()
