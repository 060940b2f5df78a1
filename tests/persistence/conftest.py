"""Real SQLite files."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.persistence.engine import Database
from services.persistence.migrate import upgrade


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with its tables; copying it is faster than making one."""
    import asyncio

    path = tmp_path_factory.mktemp("template") / "empty.db"
    asyncio.run(upgrade(url_of(path)))
    return path


@pytest.fixture
def new_url(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes databases with empty tables, each a file of its own; their URLs."""

    def make() -> str:
        path = tmp_path_factory.mktemp("database") / "atlhyper.db"
        shutil.copyfile(template, path)
        return url_of(path)

    return make


@pytest.fixture
async def db(new_url: Callable[[], str]) -> AsyncIterator[Database]:
    """One database with empty tables."""
    async with Database(new_url()) as database:
        yield database
