"""The token that tests come with: real ones are asked for everywhere, and nothing switches that off."""

import hashlib
from datetime import UTC, datetime

import sqlalchemy as sa

from services.persistence import tables
from services.persistence.database.engine import Database

NAME = "tests"
ACTOR = f"token/{NAME}"
TOKEN = "atlhyper_tests-only-0000000000000000000000000000000"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
"""Headers of a request."""
AUTHORIZATION = f"Authorization: Bearer {TOKEN}\r\n".encode()
"""The same as a line of a request that is written by hand."""


async def admit(
    database_url: str, token: str = TOKEN, name: str = NAME, expires_at: datetime | None = None
) -> None:
    """Have a database know a token."""
    row = {
        "id": name,
        "name": name,
        "hash": hashlib.sha256(token.encode()).hexdigest(),
        "created_at": datetime.now(UTC),
        "expires_at": expires_at,
        "last_used_at": None,
    }
    async with Database(database_url) as database, database.write() as connection:
        await connection.execute(sa.insert(tables.table_of(tables.Token)).values(**row))
