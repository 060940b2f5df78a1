"""SQLite's driver with one visit to a connection's thread for most statements, where aiosqlite has four.

A visit costs more than most of our statements do: two threads wake each other, and the event loop goes round.
So a cursor is made without one, the first rows are fetched along with its statement, and where these are all,
nothing of it is open that would have to be closed.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any

import aiosqlite
from aiosqlite.context import contextmanager

_AHEAD = 64
"""Rows that are fetched at a time."""


class _Cursor(aiosqlite.Cursor):
    def __init__(self, connection: "Connection", cursor: sqlite3.Cursor) -> None:
        super().__init__(connection, cursor)
        self._rows: list[Any] = []
        self._more = False

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "_Cursor":
        self._rows = await self._visit(self._run, sql, parameters or ())
        return self

    async def fetchone(self) -> Any:
        return next(iter(await self.fetchmany(1)), None)

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        size = self.arraysize if size is None else size
        while self._more and len(self._rows) < size:
            self._rows += await self._visit(self._fetch)
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        if self._more:
            rows += await self._visit(self._cursor.fetchall)
            self._more = False
        return rows

    async def close(self) -> None:
        if self._more:  # else SQLite has ended the statement
            await self._visit(self._cursor.close)

    async def _visit(self, step: Any, *arguments: Any) -> Any:
        return await self._execute(step, *arguments)  # type: ignore[no-untyped-call]

    def _run(self, sql: str, parameters: Any) -> list[Any]:
        self._cursor.execute(sql, parameters)
        return self._fetch()

    def _fetch(self) -> list[Any]:
        rows = self._cursor.fetchmany(_AHEAD)
        self._more = len(rows) == _AHEAD
        return rows


class Connection(aiosqlite.Connection):
    """A connection as `aiosqlite.connect` makes it, with these cursors."""

    @contextmanager
    async def cursor(self) -> aiosqlite.Cursor:
        """From any thread, as the connection allows it (`check_same_thread`, which SQLAlchemy sets)."""
        return _Cursor(self, self._conn.cursor())


def connect(database: str, **options: Any) -> Connection:
    """A connection to await, as `aiosqlite.connect` gives one; `options` are those of `sqlite3.connect`."""
    connection = Connection(lambda: sqlite3.connect(database, **options), _AHEAD)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does with aiosqlite's own
    return connection
