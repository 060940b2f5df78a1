"""What is SQLite's own: its settings, its one writer, its file, its full disk."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.database.postgresql import Limits
from tests.persistence.conftest import only_on, url_of


@only_on("sqlite")
async def test_sqlite_is_set_up_for_us(new_url: Callable[[], str]) -> None:
    """Write-ahead log, foreign keys, space that can be given back; what is durable waits for the disk."""
    common = {"journal_mode": "wal", "auto_vacuum": 2, "foreign_keys": 1, "busy_timeout": 5000}
    for durable, synchronous in ((False, 1), (True, 2)):
        async with Database(new_url()) as db, db.write(durable=durable) as connection:
            for pragma, value in {**common, "synchronous": synchronous}.items():
                assert (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one() == value


@only_on("sqlite")
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 200])
async def test_rows_come_whole_and_in_portions(db: Database, count: int) -> None:
    """However many there are; a statement that is left early is closed, so that the next one may write."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {count}) SELECT i FROM n"
    wanted = list(range(1, count + 1))
    async with db.write() as connection:
        assert (await connection.scalars(sa.text(numbers))).all() == wanted
        for size in (2, 50, 64, 300):
            options = {"yield_per": size}
            async with connection.stream(sa.text(numbers), execution_options=options) as result:
                assert [row.i async for portion in result.partitions() for row in portion] == wanted
            async with connection.stream(sa.text(numbers), execution_options=options) as result:
                first = await anext(aiter(result.partitions()), [])
                assert [row.i for row in first] == wanted[: len(first)]
        await connection.exec_driver_sql("DROP TABLE clock")


@only_on("sqlite")
async def test_writers_wait_for_each_other(db: Database) -> None:
    """Two transactions that read and then write never lose an update, nor fail as locked."""

    async def add() -> None:
        async with db.write() as connection:
            before = (await connection.exec_driver_sql("SELECT max(rev) FROM shard")).scalar_one() or 0
            await asyncio.sleep(0.001)
            await connection.exec_driver_sql(f"INSERT INTO shard VALUES ({before + 1}, {before + 1}, 0)")

    await asyncio.gather(*(add() for _ in range(20)))
    async with db.read() as connection:
        assert (await connection.exec_driver_sql("SELECT max(rev) FROM shard")).scalar_one() == 20


@only_on("sqlite")
async def test_locked_database_is_told_as_such(
    new_url: Callable[[], str],
) -> None:
    """Another process that holds the file makes a write fail with that cause, and it succeeds afterwards."""
    url = new_url()
    other = sqlite3.connect(url.removeprefix("sqlite+aiosqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with Database(url, limits=Limits(lock=0.1)) as db:
        with pytest.raises(DatabaseUnavailable, match="another process holds it"):
            async with db.write():
                pass
        other.execute("ROLLBACK")
        async with db.write() as connection:
            await connection.exec_driver_sql("INSERT INTO shard VALUES (1, 1, 0)")
    other.close()


@only_on("sqlite")
async def test_full_database_is_told_as_such_and_recovers(db: Database) -> None:
    """SQLITE_FULL rolls the transaction back; once there is room the next one succeeds."""

    async def write(size: int) -> None:
        async with db.write() as connection:
            await connection.exec_driver_sql(
                "INSERT INTO part VALUES ('k', 'i', 'r', 'n', 'x', 0, zeroblob(?))", (size,)
            )

    async with db.write() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(DatabaseUnavailable, match="the disk is full"):
        await write(1_000_000)
    await write(100)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_unwritable_folder_is_told_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(DatabaseUnavailable, match="cannot"):
        await migrate.upgrade(url_of(folder / "sub" / "atlhyper.db"))


async def test_file_that_is_no_database_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("certainly not a database\n" * 100)
    with pytest.raises(DatabaseUnavailable, match="the file is not a database"):
        await migrate.upgrade(url_of(path))


async def test_folder_that_cannot_be_made_is_told_as_such(tmp_path: Path) -> None:
    """A file where a folder should be, as root meets it too."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match="cannot make its folder"):
        await migrate.upgrade(url_of(tmp_path / "file" / "atlhyper.db"))
