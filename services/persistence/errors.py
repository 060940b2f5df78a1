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


class RevisionError(UserError):
    """The database has a schema that this version cannot use."""


_CAUSES = (
    ("database is locked", "another process holds it", "find the process that has the file open (`lsof`)"),
    ("database or disk is full", "the disk is full", "free some space; it goes on by itself"),
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
    ("connection refused", "nobody answers there", "check the address and that the database runs"),
)
"""What the drivers say (in lower case), what it means, what to do."""

_NEXT_STEP = "check that the database runs and that `atlhyper db upgrade` has been done"


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns what a driver raises into DatabaseUnavailable, unless the values are at fault."""
    try:
        yield
    except (DBAPIError, PoolTimeout, ConnectionError, socket.gaierror) as error:
        text = str(error.orig if isinstance(error, DBAPIError) else error).lower()
        for said, meaning, next_step in _CAUSES:
            if said in text:
                raise DatabaseUnavailable(f"database {where}: {meaning}", next_step) from error
        if isinstance(error, IntegrityError | DataError):
            raise  # what was to be written is at fault; everything else is the database's
        raise DatabaseUnavailable(f"database {where}: {text}", _NEXT_STEP) from error
