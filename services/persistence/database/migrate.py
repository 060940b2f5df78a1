"""The schema: making it, moving it forward, and refusing one that this version cannot use.

A migration only adds, as far as the code before it can tell, so that services of both versions run while one
replaces the other: first the database, then they. One that drops, renames or demands what older code does not
give raises `Compatibility.needs` to itself: older code is refused from then on, running code ends.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from services.persistence.database.engine import Database
from services.persistence.database.errors import RevisionError
from services.persistence.database.postgresql import MIGRATION
from services.persistence.tables import Compatibility, Table
from services.runtime import logs

_log = logs.get_logger(__name__)

UPGRADE = "run `atlhyper db upgrade`"
_LOCK = 0x41746C48  # "AtlH": of PostgreSQL's advisory locks the one that upgrades take
_STILL_AT_IT = 5.0
"""Seconds after which, and then again and again, a long upgrade says that it is at work."""


def config(connection: sa.Connection | None = None) -> Config:
    """Alembic's configuration: the migrations inside this package, on an open connection."""
    made = Config()
    made.set_main_option("script_location", str(files("services.persistence.database") / "migrations"))
    made.set_main_option("path_separator", "os")
    if connection is not None:
        made.attributes["connection"] = connection
    return made


def head() -> str:
    """The newest revision this version knows."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


async def upgrade(url: str, to: str = "head") -> tuple[str, str]:
    """Make or upgrade the tables; the revision before (empty for a new database) and after.

    All steps are one transaction: a step that fails leaves the database as it was. Of several upgrades at a
    time each waits for the one before it. Raises RevisionError when a newer version has been here,
    DatabaseUnavailable.
    """
    async with Database(url, "db upgrade", MIGRATION) as db:
        db.require_file()
        async with _saying_so(), db.write(durable=True) as connection:
            await _one_at_a_time(connection)
            before = await connection.run_sync(current)
            if before and not await connection.run_sync(knows):
                raise _too_new(db, before)
            if before not in _known():
                return before, before
            await connection.run_sync(lambda sync: command.upgrade(config(sync), to))
            return before, await connection.run_sync(current)


async def _one_at_a_time(connection: AsyncConnection) -> None:
    """Wait for other upgrades, until the end of the transaction. SQLite has one writer anyway."""
    if connection.dialect.name != "postgresql":
        return
    if not await connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))):
        _log.info("another upgrade is at work, waiting for its end")
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


@asynccontextmanager
async def _saying_so() -> AsyncIterator[None]:
    """Log now and then that the block is still at work."""
    started = time.monotonic()

    async def say() -> None:
        while True:
            await asyncio.sleep(_STILL_AT_IT)
            seconds = round(time.monotonic() - started)
            _log.info("still upgrading the tables; large ones take minutes", seconds=seconds)

    saying = asyncio.create_task(say())
    try:
        yield
    finally:
        saying.cancel()


async def check_revision(db: Database) -> None:
    """Raises RevisionError unless this version can use the database as it is."""
    db.require_file()
    async with db.read() as connection:
        revision = await connection.run_sync(current)
        if not revision:
            raise RevisionError(f"database {db.name} has no tables yet", UPGRADE)
        usable = await connection.run_sync(knows)
    if revision == head():
        return
    if revision in _known():
        raise RevisionError(
            f"database {db.name} is at revision {revision}, this version needs {head()}", UPGRADE
        )
    if not usable:
        raise _too_new(db, revision)
    _log.warning("a newer version has upgraded the database; this one can still use it", revision=revision)


def current(connection: sa.Connection) -> str:
    """The revision of the database; empty when it has none."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def knows(connection: sa.Connection) -> bool:
    """Whether this version's code is new enough for the database (`Compatibility`)."""
    if current(connection) in _known():
        return True
    if not sa.inspect(connection).has_table(str(Compatibility.__tablename__)):
        return False
    return connection.scalar(sa.select(col(Compatibility.needs))) in _known()


async def check_usable(connection: AsyncConnection) -> None:
    """Raises RevisionError once a newer version has changed the database beyond what this one can use."""
    if not await connection.run_sync(knows):
        revision = await connection.run_sync(current)
        raise RevisionError(
            f"the database is at revision {revision}, which this version cannot use",
            "start a newer version of AtlHyper",
        )


def differences(connection: sa.Connection) -> list[Any]:
    """What the database lacks of the tables as declared, or has beyond them; empty when they agree."""

    def is_here(item: Any, *_: object) -> bool:
        return bool(item.info.get("only_on", connection.dialect.name) == connection.dialect.name)

    context = MigrationContext.configure(connection, opts={"include_object": is_here})
    found: list[Any] = compare_metadata(context, Table.metadata)
    return found


@cache
def _known() -> frozenset[str]:
    """The revisions of this version; the empty one is an empty database."""
    scripts = ScriptDirectory.from_config(config())
    return frozenset({"", *(script.revision for script in scripts.walk_revisions())})


def _too_new(db: Database, revision: str) -> RevisionError:
    return RevisionError(
        f"database {db.name} is at revision {revision}, which this version does not know",
        "use the version of AtlHyper that made it, or a newer one",
    )
