"""SQLite: one file, one machine, one writer at a time. Readers are never kept waiting."""

import asyncio
import hashlib
import time
from sqlite3 import OperationalError
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA mmap_size = 268435456",
    "PRAGMA journal_size_limit = 67108864",
)

_TIMER = "end_slow"


def prepare(engine: AsyncEngine, begin: str, synchronous: str, busy_timeout: float) -> None:
    """Pragmas for each connection, and transactions that begin when and as we say.

    `busy_timeout`: seconds to wait for another process's write to end.
    `synchronous`: after FULL a commit has reached the disk; after NORMAL it survives a crash of the process,
    but maybe not one of the machine, and the file is sound either way.
    """

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        # The driver's own transactions do not cover DDL and begin as readers.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
        cursor.execute("PRAGMA page_count")
        if cursor.fetchone() == (0,):
            # Before the first table, or never. It writes, so an open transaction would keep us waiting.
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _write_ahead(cursor, busy_timeout)
        for pragma in (*_PRAGMAS, f"PRAGMA synchronous = {synchronous}"):
            cursor.execute(pragma)
        cursor.close()
        connection.create_function("sha256", 1, _sha256, deterministic=True)

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)


def end_slow(engine: AsyncEngine, seconds: float) -> None:
    """Interrupt a statement that takes longer; it raises OperationalError "interrupted"."""

    def stop(connection: sa.Connection) -> None:
        if (timer := connection.info.pop(_TIMER, None)) is not None:
            timer.cancel()

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def begins(connection: sa.Connection, *_: Any) -> None:
        stop(connection)  # of a statement whose reader went away
        driver: Any = connection.connection.driver_connection
        # Not by a progress handler, which would call Python in the middle of each long query.
        interrupt = driver._conn.interrupt  # noqa: SLF001 - its own is the same, but a coroutine
        timer = asyncio.get_running_loop().call_later(seconds, interrupt)
        connection.info[_TIMER] = timer

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def ended(connection: sa.Connection, *_: Any) -> None:
        stop(connection)

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        if context.connection is not None:
            stop(context.connection)


def _sha256(data: bytes) -> bytes:
    """As PostgreSQL has it."""
    return hashlib.sha256(data).digest()


def _write_ahead(cursor: Any, patience: float) -> None:
    """Switch a new file to its write-ahead log. Here SQLite waits for nobody, whatever its time-out."""
    until = time.monotonic() + patience
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            await_only(asyncio.sleep(0.02))
        else:
            return
