"""`python -m services.persistence.database.migrations "what changes"` writes the next revision.

It is to be checked by hand.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from alembic import command

from services.persistence.database.engine import Database
from services.persistence.database.migrate import config, head, upgrade


async def main(message: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'empty.db'}"
        await upgrade(url)
        number = f"{int(head()) + 1:04d}"
        async with Database(url) as db, db.write() as connection:
            await connection.run_sync(
                lambda sync: command.revision(config(sync), message, autogenerate=True, rev_id=number)
            )


asyncio.run(main(sys.argv[1]))
