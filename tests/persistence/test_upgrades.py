"""Upgrade rules: each migration, from the schema before it and with data in it, on both databases."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from services.persistence.database import migrate
from services.persistence.database.engine import Database
from tests.persistence.conftest import PATIENT, url_of

REVISIONS = [step.revision for step in ScriptDirectory.from_config(migrate.config()).walk_revisions()][::-1]
STEPS = list(itertools.pairwise(REVISIONS))

Schema = dict[str, dict[str, dict[str, Any]]]
"""The columns of each table by name, as `Inspector.get_columns` describes them."""
Content = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return url_of(tmp_path / "new" / "atlhyper.db")
    make: Callable[..., str] = request.getfixturevalue("new_postgres_url")
    return make(migrated=False)


@pytest.fixture
def connect(empty_url: str) -> Callable[..., Any]:
    """`await connect(f)`: what `f` returns, called with a connection of its own, in a transaction."""

    async def run(work: Callable[[sa.Connection], Any]) -> Any:
        async with Database(empty_url, limits=PATIENT) as db, db.write() as connection:
            return await connection.run_sync(work)

    return run


def schema(connection: sa.Connection) -> Schema:
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names()) - {"alembic_version"}
    return {name: {item["name"]: dict(item) for item in inspector.get_columns(name)} for name in tables}


def breaks(before: Schema, after: Schema) -> list[str]:
    """What code that was written for the one cannot do with the other."""
    found = []
    for table, columns in before.items():
        new = after.get(table, {})
        found += [f"{table}.{name} is gone" for name in columns.keys() - new.keys()]
        for name, column in new.items():
            demanded = not column["nullable"] and column["default"] is None
            if name not in columns and demanded:
                found.append(f"{table}.{name} is demanded")
            elif name in columns and demanded and columns[name]["nullable"]:
                found.append(f"{table}.{name} is no longer optional")
            elif name in columns and type(column["type"]) is not type(columns[name]["type"]):
                found.append(f"{table}.{name} has another type")
    return found


def tables_of(connection: sa.Connection) -> dict[str, sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return {name: table for name, table in metadata.tables.items() if name != "alembic_version"}


def fill(connection: sa.Connection) -> None:
    """Three rows in each table, whatever its columns are."""
    for name, table in tables_of(connection).items():
        if name != "compatibility":
            rows = [{column.name: value(column, number) for column in table.columns} for number in range(3)]
            connection.execute(table.insert(), rows)


def value(column: sa.Column[Any], number: int) -> Any:
    if column.name == "target_kind":
        return "kubernetes"
    if column.name in ("target_id", "cluster_id"):
        return f"c{number}"
    match column.type:
        case sa.Boolean():
            return bool(number % 2)
        case sa.Integer():
            return number + 2**40 * isinstance(column.type, sa.BigInteger)
        case sa.Float():
            return number / 2
        case sa.DateTime():
            zone = UTC if column.type.timezone else None
            return datetime(2026, 11, 1, 0, 0, number, tzinfo=zone)
        case sa.LargeBinary():
            return b'{"\xc3\xa4":%d}' % number
        case sa.JSON():
            return {"app": f"ä-{number}"}
    return f"{column.name}-ä-{number}"


def content(connection: sa.Connection) -> Content:
    return {
        name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
        for name, table in tables_of(connection).items()
        if name != "compatibility"
    }


@pytest.mark.parametrize(("before", "after"), STEPS)
async def test_a_migration_keeps_the_data_and_says_what_it_breaks(
    empty_url: str, connect: Callable[..., Any], before: str, after: str
) -> None:
    """What older code cannot bear raises `needs`: it is refused, instead of failing somewhere."""
    await migrate.upgrade(empty_url, before)
    await connect(fill)
    old_schema, old_content = await connect(schema), await connect(content)
    assert await migrate.upgrade(empty_url, after) == (before, after)
    new_schema, new_content = await connect(schema), await connect(content)
    for table, rows in old_content.items():
        names = old_schema[table].keys() & new_schema.get(table, {}).keys()
        kept = [{name: row[name] for name in names} for row in new_content.get(table, [])]
        assert sorted(kept, key=repr) == sorted(
            [{name: row[name] for name in names} for row in rows], key=repr
        )
    needs = await connect(lambda connection: connection.scalar(sa.text("SELECT needs FROM compatibility")))
    if broken := breaks(old_schema, new_schema):
        assert needs == after, f"{after} has to raise `needs`: {broken}"


async def test_all_migrations_give_the_declared_tables(empty_url: str, connect: Callable[..., Any]) -> None:
    """From empty, and with data in the first schema; a second upgrade does nothing."""
    assert await migrate.upgrade(empty_url, REVISIONS[0]) == ("", REVISIONS[0])
    await connect(fill)
    assert await migrate.upgrade(empty_url) == (REVISIONS[0], migrate.head())
    assert await connect(migrate.differences) == []
    assert await migrate.upgrade(empty_url) == (migrate.head(), migrate.head())
    async with Database(empty_url, limits=PATIENT) as db:
        await migrate.check_revision(db)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("ALTER TABLE shard DROP COLUMN rev", "shard.rev is gone"),
        ("ALTER TABLE shard RENAME COLUMN rev TO number", "shard.rev is gone"),
        ("DROP TABLE shard", "shard.rev is gone"),
        ("ALTER TABLE cursor ADD COLUMN x INTEGER NOT NULL", "cursor.x is demanded"),
        ("ALTER TABLE cursor ADD COLUMN x INTEGER", ""),
        ("ALTER TABLE cursor ADD COLUMN x INTEGER NOT NULL DEFAULT 1", ""),
    ],
)
async def test_what_breaks_older_code_is_seen(
    empty_url: str, connect: Callable[..., Any], statement: str, what: str
) -> None:
    """The rule of the test above knows these changes from those that only add."""
    await migrate.upgrade(empty_url)
    before = await connect(schema)
    if "NOT NULL" in statement and "DEFAULT" not in statement and empty_url.startswith("sqlite"):
        pytest.skip("SQLite refuses it")
    await connect(lambda connection: connection.execute(sa.text(statement)))
    found = breaks(before, await connect(schema))
    assert (what in found) if what else found == []


async def test_two_upgrades_at_a_time_wait_for_each_other(empty_url: str) -> None:
    """Several replicas may each begin with it: one makes the tables, the others find them made."""
    done = await asyncio.gather(*(migrate.upgrade(empty_url) for _ in range(3)))
    assert sorted(done) == [("", migrate.head()), *[(migrate.head(), migrate.head())] * 2]


async def test_a_long_upgrade_says_that_it_is_at_work(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrate, "_STILL_AT_IT", 0.005)
    await migrate.upgrade(empty_url)
    logged = capsys.readouterr().err
    assert "still upgrading the tables" in logged
    assert logged.count("tables upgraded") == len(REVISIONS)
