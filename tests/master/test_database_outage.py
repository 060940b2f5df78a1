"""A database that is away, locked or full under a working master: told within ten seconds, nothing lost, and
it goes on by itself."""

import asyncio
import random
import resource
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from tests.faults.disk import MOUNTS, Disk
from tests.master.agent import BusAgent
from tests.master.conftest import Fleet, MasterProcess
from tests.master.test_master import events_of
from tests.persistence.frames import body_of
from tests.postgres.server import Postgres
from tests.waiting import Stopwatch, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

TOLD = 10.0
"""Seconds."""


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """On PostgreSQL in a test that has a server of its own."""
    if "postgres_disk" in request.fixturenames:
        server, _ = request.getfixturevalue("postgres_disk")
        return str(server.new_database())
    if "own_postgres" in request.fixturenames:
        server = request.getfixturevalue("own_postgres")
        return str(server.new_database())
    return f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}"


async def well(master: MasterProcess) -> None:
    async def is_well() -> bool:
        return not await master.trouble()

    await until(is_well, 30)


async def told(master: MasterProcess, text: str) -> None:
    """Readiness names the cause in time; seconds in which the machine stood still do not count."""

    async def says_so() -> bool:
        return text in await master.trouble()

    async with Stopwatch() as watch:
        await until(says_so)
    assert watch.seconds < TOLD


async def say(agent: BusAgent, first: int, count: int, *, size: int = 0) -> None:
    """New pods, and an Event each."""
    for number in range(first, first + count):
        # What cannot be compressed takes the room that it says.
        body = body_of(f"p{number}", note=random.Random(number).randbytes(size // 2).hex())
        await agent.send(agent.source.put(f"p{number}", body))
        await agent.observe(f"u{number}", 1, number)


async def arrived(fleet: Fleet, agent: BusAgent, count: int) -> None:
    """All rows and all Events, each once."""
    await fleet.until_rows(agent.source)
    wanted: dict[object, object] = {f"u{number}": 1 for number in range(1, count + 1)}

    async def all_events() -> bool:
        return await events_of(fleet) == wanted

    await until(all_events)


async def test_postgresql_that_goes_and_comes_back(
    own_postgres: Postgres,
    master: MasterProcess,
    fleet: Fleet,
    agent: BusAgent,
) -> None:
    """Killed while frames and Events arrive."""
    await agent.send(agent.source.begin("e1"), agent.source.synced())
    await say(agent, 1, 10)
    await well(master)
    own_postgres.kill()
    await say(agent, 11, 10)
    await told(master, "database")
    own_postgres.start()
    await say(agent, 21, 10)
    await arrived(fleet, agent, 30)
    await well(master)


async def test_postgresql_that_hangs(
    own_postgres: Postgres,
    master: MasterProcess,
    fleet: Fleet,
    agent: BusAgent,
) -> None:
    """It is there and does not answer."""
    await agent.send(agent.source.begin("e1"), agent.source.synced())
    await say(agent, 1, 10)
    await well(master)
    own_postgres.pause()
    await say(agent, 11, 10)
    await told(master, "answer")
    own_postgres.resume()
    await arrived(fleet, agent, 20)
    await well(master)


@pytest.mark.skipif(not MOUNTS, reason="only root can mount a small disk, on Linux")
async def test_postgresql_without_room(
    postgres_disk: tuple[Postgres, Disk],
    master: MasterProcess,
    fleet: Fleet,
    agent: BusAgent,
) -> None:
    """Not one byte is left on its disk, until there is room again."""
    _, disk = postgres_disk
    await agent.send(agent.source.begin("e1"), agent.source.synced())
    await well(master)
    disk.fill()
    await say(agent, 1, 20, size=50_000)
    await told(master, "its disk is full")
    disk.make_room()
    await arrived(fleet, agent, 20)
    await well(master)


async def test_sqlite_that_another_process_holds(
    master: MasterProcess,
    fleet: Fleet,
    agent: BusAgent,
    database_url: str,
) -> None:
    """For longer than SQLite waits by itself, and than leases last: the cause is told for as long."""
    await agent.send(agent.source.begin("e1"), agent.source.synced())
    await well(master)
    other = sqlite3.connect(database_url.partition(":///")[2], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await say(agent, 1, 10)
    await told(master, "another process holds it")
    told_since = time.monotonic()
    while time.monotonic() - told_since < 8:
        assert "another process holds it" in str(await master.trouble())
        await asyncio.sleep(0.5)
    other.execute("ROLLBACK")
    other.close()
    await arrived(fleet, agent, 10)
    await well(master)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of another process")
async def test_sqlite_without_room(
    master: MasterProcess,
    fleet: Fleet,
    agent: BusAgent,
    database_url: str,
) -> None:
    """Its files cannot grow, until they can."""
    await agent.send(agent.source.begin("e1"), agent.source.synced())
    await well(master)
    unlimited = resource.prlimit(master.pid, resource.RLIMIT_FSIZE)
    wal = Path(database_url.partition(":///")[2] + "-wal")
    resource.prlimit(master.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, unlimited[1]))
    await say(agent, 1, 20, size=50_000)
    await told(master, "disk")
    resource.prlimit(master.pid, resource.RLIMIT_FSIZE, unlimited)
    await arrived(fleet, agent, 20)
    await well(master)
