"""Making, upgrading and refusing a database; and what is said when it cannot be used."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.persistence import engine, migrate, tables
from services.persistence.engine import Database
from services.persistence.errors import DatabaseUnavailable, RevisionError
from services.runtime.errors import UserError
from tests.persistence.conftest import url_of


async def test_migrations_from_empty_give_the_declared_tables(tmp_path: Path) -> None:
    """The revisions, run one after the other, and the models say the same; a second upgrade does nothing."""
    url = url_of(tmp_path / "new" / "atlhyper.db")
    assert await migrate.upgrade(url) == ("", migrate.head())
    assert await migrate.upgrade(url) == (migrate.head(), migrate.head())
    async with Database(url) as db:
        await migrate.check_revision(db)
        async with db.write() as session:
            connection = await session.connection()
            assert await connection.run_sync(migrate.differences) == []


async def test_migrations_make_the_indexes_that_are_declared(db: Database) -> None:
    """Partial indexes too, which the comparison above does not look into."""
    async with db.read() as session:
        found = await (await session.connection()).exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        there = dict(map(tuple, found))
    declared = {
        index.name: str(sa.schema.CreateIndex(index).compile(dialect=sa.dialects.sqlite.dialect()))
        for table in tables.Table.metadata.tables.values()
        for index in table.indexes
    }
    assert {name: " ".join(text.split()) for name, text in there.items()} == declared


async def test_database_without_tables_is_refused(tmp_path: Path) -> None:
    async with Database(url_of(tmp_path / "empty.db")) as db:
        with pytest.raises(RevisionError, match="has no tables yet") as refusal:
            await migrate.check_revision(db)
    assert refusal.value.next_step == "run `atlhyper db upgrade`"


async def set_revision(db: Database, revision: str, needs: str) -> None:
    async with db.write() as session:
        connection = await session.connection()
        await connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        await connection.exec_driver_sql(f"UPDATE compatibility SET needs = '{needs}'")


async def test_unknown_revision_is_refused_by_name(new_url: Callable[[], str]) -> None:
    """A database that a newer version has changed beyond our use is left alone, by check and by upgrade."""
    url = new_url()
    async with Database(url) as db:
        await set_revision(db, "9999", needs="9000")
        with pytest.raises(RevisionError, match="revision 9999, which this version does not know"):
            await migrate.check_revision(db)
    with pytest.raises(RevisionError, match="9999"):
        await migrate.upgrade(url)


async def test_newer_revision_that_older_code_can_use_is_accepted(new_url: Callable[[], str]) -> None:
    """The database says which code it needs at least, and only what is older is refused."""
    url = new_url()
    async with Database(url) as db:
        await set_revision(db, "9999", needs=migrate.head())
        await migrate.check_revision(db)
    assert await migrate.upgrade(url) == ("9999", "9999")


async def test_sqlite_is_set_up_for_us(db: Database) -> None:
    """Write-ahead log, foreign keys, and space that can be given back."""
    async with db.write() as session:
        connection = await session.connection()
        for pragma, value in {
            "journal_mode": "wal",
            "auto_vacuum": 2,
            "synchronous": 1,
            "foreign_keys": 1,
            "busy_timeout": 5000,
        }.items():
            assert (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one() == value


async def test_writers_wait_for_each_other(db: Database) -> None:
    """Two transactions that read and then write never lose an update, nor fail as locked."""

    async def add() -> None:
        async with db.write() as session:
            connection = await session.connection()
            before = (await connection.exec_driver_sql("SELECT max(rev) FROM shard")).scalar_one() or 0
            await asyncio.sleep(0.001)
            await connection.exec_driver_sql(
                f"INSERT INTO shard (shard, rev) VALUES ({before + 1}, {before + 1})"
            )

    await asyncio.gather(*(add() for _ in range(20)))
    async with db.read() as session:
        assert (
            await (await session.connection()).exec_driver_sql("SELECT max(rev) FROM shard")
        ).scalar_one() == 20


async def test_readers_are_not_kept_waiting_by_a_writer(db: Database) -> None:
    """A read in the middle of a write answers at once, with what was committed before."""
    async with db.write() as writing:
        await (await writing.connection()).exec_driver_sql("INSERT INTO shard (shard, rev) VALUES (1, 1)")
        async with asyncio.timeout(1), db.read() as reading:
            count = await (await reading.connection()).exec_driver_sql("SELECT count(*) FROM shard")
            assert count.scalar_one() == 0


async def test_locked_database_is_told_as_such(
    new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that holds the file makes a write fail with that cause, and it succeeds afterwards."""
    monkeypatch.setattr(engine, "_PRAGMAS", ("PRAGMA busy_timeout = 100",))
    url = new_url()
    other = sqlite3.connect(url.removeprefix("sqlite+aiosqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with Database(url) as db:
        with pytest.raises(DatabaseUnavailable, match="another process holds it"):
            async with db.write():
                pass
        other.execute("ROLLBACK")
        async with db.write() as session:
            await (await session.connection()).exec_driver_sql("INSERT INTO shard (shard, rev) VALUES (1, 1)")
    other.close()


async def test_full_database_is_told_as_such_and_recovers(db: Database) -> None:
    """SQLITE_FULL rolls the transaction back; once there is room the next one succeeds."""

    async def write(size: int) -> None:
        async with db.write() as session:
            await (await session.connection()).exec_driver_sql(
                "INSERT INTO part VALUES ('k', 'i', 'r', 'n', 'x', 0, zeroblob(?))", (size,)
            )

    async with db.write() as session:
        connection = await session.connection()
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


async def test_missing_driver_is_told_as_such() -> None:
    """PostgreSQL without its driver names the driver, and never the password."""
    with pytest.raises(UserError, match="asyncpg is not installed") as refusal:
        Database("postgresql+asyncpg://atlhyper:hunter2@localhost/atlhyper")
    assert "hunter2" not in refusal.value.render()
