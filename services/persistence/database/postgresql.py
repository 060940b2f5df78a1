"""PostgreSQL: time limits on both sides, so that nobody hangs and nobody's lock outlives him.

The limits are settings of each connection, given when it is made: a pooler between us and the server has to
keep connections apart (PgBouncer: `pool_mode = session`).
"""

import inspect
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime.errors import UserError

CONNECTIONS = 8
"""That a process has at most for writing, one of them for what is urgent, and as many for reading."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds; 0 means without end."""

    connect: float = 5.0
    """Until a new connection is there."""
    statement: float = 7.0
    """Of one statement, by the server's clock."""
    answer: float = 7.5
    """Until the server has answered one statement: one that hangs or is cut off does not say so."""
    lock: float = 5.0
    """That a statement waits for a row that somebody else has."""
    idle: float = 2.0
    """Between two statements of a transaction: the server ends that of a client that is paused or gone. One
    that waited for its row meanwhile begins to stand still then; both have ended before a lease of 6 s does.
    """

    sort: int = 0
    """Megabytes that one step of a statement may sort in memory (`work_mem`); 0: what the server says."""

    def for_queries(self, seconds: float) -> "Limits":
        """For readers, whose statements may take so long. Pages of 10,000 rows are sorted in memory."""
        return replace(self, statement=seconds, answer=seconds + 0.5, sort=32)

    def of_server(self) -> dict[str, str]:
        """Those that the server keeps."""
        return {
            "statement_timeout": _milliseconds(self.statement),
            "lock_timeout": _milliseconds(self.lock),
            "idle_in_transaction_session_timeout": _milliseconds(self.idle),
            **({"work_mem": f"{self.sort}MB"} if self.sort else {}),
        }


MIGRATION = Limits(statement=0, answer=0, lock=60, idle=0)
"""Of an upgrade: a big table takes its time."""


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def connect_arguments(url: URL, application: str, limits: Limits) -> dict[str, Any]:
    """What asyncpg's `connect` is given beside the address. Raises UserError for a parameter it lacks."""
    known = set(inspect.signature(asyncpg.connect).parameters) | {"prepared_statement_cache_size"}
    for name in url.query:
        if name not in known:
            meant = "ssl" if name == "sslmode" else "one of asyncpg's `connect`"
            raise UserError(f"DATABASE_URL: asyncpg has no parameter {name}", f"use {meant}, or leave it out")
    return {
        "timeout": limits.connect,
        "command_timeout": limits.answer or None,
        "server_settings": {
            "application_name": application,
            # Where a client's host is gone, the server notices, and lets go of its locks.
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "10000",
            # Compiling a statement takes longer than any of ours runs.
            "jit": "off",
            **limits.of_server(),
        },
    }


def prepare(engine: AsyncEngine) -> None:
    """A connection whose statement got no answer in time is not used again."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, TimeoutError | OSError):
            context.is_disconnect = True
