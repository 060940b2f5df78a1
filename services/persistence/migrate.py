"""The schema: making it, moving it forward, and refusing one that this version cannot use."""

from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import col

from services.persistence.engine import Database
from services.persistence.errors import RevisionError
from services.persistence.tables import Compatibility, Table
from services.runtime import logs

_log = logs.get_logger(__name__)

UPGRADE = "run `atlhyper db upgrade`"


def config(connection: sa.Connection | None = None) -> Config:
    """Alembic's configuration: the migrations inside this package, on an open connection."""
    made = Config()
    made.set_main_option("script_location", str(files("services.persistence") / "migrations"))
    made.set_main_option("path_separator", "os")
    if connection is not None:
        made.attributes["connection"] = connection
    return made


def head() -> str:
    """The newest revision this version knows."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


async def upgrade(url: str) -> tuple[str, str]:
    """Make or upgrade the tables; the revision before (empty for a new database) and after.

    All steps are one transaction: a step that fails leaves the database as it was.
    Raises RevisionError when a newer version has been here, DatabaseUnavailable.
    """
    async with Database(url) as db:
        db.require_file()
        async with db.write() as session:
            connection = await session.connection()
            before = await connection.run_sync(current)
            if before and not await connection.run_sync(knows):
                raise _too_new(db, before)
            if before not in _known():
                return before, before
            await connection.run_sync(lambda sync: command.upgrade(config(sync), "head"))
            return before, await connection.run_sync(current)


async def check_revision(db: Database) -> None:
    """Raises RevisionError unless this version can use the database as it is."""
    db.require_file()
    async with db.read() as session:
        connection = await session.connection()
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


def differences(connection: sa.Connection) -> list[Any]:
    """What the database lacks of the tables as declared, or has beyond them; empty when they agree."""
    found: list[Any] = compare_metadata(MigrationContext.configure(connection), Table.metadata)
    return found


def _known() -> set[str]:
    """The revisions of this version; the empty one is an empty database."""
    return {"", *(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())}


def _too_new(db: Database, revision: str) -> RevisionError:
    return RevisionError(
        f"database {db.name} is at revision {revision}, which this version does not know",
        "use the version of AtlHyper that made it, or a newer one",
    )
