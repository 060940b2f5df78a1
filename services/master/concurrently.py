"""Running the parts of a duty together."""

import asyncio
from collections.abc import Awaitable, Callable

from services.persistence.leases import LeaseLost


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


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()
