"""Telling the apis that rows have changed: a hint that may be lost, so that they need not always look."""

import asyncio

from schemas import registry, subjects
from schemas.control import Nudge
from services.master import metrics
from services.runtime import logs
from services.runtime.bus.client import Bus, BusError, BusUnavailable

_log = logs.get_logger(__name__)

PAUSE = 0.05
"""Seconds between two nudges of a shard at least; the later one tells of all changes meanwhile."""
_TIMEOUT = 1.0


class Nudges:
    """Sends at most one nudge per shard and PAUSE."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._due: dict[int, int] = {}
        self._news = asyncio.Event()
        self._trouble = ""

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
                await self._send(shard, rev)
            await asyncio.sleep(PAUSE)

    async def _send(self, shard: int, rev: int) -> None:
        envelope = registry.ROWS_CHANGED.envelope(
            Nudge(shard=shard, rev=rev), source=subjects.service_source("master", self._bus.name)
        )
        try:
            await self._bus.send(subjects.nudge(shard), envelope, timeout=_TIMEOUT)
        except BusUnavailable:
            return  # the bus itself tells of that, and readers look now and then
        except BusError as error:
            if str(error) != self._trouble:
                _log.error("readers could not be told of changes", reason=str(error))
            self._trouble = str(error)
            return
        metrics.NUDGES.inc()
