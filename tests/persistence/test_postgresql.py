"""What is PostgreSQL's own: its order of texts, its limits in time, what it refuses, and being away."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from services.persistence import tables
from services.persistence.database.dialects import delete, insert_new, upsert
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.database.postgresql import Limits
from services.persistence.database.probe import DatabaseProbe
from services.runtime.errors import UserError
from tests.persistence.conftest import PATIENT, only_on
from tests.postgres.server import Postgres
from tests.waiting import Stopwatch, until

START = datetime(2026, 11, 1, tzinfo=UTC)


async def add_shards(db: Database, *numbers: int) -> None:
    rows = [{"shard": number, "rev": 0, "forgotten": 0} for number in numbers]
    async with db.write() as connection:
        await insert_new(connection, tables.Shard, rows)


@only_on("postgresql")
async def test_texts_are_in_the_order_of_their_code_points(db: Database) -> None:
    """As in SQLite and in Python, whatever the server's language: pages go on where the last ended."""
    names = ["B", "a", "b", "Ä", "ä", "-x", "a-b", "ab", "Z"]
    rows = [{"name": name, "stream": "s", "created": START, "sequence": 1} for name in names]
    async with db.write() as connection:
        await upsert(connection, tables.Cursor, rows)
        found = await connection.scalars(sa.text("SELECT name FROM cursor ORDER BY name"))
        assert found.all() == sorted(names)
        columns = await connection.execute(
            sa.text("SELECT table_name, column_name, collation_name FROM information_schema.columns"
                    " WHERE table_schema = 'public' AND data_type = 'character varying'")
        )  # fmt: skip
        others = [row for row in columns if row[2] != "C" and row[0] != "alembic_version"]
        assert others == []


@only_on("postgresql")
@pytest.mark.parametrize("statement", ["UPDATE resource SET epoch = 'e'", "DELETE FROM resource"])
async def test_rows_are_found_by_their_key_before_there_are_statistics(db: Database, statement: str) -> None:
    """A new database has none, and must not look through all rows of a cluster for each."""
    key = "resource = 'pods' AND target_kind = 'k' AND target_id = 'i' AND namespace = 'n' AND name = 'x'"
    async with db.write() as connection:
        plan = await connection.scalars(sa.text(f"EXPLAIN {statement} WHERE {key}"))
        assert "pk_resource" in "\n".join(plan)


@only_on("postgresql")
async def test_transactions_in_any_order_do_not_wait_in_a_circle(db: Database) -> None:
    """Two that write and delete the same rows, each in its own order."""
    await add_shards(db, *range(200))

    async def write(numbers: list[int]) -> None:
        rows = [{"shard": number, "rev": 1, "forgotten": 0} for number in numbers]
        for _ in range(5):
            async with db.write() as connection:
                await upsert(connection, tables.Shard, rows)
            async with db.write() as connection:
                await delete(connection, tables.Shard, [{"shard": row["shard"]} for row in rows])

    await asyncio.gather(*(write(list(range(200))[:: 1 - 2 * (number % 2)]) for number in range(4)))


@only_on("postgresql")
async def test_deleted_rows_are_counted(db: Database) -> None:
    await add_shards(db, 1, 2, 3)
    async with db.write() as connection:
        keys = [{"shard": number} for number in (2, 3, 4)]
        assert await delete(connection, tables.Shard, keys) == 2


async def stand_still(db: Database) -> None:
    async with db.write() as connection:
        await connection.execute(sa.text("INSERT INTO shard (shard, rev, forgotten) VALUES (1, 1, 0)"))
        await asyncio.sleep(1)
        await connection.execute(sa.text("SELECT 1"))


@only_on("postgresql")
async def test_a_transaction_that_stands_still_is_ended_by_the_server(new_url: Callable[[], str]) -> None:
    """A client that is paused or gone holds no lock for long; what it wrote is undone."""
    url = new_url()
    async with Database(url, limits=Limits(idle=0.3)) as db:
        with pytest.raises(DatabaseUnavailable):
            await stand_still(db)
    async with Database(url, limits=PATIENT) as db:
        await add_shards(db, 1)


