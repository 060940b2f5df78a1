"""Tokens of the API: made, listed, revoked, and checked at each request.

A token has 256 random bits. The database holds its SHA-256 only: whoever reads the database, or a backup of
it, can use none, and nothing slower than SHA-256 is needed for what nobody can guess.
"""

import asyncio
import hashlib
import re
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from schemas.ids import uuid7
from services.persistence import tables
from services.persistence.database import clock
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable

PREFIX = "atlhyper_"
"""So that people, and programs that look for secrets in what is published, know what it is."""
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
LIFE = 2.0
"""Seconds that the tokens of the database are known without another look: a revoked one is refused after."""
_UNKNOWN_LIFE = 0.25
"""Seconds after which an unknown token is worth another look: it may be new. Whoever tries tokens costs the
database four queries a second, however many they try."""
_PATIENCE = 2.0
"""Seconds for one look."""

_TOKEN = tables.table_of(tables.Token)


class BadName(ValueError):
    """A name that a token cannot have; its text says what one may look like."""


class UnknownToken(Exception):
    """No such token: never made, or revoked."""


class ExpiredToken(Exception):
    """Its time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token; the token itself is nowhere."""

    id: str
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""

    @property
    def actor(self) -> str:
        """As whom its holder acts."""
        return f"token/{self.name}"


def check_name(name: str) -> str:
    """Raises BadName."""
    if not NAME.fullmatch(name):
        raise BadName(
            f"{name!r} is no name for a token: up to 63 of a-z, 0-9, '-', '_' and '.', "
            "a letter or a digit first and last"
        )
    return name


async def create(db: Database, name: str, lifetime: timedelta | None = None) -> tuple[str, Token]:
    """Make a token: itself, which nobody can read again, and what is known of it from now on.

    One that is to replace another may have its name. Raises BadName, DatabaseUnavailable.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    check_name(name)
    async with db.write(durable=True) as connection:
        present = await clock.now(connection)
        token = Token(
            id=uuid7(),
            name=name,
            created_at=present,
            expires_at=None if lifetime is None else present + lifetime,
            last_used_at=None,
        )
        await connection.execute(sa.insert(_TOKEN).values(**asdict(token), hash=_hash(secret)))
    return secret, token


async def list_tokens(db: Database) -> list[Token]:
    """All of them, those that have expired too, the oldest first. Raises DatabaseUnavailable."""
    found, _ = await _read(db)
    return list(found.values())


async def revoke(db: Database, name_or_id: str) -> list[Token]:
    """Remove the token of that id, or all of that name; what was removed. Raises DatabaseUnavailable."""
    async with db.write(durable=True) as connection:
        rows = await connection.execute(
            sa.delete(_TOKEN)
            .where((_TOKEN.c.id == name_or_id) | (_TOKEN.c.name == name_or_id))
            .returning(*_COLUMNS)
        )
        return [_token(row) for row in rows]


class Tokens:
    """The tokens of a database, as one process checks them at each request."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, Token] = {}
        """By hash."""
        self._looked_at = -float("inf")
        """When the look began that found them."""
        self._present = datetime.min.replace(tzinfo=UTC)
        """The database's clock then."""
        self._failed_at = -float("inf")
        self._failure: DatabaseUnavailable | None = None
        self._looking = asyncio.Lock()
        self._used: dict[str, datetime] = {}
        """By id: the minutes that are still to be written."""

    async def verify(self, token: str, *, however_old: bool = False) -> Token:
        """Whose token it is. Raises UnknownToken, ExpiredToken, and DatabaseUnavailable: nobody can say.

        `however_old`: while the database does not answer, by what it said last. The work is the same whatever
        the token: one digest, one look into the table of digests, of which nobody can try one character
        after the other.
        """
        hashed = _hash(token)
        try:
            await self.look(LIFE)
            if hashed not in self._known:
                await self.look(_UNKNOWN_LIFE)
        except DatabaseUnavailable:
            if not however_old:
                raise
        found = self._known.get(hashed)
        if found is None:
            raise UnknownToken
        present = self._now()
        if _has_expired(found, present):
            raise ExpiredToken
        self._used[found.id] = present.replace(second=0, microsecond=0)
        return found

    def valid(self) -> set[str]:
        """The ids of those that were neither revoked nor have expired, as of the last look."""
        if not self._known:
            return set()  # before the first look there is no clock either
        present = self._now()
        return {token.id for token in self._known.values() if not _has_expired(token, present)}

    def _now(self) -> datetime:
        """By the database's clock, and how much time has passed since it was read."""
        return self._present + timedelta(seconds=max(0.0, time.monotonic() - self._looked_at))

    async def look(self, life: float = 0.0) -> None:
        """Read them again unless they were read in the last `life` seconds. Raises DatabaseUnavailable."""
        asked = time.monotonic()
        if asked - self._looked_at <= life:
            return
        async with self._looking:
            if self._failure is not None and self._failed_at >= asked:
                raise self._failure  # whoever waited for that look would only wait for another one like it
            began = time.monotonic()
            if began - self._looked_at <= life:
                return
            try:
                async with asyncio.timeout(_PATIENCE):
                    self._known, self._present = await _read(self._db)
            except (DatabaseUnavailable, TimeoutError) as error:
                failure = error if isinstance(error, DatabaseUnavailable) else _no_answer(self._db)
                self._failure, self._failed_at = failure, time.monotonic()
                raise failure from None
            self._looked_at = began

    async def write_uses(self) -> None:
        """Write when each was used last; what fails is left for the next time. Raises DatabaseUnavailable."""
        used = dict(self._used)
        if not used:
            return
        async with self._db.write() as connection:
            for key, minute in sorted(used.items()):
                earlier = _TOKEN.c.last_used_at.is_(None) | (_TOKEN.c.last_used_at < minute)
                await connection.execute(
                    sa.update(_TOKEN).where(_TOKEN.c.id == key, earlier).values(last_used_at=minute)
                )
        for key, minute in used.items():
            if self._used.get(key) == minute:
                del self._used[key]


_COLUMNS = [column for column in _TOKEN.c if column.name != "hash"]


async def _read(db: Database) -> tuple[dict[str, Token], datetime]:
    """All tokens by their hashes, and the database's clock."""
    async with db.read() as connection:
        rows = await connection.execute(sa.select(_TOKEN).order_by(_TOKEN.c.created_at, _TOKEN.c.id))
        return {row.hash: _token(row) for row in rows}, await clock.now(connection)


def _has_expired(token: Token, present: datetime) -> bool:
    return token.expires_at is not None and token.expires_at <= present


def _token(row: "sa.Row[tuple[object, ...]]") -> Token:
    return Token(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _no_answer(db: Database) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"database {db.name}: no answer within {_PATIENCE:g}s")
