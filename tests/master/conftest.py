"""A master on a broker and a database of the test's own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.ids import Target
from services.persistence import migrate, queries
from services.persistence.engine import Database
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.persistence.frames import FrameSource, Held, rows
from tests.waiting import until


class MasterProcess:
    """`atlhyper master` as a process."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from services.cli.main import main; main()",
                "master",
                env=os.environ | self._environment,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(15):
            return await self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()


class Fleet:
    """The database as readers see it, for waiting until it is as it should be."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def rows(self, target: Target) -> Held:
        return await rows(self.db, target)

    async def status(self, target: Target) -> queries.AgentStatus | None:
        async with self.db.read() as session:
            return await queries.get_agent(session, target)

    async def until_rows(self, source: FrameSource) -> None:
        """Until the rows are what the agent holds."""

        async def same() -> bool:
            return await self.rows(source.target) == source.held

        await until(same)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}"
    await migrate.upgrade(url)
    async with Database(url) as db:
        yield Fleet(db)


@pytest.fixture
async def master(own_broker: RunningBroker, fleet: Fleet, tmp_path: Path) -> AsyncIterator[MasterProcess]:
    """A running master."""
    process = MasterProcess(
        {
            "ATLHYPER_HOME": str(own_broker.home),
            "NATS_URL": own_broker.url,
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}",
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
