"""The duty `commands` at work, and the agents that it meets, for the master's tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from schemas import topology
from schemas.commands import CommandState
from schemas.ids import Target
from services.master.commands.duty import CommandsDuty
from services.master.confirmations import Confirmations
from services.master.nudges import Nudges
from services.master.parts import Parts
from services.master.resync import Resyncs, Superseding
from services.master.settings import MasterSettings
from services.master.teller import Teller
from services.master.work import DatabaseWork
from services.persistence.commands.requests import request_cancel
from services.persistence.database.engine import Database
from services.runtime.bus.client import Bus
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect
from tests.master.commanding import CommandAgent, Commands
from tests.persistence.sending import beat

STREAM = topology.COMMANDS.name
A = AGENTS[0]


def parts_of(bus: Bus, db: Database, resend: float = 0.5) -> Parts:
    """A master's, with short times; `resend`: seconds until a command is asked about."""
    teller = Teller(bus)
    return Parts(
        settings=MasterSettings(command_resend_interval=resend, command_grace=1.0),
        bus=bus,
        db=db,
        work=DatabaseWork(),
        resyncs=Resyncs(teller, 1, 1.0, 1.0),
        superseding=Superseding(teller, 1.0),
        nudges=Nudges(teller),
        confirmations=Confirmations(teller),
    )


@asynccontextmanager
async def at_work(bus: Bus, db: Database, resend: float = 0.5) -> AsyncIterator[CommandsDuty]:
    made = CommandsDuty(parts_of(bus, db, resend))
    task = asyncio.create_task(made.run())
    try:
        yield made
        assert not task.done(), task.result()
    finally:
        await cancelled(task)


class Takers:
    """Agents that take commands, known to the master."""

    def __init__(self, bus: Connect, db: Database, stack: AsyncExitStack) -> None:
        self._bus = bus
        self._db = db
        self._stack = stack

    async def meet(self, target: Target = A) -> CommandAgent:
        """An agent that has sent its heartbeat and does nothing yet."""
        made = CommandAgent(await self._bus(target.durable), target)
        await beat(self._db, target, made.journal_id)
        return made

    async def start(self, agent: CommandAgent) -> asyncio.Task[None]:
        task = asyncio.create_task(agent.run())
        self._stack.push_async_callback(cancelled, task)
        return task


async def consumer_of(operator: Bus, target: Target) -> dict[str, object]:
    return await operator.api(f"$JS.API.CONSUMER.INFO.{STREAM}.{target.durable}")


async def cancel(commands: Commands, command_id: str) -> None:
    async with commands.db.write() as connection:
        assert await request_cancel(connection, command_id, datetime.now(UTC), "enough")


async def in_state(commands: Commands, command_id: str, state: CommandState) -> bool:
    return await commands.state(command_id) is state


async def has_ended(commands: Commands, command_id: str) -> bool:
    return (await commands.state(command_id)).terminal


async def all_in_state(commands: Commands, some: list[object], state: CommandState) -> bool:
    now = await commands.states()
    return all(now[command.id] == state for command in some)  # type: ignore[attr-defined]


async def has_consumer(operator: Bus, target: Target) -> bool:
    page = await operator.api(f"$JS.API.CONSUMER.NAMES.{STREAM}")
    return target.durable in (page.get("consumers") or [])
