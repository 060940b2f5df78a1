"""Fixtures with a real PostgreSQL; `tests/conftest.py` loads this module as a plugin.

    def test_1(new_postgres_url):            # a factory: each call makes a database with all tables, empty
        url = new_postgres_url()             # … new_postgres_url(migrated=False): without tables

    def test_2(own_postgres):                # a server of this test's own, which may be treated badly
        url = own_postgres.new_database()
        own_postgres.kill()                  # kill -9; also stop(), pause(), resume()
        own_postgres.start()                 # again, on the same port; launch() does not wait for it

    def test_3(postgres_disk):               # one whose disk can be full (only root can mount one)
        server, disk = postgres_disk
        disk.fill()

`postgres` is the server that the whole run shares: `postgres.execute("SELECT …", database="test_7")` looks
into it as the superuser. Methods block for at most some seconds and may be called in an async test. Tests
that shall hold on both databases live in tests/persistence and take `new_url` or `db` from its conftest.
"""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.faults.disk import MIB, Disk
from tests.postgres.server import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the run."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server of this test's own."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
async def postgres_disk() -> AsyncIterator[tuple[Postgres, Disk]]:
    """A server of this test's own, and the disk on which all that it has is."""
    server = Postgres()
    try:
        async with Disk(server.folder / "data", 256 * MIB) as disk:
            server.own(disk.folder)
            server.start()
            try:
                yield server, disk
            finally:
                disk.make_room()
                server.kill()
    finally:
        server.close()


@pytest.fixture
def new_postgres_url(postgres: Postgres) -> Iterator[Callable[..., str]]:
    """Makes databases on the shared server; they are dropped after the test."""
    made: list[str] = []

    def make(*, migrated: bool = True) -> str:
        made.append(postgres.new_database(migrated=migrated))
        return made[-1]

    yield make
    for url in made:
        postgres.drop(url)
