"""An agent's commands with the other end in memory: fixtures."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.commands import CommandCompleted
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from tests.agent.commands.desk import TARGET, MemoryGateway, order
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions


class Bench:
    """An agent's commands with everything around them in reach."""

    def __init__(self, scheduler: CommandScheduler, gateway: MemoryGateway, actions: WorldActions) -> None:
        self.scheduler = scheduler
        self.journal = scheduler.journal
        self.gateway = gateway
        self.actions = actions

    def hand_out(self, *about: Any, **values: Any) -> None:
        self.gateway.hand_out(*(order(one, self.journal.id, **values) for one in about))

    async def do(self, about: Any, **values: Any) -> CommandCompleted:
        """Hand one out, and its result."""
        self.hand_out(about, **values)
        return await self.gateway.end(about)


Opened = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """`async with opened(read_only=True) as bench`: an agent on the test's file and world.

    Results are sent again after `patience` seconds without a confirmation: no machine is that slow, so only
    those tests see it that ask for less.
    """

    @asynccontextmanager
    async def open_(
        *, now: Callable[[], datetime] = lambda: datetime.now(UTC), **values: Any
    ) -> AsyncIterator[Bench]:
        world = World(tmp_path / "world.db")
        gateway, actions = MemoryGateway(), WorldActions(world)
        wanted = {"instance": "uid-a", "read_only": False, "patience": 30.0} | values
        async with StateFile(tmp_path / "agent.db", journal_rows.TABLES) as file:
            scheduler = CommandScheduler(
                TARGET, wanted.pop("instance"), actions, Journal(file, now), gateway, now=now, **wanted
            )
            async with running(scheduler):
                yield Bench(scheduler, gateway, actions)
        world.close()

    return open_


@pytest.fixture
async def bench(opened: Opened) -> AsyncIterator[Bench]:
    async with opened() as bench:
        yield bench