@only_on("postgresql")
async def test_a_statement_that_waits_or_lasts_too_long_is_ended(new_url: Callable[[], str]) -> None:
    """And the error says which of the two."""
    limits = Limits(statement=3.0, answer=30.0, lock=1.0, idle=30.0)
    async with Database(new_url(), limits=limits) as db:
        await add_shards(db, 1)
        async with db.write() as connection:
            await connection.execute(sa.text("UPDATE shard SET rev = 5"))
            with pytest.raises(DatabaseUnavailable, match="another transaction holds its rows"):
                async with db.write() as other:
                    await other.execute(sa.text("UPDATE shard SET rev = 6"))
        with pytest.raises(DatabaseUnavailable, match="a statement took too long"):
            async with db.write() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(30)"))
        await add_shards(db, 2)


@pytest.mark.parametrize(
    ("change", "said", "advice"),
    [
        (lambda url: url + "x", "no database of that name", "createdb"),
        (lambda url: url.replace("postgres:", "somebody:"), "refuses the password", "DATABASE_URL"),
        (lambda url: url.replace("127.0.0.1", "host.invalid"), "no address", "correct the host"),
        (lambda url: url + "?ssl=require", "speaks no TLS", "leave ssl out"),
    ],
    ids=["database", "user", "host", "tls"],
)
async def test_what_is_wrong_with_an_address_is_named(
    new_postgres_url: Callable[[], str], change: Callable[[str], str], said: str, advice: str
) -> None:
    """Each with its next step, and never with the password."""
    # Some machines' resolvers take their time to say that they do not know a name.
    async with Database(change(new_postgres_url()), limits=Limits(connect=60.0)) as db:
        with pytest.raises(DatabaseUnavailable, match=said) as refusal:
            await add_shards(db, 1)
    assert advice in refusal.value.next_step
    assert db._url.password not in refusal.value.render()


async def test_a_parameter_of_another_driver_is_named(new_postgres_url: Callable[[], str]) -> None:
    with pytest.raises(UserError, match="no parameter sslmode") as refusal:
        Database(new_postgres_url() + "?sslmode=require")
    assert "use ssl" in refusal.value.next_step


async def test_a_standby_and_a_crowd_are_named(
    postgres: Postgres, new_postgres_url: Callable[[], str]
) -> None:
    """A server that may only be read, and one that has no connection left."""
    url = new_postgres_url()
    name = url.rpartition("/")[2]
    async with Database(url, limits=PATIENT) as db:
        postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with pytest.raises(DatabaseUnavailable, match="standby that may only be read"):
            await add_shards(db, 1)
    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    postgres.execute("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 0")
    async with Database(postgres.url(name, user="few", password="few"), limits=PATIENT) as db:
        with pytest.raises(DatabaseUnavailable, match="no connection left for us"):
            await add_shards(db, 1)
    postgres.execute("DROP ROLE few")


async def test_a_server_that_is_away_is_told_and_found_again(own_postgres: Postgres) -> None:
    """Killed, starting up, back: readiness says so each time, and no call hangs; nothing has to be done."""
    async with Database(own_postgres.new_database(), limits=Limits(idle=30.0)) as db:
        probe = DatabaseProbe(db)
        probing = asyncio.create_task(probe.run())
        await add_shards(db, 1)
        own_postgres.kill()
        with pytest.raises(DatabaseUnavailable, match=r"nobody answers there|has closed the connection"):
            await add_shards(db, 2)
        await until(probe.health)
        own_postgres.start()
        await add_shards(db, 3)
        await until(lambda: probe.health() is None)
        async with db.read() as connection:
            found = await connection.scalars(sa.text("SELECT shard FROM shard ORDER BY 1"))
            assert found.all() == [1, 3]
        probing.cancel()


async def test_a_server_that_hangs_is_told_within_ten_seconds(own_postgres: Postgres) -> None:
    """It takes connections and never answers: readiness and each call say so, and go on when it does."""
    async with Database(own_postgres.new_database(), limits=Limits(idle=30.0)) as db:
        probe = DatabaseProbe(db)
        probing = asyncio.create_task(probe.run())
        await add_shards(db, 1)
        own_postgres.pause()
        async with Stopwatch() as watch:
            with pytest.raises(DatabaseUnavailable, match="no answer in time"):
                await add_shards(db, 2)
            await until(probe.health)
        assert watch.seconds < 10
        own_postgres.resume()
        await add_shards(db, 3)
        await until(lambda: probe.health() is None)
        probing.cancel()
