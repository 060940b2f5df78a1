"""The connection to the database: SQLite on one machine, PostgreSQL beyond.

SQLite has one writer at a time. Ours wait for each other in this process, in order of arrival, instead of
in SQLite, where the one that waits longest may well be the one that times out. Each write begins with
BEGIN IMMEDIATE: a transaction that starts as a reader and then writes fails when another wrote meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from services.persistence.errors import DatabaseUnavailable, explained
from services.runtime.errors import UserError

Session = AsyncSession
"""The type of what `Database.read()` and `write()` give, for those who may not import SQLModel."""
__all__ = ["Database", "Session"]

BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for another process's write to end."""
_READERS = 8

_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA mmap_size = 268435456",
    "PRAGMA journal_size_limit = 67108864",
)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Database:
    """A database: `async with Database(url) as db`, then `db.write()` and `db.read()`.

    Opening it touches nothing; `services.persistence.migrate` makes its tables and checks them.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._write_lock = asyncio.Lock() if self.is_sqlite else nullcontext()
        self._writer = self._engine("BEGIN IMMEDIATE", connections=1 if self.is_sqlite else _READERS)
        self._reader = self._engine("BEGIN", connections=_READERS) if self.is_sqlite else self._writer

    @property
    def name(self) -> str:
        """The database for messages: a path, or a URL without its password."""
        return self._url.database or "" if self.is_sqlite else self._url.render_as_string(hide_password=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._reader.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Session]:
        """A transaction that writes: committed at the end, rolled back when the block raises.

        Raises DatabaseUnavailable when the database is locked, full, unwritable or away.
        """
        with explained(self.name):
            async with self._write_lock, _session(self._writer) as session, session.begin():
                await session.connection()  # begins now: what follows may rest on what it reads
                yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        """A transaction that only reads: all its statements see one moment.

        Raises DatabaseUnavailable when the database cannot be read.
        """
        with explained(self.name):
            async with _session(self._reader) as session, session.begin():
                yield session

    async def give_back(self) -> None:
        """Return the space of removed rows to the file system; PostgreSQL does so by itself."""
        if self.is_sqlite:
            async with self.write() as session:
                await (await session.connection()).exec_driver_sql("PRAGMA incremental_vacuum(2000)")

    def require_file(self) -> None:
        """Make the file of SQLite and its folder, for their owner only, where there is none.

        SQLite would make it readable for others; its -wal and -shm get the mode of the file. Raises
        DatabaseUnavailable when it cannot be made.
        """
        if not self.is_sqlite or self._url.database in (None, "", ":memory:"):
            return
        file = Path(str(self._url.database))
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not file.exists():
                file.touch(mode=0o600)
        except OSError as error:
            raise DatabaseUnavailable(
                f"database {self.name}: cannot make its folder or file: {error.strerror}",
                "give this user write permission there or set DATABASE_URL",
            ) from error

    def _engine(self, begin: str, connections: int) -> AsyncEngine:
        try:
            engine = create_async_engine(
                self._url,
                pool_size=connections,
                max_overflow=0,
                pool_timeout=30.0,
                pool_pre_ping=not self.is_sqlite,
                json_serializer=_json,
                json_deserializer=msgspec.json.decode,
            )
        except ModuleNotFoundError as error:
            raise UserError(
                f"database {self.name}: its driver {error.name} is not installed",
                f"install {error.name} beside AtlHyper",
            ) from error
        if self.is_sqlite:
            _use_sqlite(engine, begin)
        return engine


def _session(engine: AsyncEngine) -> Session:
    return Session(engine, expire_on_commit=False, autoflush=False)


def _use_sqlite(engine: AsyncEngine, begin: str) -> None:
    """Pragmas for each connection, and transactions that begin when and as we say."""

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # The driver's own transactions do not cover DDL and begin as readers.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA page_count")
        if cursor.fetchone() == (0,):
            # Before the first table, or never. It writes, so an open transaction would keep us waiting.
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)
