"""Real databases: each test runs on SQLite and on PostgreSQL, unless it is marked as one's own.

`@pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)` is `only_on("sqlite")`.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from services.persistence.database.engine import Database
from services.persistence.database.migrate import upgrade
from services.persistence.database.postgresql import Limits

PATIENT = Limits(statement=60.0, answer=61.0, lock=30.0, idle=30.0)
"""A test that the machine has stopped for some seconds, say for its disk, finds its transaction as it was."""

UNHURRIED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
"""Of properties whose examples each have a database. Such a list takes the place of the profile's, which has
`too_slow`."""


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def only_on(database: str) -> pytest.MarkDecorator:
    """Marks tests that are about one database: `sqlite` or `postgresql`."""
    return pytest.mark.parametrize("new_url", [database], indirect=True)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database with its tables; copying it is faster than making one."""
    path = tmp_path_factory.mktemp("template") / "empty.db"
    asyncio.run(upgrade(url_of(path)))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Makes databases with empty tables, each of its own; their URLs."""
    if request.param == "postgresql":
        make_one: Callable[[], str] = request.getfixturevalue("new_postgres_url")
        return make_one

    def make() -> str:
        path = tmp_path_factory.mktemp("database") / "atlhyper.db"
        shutil.copyfile(template, path)
        return url_of(path)

    return make


@pytest.fixture
async def db(new_url: Callable[[], str]) -> AsyncIterator[Database]:
    """One database with empty tables."""
    async with Database(new_url(), limits=PATIENT) as database:
        yield database
