"""By how much the broker's clock and the database's differ."""

import time
from datetime import datetime, timedelta

from services.persistence.database import clock
from services.persistence.database.engine import Database
from services.runtime import logs

_log = logs.get_logger(__name__)

SURE = 0.5
"""Seconds by which a measurement may be wrong; one that may be more so says nothing."""
ALIKE = 2.0
"""Seconds between two clocks that count as one, as for `services.persistence.commands.pace.MARGIN`."""


class ClockSkew:
    """Measured whenever the broker says what time it is there.

    Deadlines are by the database's clock and messages have the broker's time, so their reader is told.
    """

    def __init__(self) -> None:
        self._seconds: float | None = None

    @property
    def ahead(self) -> float | None:
        """Seconds by which the broker's clock is ahead of the database's, negative for behind; 0: alike.

        None: not known, since no measurement was sure yet.
        """
        return self._seconds

    async def measure(self, db: Database, broker_time: datetime, asked: float, answered: float) -> None:
        """`broker_time` was read between these two moments, in monotonic seconds.

        Raises DatabaseUnavailable.
        """
        async with db.read() as connection:
            before = time.monotonic()
            present = await clock.now(connection)
            after = time.monotonic()
        if (answered - asked + after - before) / 2 > SURE:
            return
        between = timedelta(seconds=(before + after - asked - answered) / 2)
        seconds = (broker_time + between - present).total_seconds()
        if abs(seconds) <= ALIKE:
            seconds = 0.0
        if abs(seconds - (self._seconds or 0.0)) > ALIKE:
            what = "differ: set them right" if seconds else "are alike again"
            _log.warning(f"the broker's clock and the database's {what}", ahead=seconds)
        self._seconds = seconds
