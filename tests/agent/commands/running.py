"""Running a CommandScheduler as the agent does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.agent.scheduler.commands.scheduler import CommandScheduler


@asynccontextmanager
async def running(scheduler: CommandScheduler) -> AsyncIterator[CommandScheduler]:
    """Until the block ends, or a part of it fails."""
    await scheduler.journal.begin()
    await scheduler.listen()
    parts = (scheduler.take, scheduler.execute, scheduler.report, scheduler.recover)
    tasks = [asyncio.create_task(part()) for part in parts]
    try:
        yield scheduler
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
