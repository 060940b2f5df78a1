"""The agent's state file: one SQLite file, worked on in one thread, by one process at a time.

What is in it belongs to those who use it: each brings its tables. Every transaction is on the disk when it
ends (`synchronous = FULL`). A damaged file is set aside, and an empty one takes its place.
"""

import asyncio
import errno
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from services.agent.store import metrics
from services.runtime import logs
from services.runtime.errors import EXIT_TEMPORARY, UserError
from services.runtime.tasks import to_its_end

_log = logs.get_logger(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]
"""What is done in one transaction, in the file's thread."""

BUSY_TIMEOUT = 1.0
"""Seconds that an agent which has just been killed may still hold the file."""
STUCK = 5.0
"""Seconds after which a disk that does not answer is told."""

_PRAGMAS = (
    # Held until we close it. No shared memory is needed then, which not every volume has.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 8388608",
)
_META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID"
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    # Our statements are always the same: what they do not find or may not write, was changed under them.
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}
_OURS_TO_REPAIR = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
"""Of the errors at start those that pass without a hand; the others need a person."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class StateUnavailable(Exception):
    """The file can't be read or written now. The text names the cause."""


class StateDamaged(Exception):
    """The file was damaged and is set aside. What was in it is gone; there is an empty one."""


class _Damage(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class StateFile:
    """`async with StateFile(path, tables) as file: await file.run(work)`.

    `tables` are statements that make what is missing. Entering it raises UserError for what a person has to
    put right: another process uses the file, or it may not be written.
    """

    def __init__(self, path: Path, tables: Sequence[str]) -> None:
        self.path = path
        self.damaged = 0
        """Files that were set aside; whoever works with what was in it looks whether this has changed."""
        self._tables = tables
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state file")
        self._connection: sqlite3.Connection | None = None
        self._working_since = 0.0
        self._ended = False

    async def __aenter__(self) -> Self:
        try:
            await self.run(lambda _: None)
        except StateDamaged:
            await self.run(lambda _: None)
        except StateUnavailable as error:
            self._explain(error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True  # work that comes behind the closing would open the file again, and keep it
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def stuck(self) -> str:
        """Why the work in hand does not end; empty while it does."""
        since = self._working_since
        seconds = time.monotonic() - since if since else 0.0
        return f"{self.path}: the disk has not answered for {seconds:.0f} s" if seconds > STUCK else ""

    async def run(self, work: Work[Result], *, lasting: bool = False) -> Result:
        """Do `work` in one transaction; it is finished also when we are cancelled meanwhile.

        `lasting`: bring it from SQLite's log into the file itself. A log that was damaged since ends, for
        SQLite, before the damage; what was only there is gone without a word.
        Raises StateUnavailable and StateDamaged; in either case nothing of it is in the file (`lasting`: it
        may be). `work` may be begun again by the caller: it must not change anything else.
        """
        if self._ended:
            raise StateUnavailable(f"{self.path} is closed")
        return await to_its_end(
            asyncio.get_running_loop().run_in_executor(self._thread, self._do, work, lasting)
        )

    # --- in the thread --------------------------------------------------------------------------------

    def _do(self, work: Work[Result], lasting: bool) -> Result:
        self._working_since = time.monotonic()
        try:
            connection = self._connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
            if lasting:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return result
        except (sqlite3.Error, OSError) as error:
            # Whatever it was: after an I/O error nobody knows what the pages in memory are worth.
            self._close()
            if _code(error) in _DAMAGED and self._set_aside(error):
                raise StateDamaged(str(error)) from error
            raise StateUnavailable(f"{self.path}: {_text(error)}") from error
        except BaseException:
            self._close()
            raise
        finally:
            self._working_since = 0.0

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = _as_text
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _Damage(str(verdict))
            for statement in (_META, *self._tables):
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        """What is open in a transaction is rolled back by it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _set_aside(self, error: Exception) -> bool:
        """Whether it could be done. One earlier file is replaced: they must not fill the disk."""
        aside = Path(f"{self.path}.damaged")
        try:
            for suffix in ("-wal", ""):  # where SQLite's own tools look for it
                old, new = Path(f"{self.path}{suffix}"), Path(f"{aside}{suffix}")
                new.unlink(missing_ok=True)
                if old.exists():
                    old.rename(new)
        except OSError:
            _log.exception("the damaged state file can't be set aside", file=str(self.path))
            return False
        self.damaged += 1
        metrics.DAMAGED.inc()
        _log.error("the state file is damaged and is set aside", file=str(aside), reason=str(error))
        return True

    def _explain(self, unavailable: StateUnavailable) -> None:
        """Raise UserError unless the agent can begin in memory and the cause may pass by itself."""
        code = _code(unavailable.__cause__)
        if code == sqlite3.SQLITE_BUSY:
            raise UserError(
                f"the state file {self.path} is in use by another agent",
                "stop that one, or give this one a file of its own: AGENT_STATE",
                EXIT_TEMPORARY,
            ) from unavailable
        if code not in _OURS_TO_REPAIR:
            raise UserError(
                f"the state file can't be used: {unavailable}",
                "give this user write permission there, or set AGENT_STATE",
            ) from unavailable


def probe(connection: sqlite3.Connection) -> None:
    """Write something: whether the disk takes it is known after the commit."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('written_at', ?)", (time.time(),))


def _code(error: BaseException | None) -> int:
    """SQLite's primary code, also for what the operating system refused before SQLite could; 0: neither."""
    if isinstance(error, OSError):
        return sqlite3.SQLITE_FULL if error.errno in _NO_ROOM else sqlite3.SQLITE_CANTOPEN
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _as_text(value: bytes) -> str:
    """Flipped bits may be no UTF-8; who reads the row finds by its checksum that it is another one."""
    return value.decode(errors="replace")


def _text(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
