"""Pauses between attempts: exponential, capped, with full jitter.

Full jitter (a uniform draw below the exponential bound) because a fleet that lost its broker at one moment
must not come back at one moment; see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import asyncio
import random

_FLOOR = 0.05
"""Seconds. A draw close to zero would make the first pauses a busy loop."""


class Backoff:
    """Seconds to wait before the next attempt: at most `base`, then twice as much each time, up to `cap`."""

    def __init__(self, base: float = 0.5, cap: float = 30.0) -> None:
        self.base = base
        self.cap = cap
        self.attempts = 0

    def delay(self) -> float:
        """The next pause in seconds; counts as an attempt."""
        bound = min(self.cap, self.base * 2.0 ** min(self.attempts, 32))
        self.attempts += 1
        return max(min(_FLOOR, bound), random.uniform(0, bound))

    def reset(self) -> None:
        """Start again at `base`: the last attempt succeeded."""
        self.attempts = 0

    async def sleep(self) -> None:
        """Wait for `delay()`."""
        await asyncio.sleep(self.delay())
