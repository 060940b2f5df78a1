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
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.persistence.database import driver, postgresql, sqlite
from services.persistence.database.errors import DatabaseUnavailable, explained
from services.persistence.database.postgresql import Limits
from services.persistence.database.types import encode_json

Connection = AsyncConnection
"""The type of what `Database.read()` and `write()` give, for those who may not import SQLAlchemy."""
__all__ = ["Connection", "Database"]

_READERS = 8
_POOL_TIMEOUT = 9.0
"""Seconds until a connection is free; all have a limit, so it takes a crowd to wait as long."""


class Database:
    """A database: `async with Database(url) as db`, then `db.write()` and `db.read()`.

    Opening it touches nothing; `services.persistence.database.migrate` makes its tables and checks them.
    """

    def __init__(
        self, url: str, application: str = "", limits: Limits | None = None, query_timeout: float = 0
    ) -> None:
        """`application` is shown in PostgreSQL's list of connections. SQLite has only the limit `lock`.

        `query_timeout`: seconds that one statement of a reader may take, on every database; 0: what `limits`
        say.
        """
        self._url = make_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._limits = limits or Limits()
        self._query_timeout = query_timeout
        self.trouble = ""
        """Why the last transaction that was to write could not, for those who still wait for theirs."""
        self._write_lock = asyncio.Lock() if self.is_sqlite else nullcontext()
        if self.is_sqlite:
            self._writer = self._sqlite("BEGIN IMMEDIATE", "NORMAL", connections=1)
            self._durable_writer = self._sqlite("BEGIN IMMEDIATE", "FULL", connections=1)
            self._urgent_writer = self._writer
            self._reader = self._sqlite("BEGIN", "NORMAL", connections=_READERS)
            if query_timeout:
                sqlite.end_slow(self._reader, query_timeout)
        else:
            application = f"atlhyper {application}".rstrip()
            self._urgent_writer = self._postgresql(application, connections=1)
            self._writer = self._postgresql(application, postgresql.CONNECTIONS - 1)
            self._durable_writer = self._writer
            limits = self._limits.for_queries(query_timeout) if query_timeout else self._limits
            self._reader = self._postgresql(application, postgresql.CONNECTIONS, limits).execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @property
    def name(self) -> str:
        """The database for messages: a path, or a URL without its password."""
        return self._url.database or "" if self.is_sqlite else self._url.render_as_string(hide_password=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for engine in (self._reader, self._writer, self._durable_writer, self._urgent_writer):
            await engine.dispose()

    @asynccontextmanager
    async def write(self, *, durable: bool = False, urgent: bool = False) -> AsyncIterator[Connection]:
        """A transaction that writes: committed at the end, rolled back when the block raises.

        `durable`: once committed it outlives a power cut, whoever was told of it meanwhile. PostgreSQL's are
        always so; on SQLite others may be undone by one, to the state after an earlier transaction.
        `urgent`: on PostgreSQL by a connection that the others do not use, however many they are.
        Raises DatabaseUnavailable when the database is locked, full, unwritable or away.
        """
        engine = self._urgent_writer if urgent else self._durable_writer if durable else self._writer
        try:
            with explained(self.name):
                async with self._write_lock, engine.begin() as connection:
                    self.trouble = ""
                    yield connection
        except DatabaseUnavailable as error:
            self.trouble = str(error)
            raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A transaction that only reads: all its statements see one moment.

        Raises DatabaseUnavailable when the database cannot be read, QueryTimeout for a slow statement.
        """
        with explained(self.name, self._query_timeout):
            async with self._reader.begin() as connection:
                yield connection

    async def give_back(self) -> None:
        """Return the space of removed rows to the file system; PostgreSQL does so by itself."""
        if self.is_sqlite:
            async with self.write() as connection:
                await connection.exec_driver_sql("PRAGMA incremental_vacuum(2000)")

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

    def _sqlite(self, begin: str, synchronous: str, connections: int) -> AsyncEngine:
        arguments = {"async_creator_fn": driver.connect}
        engine = self._engine(pool_size=connections, connect_args=arguments)
        sqlite.prepare(engine, begin, synchronous, busy_timeout=self._limits.lock)
        return engine

    def _postgresql(self, application: str, connections: int, limits: Limits | None = None) -> AsyncEngine:
        arguments = postgresql.connect_arguments(self._url, application, limits or self._limits)
        engine = self._engine(pool_size=connections, pool_pre_ping=True, connect_args=arguments)
        postgresql.prepare(engine)
        return engine

    def _engine(self, **options: Any) -> AsyncEngine:
        return create_async_engine(
            self._url,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT,
            json_serializer=encode_json,
            json_deserializer=msgspec.json.decode,
            **options,
        )
