"""Whether the database answers, asked again and again, so that readiness is told without asking."""

import asyncio

from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.database.migrate import check_usable

INTERVAL = 2.0
"""Seconds between two questions, and seconds that an answer may take."""


class DatabaseProbe:
    """Watches a database that has answered before."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._trouble: str | None = None

    def health(self) -> str | None:
        """A readiness check."""
        return self._trouble

    async def run(self) -> None:
        """Until cancelled. Raises RevisionError once the database is no longer one for this version."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL), self._db.read() as connection:
                    await check_usable(connection)
            except DatabaseUnavailable as error:
                self._trouble = str(error)
            except TimeoutError:
                self._trouble = f"no answer within {INTERVAL:g}s"
            else:
                self._trouble = None
            await asyncio.sleep(INTERVAL)
