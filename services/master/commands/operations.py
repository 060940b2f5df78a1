"""Operations go on, a step at a time: whenever one of their commands has ended, and each second."""

import asyncio
from collections.abc import Callable

from services.master.commands.hints import Hints
from services.persistence.commands import operations
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.leases import LeaseLost
from services.runtime import logs
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import set_within, to_its_end

_log = logs.get_logger(__name__)

LOOK = 1.0
"""Seconds between two looks without a hint."""
PAUSE = 0.02
"""Seconds between two looks at least: the ends of many commands are one reason to look."""


class Operations:
    """Takes the steps of all that are running. `accepted` is called when there are commands to be sent."""

    def __init__(self, db: Database, hints: Hints, accepted: Callable[[], None]) -> None:
        self._db = db
        self._hints = hints
        self._accepted = accepted
        self._news = asyncio.Event()
        self._running = True
        """Whether any were at the last look: else the ends of commands are no news."""
        self._trouble = ""
        self._stuck: set[str] = set()
        """Operations whose step fails for a cause of their own, which was told."""

    def wake(self) -> None:
        """Somebody has decided something: there may be a new one."""
        self._news.set()

    def moved(self) -> None:
        """Commands have moved on, maybe ours."""
        if self._running:
            self._news.set()

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        while True:
            self._news.clear()
            try:
                running = await operations.running(self._db)
                self._running = bool(running)
                for operation_id in running:
                    await self._step(operation_id)
            except DatabaseUnavailable as error:
                if str(error) != self._trouble:
                    _log.warning("operations cannot go on", reason=str(error))
                self._trouble, self._running = str(error), True
            else:
                self._trouble = ""
            await set_within(self._news, LOOK)
            await asyncio.sleep(PAUSE)

    async def _step(self, operation_id: str) -> None:
        try:
            await self._take(operation_id)
        except (LeaseLost, DatabaseUnavailable):
            raise
        except Exception:  # noqa: BLE001 - one that cannot go on holds up neither the others nor commands
            if operation_id not in self._stuck:
                _log.exception("an operation cannot go on", operation=operation_id)
            self._stuck.add(operation_id)
        else:
            self._stuck.discard(operation_id)

    async def _take(self, operation_id: str) -> None:
        if commands := await to_its_end(operations.step(self._db, operation_id)):
            await reach(Point.OPERATION_AFTER_STEP)
            self._accepted()
            self._hints.changed(commands)
