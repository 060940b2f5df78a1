"""Ending commands on request: what was never sent at once; of the rest its agent is told until it ends."""

import asyncio
import random
import time
from collections.abc import Iterable

from schemas import registry, subjects
from schemas.commands import CommandState
from schemas.control import CancelRequested
from services.master.commands import metrics
from services.master.commands.hints import Hints
from services.master.teller import Teller
from services.persistence.commands import cancels
from services.persistence.commands.cancels import CancelWanted
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import set_within, to_its_end

_log = logs.get_logger(__name__)

LOOK = 0.5
"""Seconds between two looks when nobody has hinted at anything."""
PAUSE = 0.02
"""Seconds from a hint to the look: most hints are of new commands, and these go before."""
FIRST = 0.5
"""Seconds until an agent is told again; it doubles each time, up to SLOWEST."""
SLOWEST = 15.0
BATCH = 1000


class Cancels:
    """Sends `ctl.cancel`."""

    def __init__(self, db: Database, teller: Teller, hints: Hints) -> None:
        self._db = db
        self._teller = teller
        self._hints = hints
        self._wake = asyncio.Event()
        self._told: dict[str, tuple[int, float]] = {}
        """How often an agent was told, and when it is to be told next, in monotonic seconds."""

    def wake(self) -> None:
        """A cancellation may have been asked for."""
        self._wake.set()

    def tell_now(self, command_ids: Iterable[str]) -> None:
        """Their agents have come to hear it, whenever they were told last."""
        for command_id in command_ids:
            self._told.pop(command_id, None)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        backoff = Backoff(base=LOOK, cap=2.0)
        while True:
            self._wake.clear()
            try:
                sent, unsent = await cancels.wanted(self._db, BATCH)
                if unsent:
                    ended = await to_its_end(cancels.end_unsent(self._db, unsent))
                    metrics.ENDED.labels(state=CommandState.CANCELED.value).inc(len(ended))
                    self._hints.changed(ended, ended)
            except DatabaseUnavailable as error:
                if not backoff.attempts:
                    _log.warning("cancellations cannot be looked at", reason=str(error))
                await backoff.sleep()
            else:
                backoff.reset()
                self._told = {one.command_id: self._told.get(one.command_id, (0, 0.0)) for one in sent}
                for one in sent:
                    await self._tell(one)
            await set_within(self._wake, LOOK)
            await asyncio.sleep(PAUSE)

    async def _tell(self, wanted: CancelWanted) -> None:
        often, due = self._told.get(wanted.command_id, (0, 0.0))
        if time.monotonic() < due:
            return
        pause = min(FIRST * 2**often, SLOWEST) * random.uniform(0.8, 1.2)
        self._told[wanted.command_id] = often + 1, time.monotonic() + pause
        body = CancelRequested(command_id=wanted.command_id, reason=wanted.reason)
        await reach(Point.CANCEL_BEFORE_SEND)
        if await self._teller.tell(
            subjects.control(wanted.target, "cancel"), registry.CANCEL_REQUESTED, body
        ):
            metrics.CANCELS.inc()
        await reach(Point.CANCEL_AFTER_SEND)
