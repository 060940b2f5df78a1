"""What can be wrong with the database, in words for the person who runs it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.runtime.errors import EXIT_TEMPORARY, UserError


class DatabaseUnavailable(UserError):
    """The database cannot be used at the moment; the same call may succeed later."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step, EXIT_TEMPORARY)


class QueryTimeout(DatabaseUnavailable):
    """A query took longer than its reader may; the same one will again, one for less may not."""


class RevisionError(UserError):
    """The database has a schema that this version cannot use."""


_ROOM = "free some space; it goes on by itself"
_AGAIN = "it is tried again by itself"
_RUNS = "check the address and that the database runs; it goes on by itself"

_BY_TEXT = (
    ("database is locked", "another process holds it", "find the process that has the file open (`lsof`)"),
    ("database or disk is full", "the disk is full", _ROOM),
    (
        "readonly database",
        "it may only be read",
        "give this user write permission on the file and its folder",
    ),
    (
        "unable to open",
        "it cannot be opened",
        "check that the folder exists and that this user may write there",
    ),
    ("disk i/o error", "the disk reports an error", "check the disk, then restore the file from a backup"),
    ("not a database", "the file is not a database", "restore it from a backup or name another file"),
    ("malformed", "the file is damaged", "restore it from a backup"),
    ("connection refused", "nobody answers there", _RUNS),
    ("connect call failed", "nobody answers there", _RUNS),
    ("connection was closed", "the server has closed the connection", _RUNS),
    ("connection is closed", "the server has closed the connection", _RUNS),
    ("cached statement plan", "its tables have just changed", _AGAIN),
    ("rejected ssl", "the server speaks no TLS", "leave ssl out of DATABASE_URL, or set it up there"),
    ("queuepool limit", "all its connections are in use", "look for statements that take long; " + _AGAIN),
)
"""What the drivers say (in lower case), what it means, what to do."""

_BY_STATE = {
    "28P01": ("it refuses the password", "correct user and password in DATABASE_URL"),
    "28000": ("it refuses this user", "correct the user in DATABASE_URL, or the server's pg_hba.conf"),
    "3D000": ("the server has no database of that name", "make it with `createdb`, or correct DATABASE_URL"),
    "42501": ("this user may not do that", "let the user own the database's tables"),
    "42P01": ("a table is missing", "run `atlhyper db upgrade`"),
    "53300": (
        "it has no connection left for us",
        "raise its max_connections (each process of ours takes up to 16), or end other clients",
    ),
    "53100": ("its disk is full", _ROOM),
    "53200": ("it is out of memory", "give its host more; " + _AGAIN),
    "57P03": ("it is starting up or shutting down", "wait for it; it goes on by itself"),
    "57P01": ("it is shutting down", _RUNS),
    "57P02": ("it has crashed", "look into its log; it goes on by itself when it is back"),
    "57014": ("a statement took too long", "look for what keeps it busy (pg_stat_activity); " + _AGAIN),
    "25006": ("it is a standby that may only be read", "name the primary server in DATABASE_URL"),
    "25P03": ("a transaction of ours was idle for too long", _AGAIN),
    "40001": ("another transaction changed the same rows", _AGAIN),
    "40P01": ("two transactions waited for each other", _AGAIN),
    "55P03": ("another transaction holds its rows", "look who (pg_stat_activity); " + _AGAIN),
    "58030": ("its disk reports an error", "check the disk of its host"),
    "XX001": ("its data is damaged", "restore it from a backup"),
}
"""PostgreSQL's error codes (appendix A of its manual), what they mean, what to do."""

_NEXT_STEP = "check that the database runs and that `atlhyper db upgrade` has been done"


@contextmanager
def explained(where: str, query_timeout: float = 0) -> Iterator[None]:
    """Turns what a driver raises into DatabaseUnavailable, unless the values are at fault.

    `query_timeout`: seconds that a query may take, so that one ended for it is told apart: QueryTimeout.
    """
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError) as error:
        if query_timeout and _ended_by_time(error):
            raise QueryTimeout(f"the database had no answer after {query_timeout:g}s") from error
        cause = _cause(error)
        if cause is None:
            if isinstance(error, IntegrityError | DataError):
                raise  # what was to be written is at fault; everything else is the database's
            text = str(error.orig if isinstance(error, DBAPIError) else error) or type(error).__name__
            cause = (text, _NEXT_STEP)
        meaning, next_step = cause
        raise DatabaseUnavailable(f"database {where}: {meaning}", next_step) from error


def _ended_by_time(error: Exception) -> bool:
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) == "57014" or str(original) == "interrupted"


def _cause(error: Exception) -> tuple[str, str] | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, TimeoutError):
        return "no answer in time", _RUNS
    if isinstance(original, socket.gaierror):
        return "its host has no address", "correct the host in DATABASE_URL, or the name service"
    if (known := _BY_STATE.get(getattr(original, "sqlstate", None) or "")) is not None:
        return known
    text = str(original).lower()
    return next(((meaning, next_step) for said, meaning, next_step in _BY_TEXT if said in text), None)
