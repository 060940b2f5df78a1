"""A master on a broker and a database of the test's own."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from schemas.ids import Target
from services.master.commands.duty import CommandsDuty
from services.persistence import queries
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.runtime.bus.client import Bus
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.master.commanding import CommandAgent, Commands
from tests.master.duty import Takers, at_work
from tests.persistence.frames import FrameSource, Held, rows
from tests.processes import ServiceProcess
from tests.waiting import until


class MasterProcess(ServiceProcess):
    """`atlhyper master` as a process."""

    def __init__(self, variables: Mapping[str, str], log: Path) -> None:
        super().__init__("master", variables, log)


class Fleet:
    """The database as readers see it, for waiting until it is as it should be."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def rows(self, target: Target) -> Held:
        return await rows(self.db, target)

    async def status(self, target: Target) -> queries.AgentStatus | None:
        async with self.db.read() as connection:
            return await queries.get_agent(connection, target)

    async def until_rows(self, source: FrameSource) -> None:
        """Until the rows are what the agent holds."""

        async def same() -> bool:
            return await self.rows(source.target) == source.held

        await until(same, 60)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Where the master's rows are; a test may have them elsewhere."""
    return f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}"


@pytest.fixture
async def fleet(database_url: str) -> AsyncIterator[Fleet]:
    await migrate.upgrade(database_url)
    async with Database(database_url) as db:
        yield Fleet(db)


@pytest.fixture
async def master(
    own_broker: RunningBroker, fleet: Fleet, database_url: str, tmp_path: Path
) -> AsyncIterator[MasterProcess]:
    """A running master."""
    process = MasterProcess(
        {
            "ATLHYPER_HOME": str(own_broker.home),
            "NATS_URL": own_broker.url,
            "DATABASE_URL": database_url,
            "MASTER_METRICS_LISTEN": "127.0.0.1:0",
            "MASTER_HEARTBEAT_INTERVAL": "500ms",
            "MASTER_RESYNC_INTERVAL": "300ms",
        },
        tmp_path / "master.log",
    )
    await process.start()
    yield process
    await process.stop(signal.SIGKILL)


@pytest.fixture
async def agent(bus: Connect) -> BusAgent:
    """The agent `a`, listening."""
    return await make_agent(bus, 0)


@pytest.fixture
async def second_agent(bus: Connect) -> BusAgent:
    """The agent `b`, listening."""
    return await make_agent(bus, 1)


async def make_agent(bus: Connect, number: int) -> BusAgent:
    source = FrameSource(AGENTS[number], resources=("pods",))
    made = BusAgent(await bus(source.target.durable), source)
    await made.listen()
    return made


# --- commands ---------------------------------------------------------------------------------------------


@pytest.fixture
async def commands(fleet: Fleet) -> Commands:
    return Commands(fleet.db)


@pytest.fixture
async def operator(own_broker: RunningBroker, bus: Connect) -> Bus:
    return await bus("operator")


@pytest.fixture
def resend() -> float:
    """Seconds until a command is asked about; more for a test of one that is answered before."""
    return 0.5


@pytest.fixture
async def duty(
    own_broker: RunningBroker, bus: Connect, commands: Commands, resend: float
) -> AsyncIterator[CommandsDuty]:
    """The duty at work."""
    async with at_work(await bus("master", wait=True), commands.db, resend) as made:
        yield made


@pytest.fixture
async def takers(own_broker: RunningBroker, bus: Connect, commands: Commands) -> AsyncIterator[Takers]:
    async with AsyncExitStack() as stack:
        yield Takers(bus, commands.db, stack)


@pytest.fixture
async def taker(takers: Takers) -> CommandAgent:
    """The agent `a` at work."""
    made = await takers.meet()
    await takers.start(made)
    return made
