"""Doing several things at one time: the parts of a duty, and one thing for many."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from services.persistence.leases import LeaseLost

Item = TypeVar("Item")


async def all_of(*runs: Callable[[], Awaitable[None]]) -> None:
    """Run them until cancelled, or one fails: its error, when the others have ended.

    Raises LeaseLost when it is among the errors, else the first one.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(_awaited(run))
    except BaseExceptionGroup as errors:
        lost = next((error for error in errors.exceptions if isinstance(error, LeaseLost)), None)
        raise (lost or errors.exceptions[0]) from None


async def for_each(items: Collection[Item], work: Callable[[Item], Awaitable[None]], at_once: int) -> None:
    """Do `work` for each, so many at one time. When one fails the rest is left: its error, when all have
    ended.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    await all_of(*[worker] * min(at_once, len(items)))


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()
