"""Waiting for what comes about in its own time, and measuring how long it took."""

import asyncio
import inspect
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from services.runtime.tasks import cancelled

_TICK = 0.05


async def until(condition: Callable[[], object], seconds: float = 40.0) -> None:
    """Wait until something holds; `condition` may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.02)


class Stopwatch:
    """Seconds in which this process could run: a time for which the machine has stopped it does not count.

    `async with Stopwatch() as watch: …`, then `watch.seconds`. It is for what this process does by itself.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        self._counting = asyncio.create_task(self._count())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancelled(self._counting)

    async def _count(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self.seconds += min(now - last, 2 * _TICK)
            last = now
