"""Making and refusing a database, and how transactions of several meet."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.persistence import tables
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.persistence.database.errors import RevisionError
from services.persistence.database.probe import DatabaseProbe
from tests.persistence.conftest import PATIENT, only_on, url_of


@only_on("sqlite")
async def test_migrations_make_the_indexes_that_are_declared(db: Database) -> None:
    """Partial indexes too, which the comparison above does not look into."""
    async with db.read() as connection:
        found = await connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        there = dict(map(tuple, found))
    declared = {
        index.name: str(sa.schema.CreateIndex(index).compile(dialect=sa.dialects.sqlite.dialect()))
        for table in tables.Table.metadata.tables.values()
        for index in table.indexes
        if index.info.get("only_on", "sqlite") == "sqlite"
    }
    assert {name: " ".join(text.split()) for name, text in there.items()} == declared


@only_on("sqlite")
async def test_labels_follow_their_objects(db: Database) -> None:
    """The triggers of `label`: pairs come, change and go with their object, by whichever statement."""

    async def pairs(statement: str) -> set[tuple[str, str]]:
        async with db.write() as connection:
            await connection.exec_driver_sql(statement)
            found = await connection.execute(sa.select(tables.table_of(tables.Label).c["key", "value"]))
            return {(key, value) for key, value in found}

    columns = tables.table_of(tables.Resource).columns
    values = {column.name: "0" if column.type.python_type is int else "'x'" for column in columns}
    values["labels"] = """'{"app.kubernetes.io/name": "it''s", "tier": "web"}'"""
    insert = f"INSERT INTO resource ({', '.join(values)}) VALUES ({', '.join(values.values())})"
    both = {("app.kubernetes.io/name", "it's"), ("tier", "web")}
    assert await pairs(insert) == both
    labels = """labels = '{"tier": "db"}'"""
    assert await pairs(f"{insert} ON CONFLICT DO UPDATE SET node = 'y', labels = excluded.labels") == both
    assert await pairs(f"{insert} ON CONFLICT DO UPDATE SET {labels}") == {("tier", "db")}
    assert await pairs(f"UPDATE resource SET {labels}, rev = 2") == {("tier", "db")}
    assert await pairs("DELETE FROM resource") == set()


async def test_database_without_tables_is_refused(tmp_path: Path) -> None:
    async with Database(url_of(tmp_path / "empty.db")) as db:
        with pytest.raises(RevisionError, match="has no tables yet") as refusal:
            await migrate.check_revision(db)
    assert refusal.value.next_step == "run `atlhyper db upgrade`"


async def set_revision(db: Database, revision: str, needs: str) -> None:
    async with db.write() as connection:
        await connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        await connection.exec_driver_sql(f"UPDATE compatibility SET needs = '{needs}'")


async def test_unknown_revision_is_refused_by_name(new_url: Callable[[], str]) -> None:
    """A database that a newer version has changed beyond our use is left alone, by check and by upgrade."""
    url = new_url()
    async with Database(url, limits=PATIENT) as db:
        await set_revision(db, "9999", needs="9000")
        with pytest.raises(RevisionError, match="revision 9999, which this version does not know"):
            await migrate.check_revision(db)
    with pytest.raises(RevisionError, match="9999"):
        await migrate.upgrade(url)


async def test_running_service_ends_when_the_database_has_moved_beyond_it(db: Database) -> None:
    """An upgrade that this version's code cannot bear ends it, instead of letting it write as it used to."""
    probing = asyncio.create_task(DatabaseProbe(db).run())
    await set_revision(db, "9999", needs="9999")
    with pytest.raises(RevisionError, match="revision 9999, which this version cannot use"):
        async with asyncio.timeout(40):
            await probing


async def test_newer_revision_that_older_code_can_use_is_accepted(new_url: Callable[[], str]) -> None:
    """The database says which code it needs at least, and only what is older is refused."""
    url = new_url()
    async with Database(url, limits=PATIENT) as db:
        await set_revision(db, "9999", needs=migrate.head())
        await migrate.check_revision(db)
    assert await migrate.upgrade(url) == ("9999", "9999")


async def test_readers_are_not_kept_waiting_by_a_writer(db: Database) -> None:
    """A read in the middle of a write answers at once, with what was committed before."""
    async with db.write() as writing:
        await writing.exec_driver_sql("INSERT INTO shard VALUES (1, 1, 0)")
        async with asyncio.timeout(20), db.read() as reading:  # it would wait for its writer, and for ever
            count = await reading.exec_driver_sql("SELECT count(*) FROM shard")
            assert count.scalar_one() == 0


async def test_a_read_sees_one_moment(db: Database) -> None:
    """What others commit between two of its statements is not in it."""
    async with db.read() as reading:
        counts = []
        for number in range(2):
            counts.append((await reading.exec_driver_sql("SELECT count(*) FROM shard")).scalar_one())
            async with db.write() as writing:
                await writing.exec_driver_sql(_new_shard(number))
    assert counts == [0, 0]


def _new_shard(number: int) -> str:
    return f"INSERT INTO shard (shard, rev, forgotten) VALUES ({number}, {number}, 0)"
