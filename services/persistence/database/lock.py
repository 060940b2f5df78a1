"""A lock that ends with the process that holds it, however that ends: nobody waits for it to expire."""

import fcntl
import os
from pathlib import Path

from services.persistence.database.errors import DatabaseUnavailable


class ProcessLock:
    """The right to work on a database that serves one process: a lock on a file beside it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    def take(self, owner: str) -> bool:
        """Whether it is ours now, for as long as this process lives. Raises DatabaseUnavailable.

        `owner` is our name, for those who find it taken.
        """
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, owner.encode())
            except OSError:
                os.close(descriptor)
                raise
        except BlockingIOError:
            return False
        except OSError as error:
            raise DatabaseUnavailable(
                f"cannot lock {self._file}: {error.strerror}", "give this user write permission there"
            ) from error
        self._descriptor = descriptor
        return True

    def owner(self) -> str:
        """Who has it, or had it last."""
        try:
            return self._file.read_text() or "another master"
        except OSError:
            return "another master"

    def give_back(self) -> None:
        """Let others have it. The file stays: one that was removed could be locked twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
