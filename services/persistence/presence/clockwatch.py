"""Whether the broker's clock runs, looked at again and again; by no clock but this process' own stopwatch."""

import asyncio
import time

from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.presence import liveness

INTERVAL = 2.0
"""Seconds between two looks."""
SILENT = 20.0
"""Seconds without a new beat of a master after which the clock stands: three beats and more by default."""


class ClockWatch:
    """Watches the beats of the masters as they appear in the database."""

    def __init__(self, db: Database, silent: float = SILENT) -> None:
        self._db = db
        self._silent = silent
        self._latest: liveness.ClockReading | None = None
        self._moved = time.monotonic()

    def stands(self) -> str | None:
        """Why the clock stands, a fact for people; None while it runs."""
        still = time.monotonic() - self._moved
        if still < self._silent:
            return None
        return f"no master has been heard for {still:.0f} s: the masters or the broker are away"

    async def run(self) -> None:
        """Until cancelled. The silence counts from now on."""
        self._moved = time.monotonic()
        while True:
            try:
                async with self._db.read() as connection:
                    reading = await liveness.read_clock(connection)
            except DatabaseUnavailable:
                pass  # the database is not the clock: it tells of itself
            else:
                if reading != self._latest:
                    self._latest, self._moved = reading, time.monotonic()
            await asyncio.sleep(INTERVAL)
