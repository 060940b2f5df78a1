"""Who may go now: commands on one object one after the other, and only so many at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

AT_ONCE = 16
LONG_AT_ONCE = 4
"""Long ones have slots of their own: others do not wait for them."""


class Turns:
    """Slots, and a queue per object."""

    def __init__(self) -> None:
        self._slots = {False: asyncio.Semaphore(AT_ONCE), True: asyncio.Semaphore(LONG_AT_ONCE)}
        self._queues: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, about: Hashable | None, *, long: bool) -> AsyncIterator[None]:
        """Wait until those about the same thing that came before have ended (None: about nothing that
        others are about), and then for a slot. They come in the order in which they ask."""
        mine = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(about, deque()) if about is not None else deque([mine])
        if about is not None:
            queue.append(mine)
        try:
            if queue[0] is not mine:
                await mine
            async with self._slots[long]:
                yield
        finally:
            first = queue[0] is mine
            queue.remove(mine)
            if not queue:
                self._queues.pop(about, None)
            elif first and not queue[0].done():
                queue[0].set_result(None)
