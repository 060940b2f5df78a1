"""What time it is for the core, as far as an agent can know: by the database's clock, as deadlines are."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

HOLDS = 600.0
"""Seconds for which a reading is preferred to a newer one that says less: clocks drift, machines sleep."""


class CoreClock:
    """The core's clock, read off its commands. The own clock is asked only while there were none.

    A message says that it is at least as late there as when it was sent, so the latest reading counts.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._ahead: float | None = None
        """Seconds by which the core's clock is ahead of the monotonic one."""
        self._read_at = 0.0
        self._at_least = float("-inf")
        """The same, by messages that may have been under way for long."""
        self._at_least_since = 0.0

    @property
    def known(self) -> bool:
        """Whether a fresh message has told it; else it is the own clock's time, which may be wrong."""
        return self._ahead is not None

    def hear(self, sent: datetime, *, fresh: bool = True) -> None:
        """A message of that time has come; `fresh`: it was under way for a moment only."""
        now = self._monotonic()
        ahead = sent.timestamp() - now
        if not fresh:
            if ahead > self._at_least or now - self._at_least_since > HOLDS:
                self._at_least, self._at_least_since = ahead, now
        elif self._ahead is None or ahead > self._ahead or now - self._read_at > HOLDS:
            self._ahead, self._read_at = ahead, now

    def now(self) -> datetime:
        """The core's time; while nothing is known of it the own clock's, but not before what was heard."""
        now = self._monotonic()
        ahead = self._wall().timestamp() - now if self._ahead is None else self._ahead
        return datetime.fromtimestamp(now + max(ahead, self._at_least), UTC)

    def skew(self) -> timedelta:
        """By how much the own clock is ahead of the core's, as far as that is known."""
        return self._wall() - self.now()
