"""The databases a benchmark is run on: SQLite always, PostgreSQL where the machine has one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.postgres.server import Postgres

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
NAMES = (SQLITE, POSTGRES)
# As it is shipped: the tests' server does without what only a power cut would show.
_SETTINGS = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}


@dataclass(frozen=True, slots=True)
class Databases:
    """Those that there are."""

    names: tuple[str, ...]
    server: Postgres | None

    def url(self, name: str, folder: Path) -> str:
        """A new database without tables; a SQLite file lies in `folder`."""
        if name == SQLITE:
            return f"sqlite+aiosqlite:///{folder / 'atlhyper.db'}"
        assert self.server is not None
        return self.server.new_database(migrated=False)


@contextmanager
def databases(wanted: tuple[str, ...] = NAMES) -> Iterator[Databases]:
    """Start what is wanted and there; what is not is said once."""
    if POSTGRES not in wanted:
        yield Databases(wanted, None)
        return
    try:
        server = Postgres(_SETTINGS)
    except AssertionError as error:  # its way of saying that this machine has none
        print(f"without PostgreSQL: {error}", file=sys.stderr)
        yield Databases(tuple(name for name in wanted if name != POSTGRES), None)
        return
    try:
        server.start()
        yield Databases(wanted, server)
    finally:
        server.close()
