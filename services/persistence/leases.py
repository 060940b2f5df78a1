"""Leases: who may write what. Any number of processes may want the same duty, one has it at a time.

The database's clock decides when a lease has ended, and its fence what a former holder may still write:
nothing. Each transaction of a holder looks at the fence first (`FencedDatabase`), so it is of no matter
whether a holder that was paused, cut off or slow knows already that another has taken over.

PostgreSQL: the look takes the lease's row FOR KEY SHARE, a takeover takes it FOR UPDATE. These two exclude
each other, so a transaction in hand ends before the takeover, or finds the new fence; renewals, which change
no key, exclude neither. A lease whose holder is in a transaction is skipped by those who would take it, and
tried again. SQLite: writers exclude each other anyway.
"""

import math
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persistence import LONGEST_LEASE, tables
from services.persistence.database import clock
from services.persistence.database.dialects import insert_new, upsert
from services.persistence.database.engine import Database
from services.runtime.bus.cursor import ReaderReplaced
from services.runtime.failpoints import Point, reach

MEMBER = "member/"
"""Before the holder's name: the row of a replica that is alive; nobody else takes it."""
_BEYOND = timedelta(seconds=2 * LONGEST_LEASE)
"""No lease lasts so long: one that ends later was given before the database's clock was set back, and its
holder, if it is there, would have renewed it."""
_FORGET_MEMBERS = timedelta(minutes=1)

_LEASE = tables.table_of(tables.Lease)
_STANDS = (
    sa.select(_LEASE.c.fence)
    .where(*(_LEASE.c[name] == sa.bindparam(name) for name in ("name", "holder", "fence")))
    .with_for_update(read=True, key_share=True)
)


@dataclass(frozen=True, slots=True)
class Holding:
    """A lease that somebody has taken: the right to write what it names."""

    name: str
    holder: str
    fence: int


class LeaseLost(ReaderReplaced):
    """Another one has taken the lease: nothing was written, and nothing more will be."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The leases as one transaction found them, by the database's clock."""

    members: tuple[str, ...]
    """The holders that are alive, sorted; the one who asks among them."""
    held: frozenset[Holding]
    """What the one who asks holds still."""
    free: frozenset[str]
    """What nobody holds."""
    others: frozenset[str]
    """Other holders of something."""
    expires_in: float = math.inf
    """Seconds until the first lease of another one ends, if that one is silent from now on."""


class FencedDatabase(Database):
    """A database as the holder of a lease may write it: no transaction of one who has lost it commits.

    It uses the connections of the other, which is to be closed in its stead.
    """

    def __init__(self, db: Database, holding: Holding) -> None:
        vars(self).update(vars(db))
        self._db = db
        self._holding = holding

    @asynccontextmanager
    async def write(self, *, durable: bool = False, urgent: bool = False) -> AsyncIterator[AsyncConnection]:
        """See `Database.write`. Raises LeaseLost."""
        async with self._db.write(durable=durable, urgent=urgent) as connection:
            await check(connection, self._holding)
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """See `Database.read`."""
        async with self._db.read() as connection:
            yield connection


async def check(connection: AsyncConnection, holding: Holding) -> None:
    """Raises LeaseLost unless the holding stands; it then stands until the transaction's end."""
    still = await connection.scalar(
        _STANDS, {"name": holding.name, "holder": holding.holder, "fence": holding.fence}
    )
    if still is None:
        raise LeaseLost(f"lease {holding.name} with fence {holding.fence} has passed to another")


class Leases:
    """The leases as one process deals with them.

    `holder` is its name, `ttl` the seconds that one lasts, LONGEST_LEASE at most.
    """

    def __init__(self, db: Database, holder: str, ttl: float) -> None:
        self.holder = holder
        self.ttl = ttl
        self._db = db

    @property
    def trouble(self) -> str:
        """Why this process could not write to the database last; empty when it could."""
        return self._db.trouble

    async def declare(self, names: Iterable[str], *, alone: bool = False) -> None:
        """Make sure that these leases are there to be taken; all of them at once, for one who is known to be
        alone. Raises DatabaseUnavailable.
        """
        never = datetime(1970, 1, 1, tzinfo=UTC)
        rows = [{"name": name, "holder": "", "fence": 0, "expires_at": never} for name in sorted(names)]
        async with self._db.write(urgent=True) as connection:
            await insert_new(connection, tables.Lease, rows)
            if alone:
                await connection.execute(sa.delete(_LEASE).where(_LEASE.c.name.startswith(MEMBER)))
                await connection.execute(sa.update(_LEASE).values(holder="", expires_at=never))

    async def turn(
        self, held: Collection[Holding], choose: Callable[[Situation], Collection[str]]
    ) -> tuple[Situation, frozenset[Holding]]:
        """Renew what is held, and take what `choose` says of what is free, in one transaction.

        What was found, and what was taken. Raises DatabaseUnavailable.
        """
        async with self._db.write(urgent=True) as connection:
            now = await clock.now(connection)
            until = now + timedelta(seconds=self.ttl)
            member = {"name": MEMBER + self.holder, "holder": self.holder, "fence": 0, "expires_at": until}
            await upsert(connection, tables.Lease, [member])
            await connection.execute(
                sa.update(_LEASE)
                .where(_LEASE.c.holder == self.holder, _LEASE.c.name.in_([item.name for item in held]))
                .values(expires_at=until)
            )
            rows = (await connection.execute(sa.select(_LEASE))).all()
            situation = self._situation(rows, held, now)
            taken = await self._take(connection, set(choose(situation)) & situation.free, now, until)
            if any(row.name.startswith(MEMBER) and row.expires_at < now - _FORGET_MEMBERS for row in rows):
                await self._forget_members(connection, now)
        if taken:
            await reach(Point.LEASES_AFTER_TAKEOVER)
        return situation, taken

    async def release(self, holding: Holding) -> None:
        """Give a lease back. Raises DatabaseUnavailable."""
        async with self._db.write(urgent=True) as connection:
            await self._give_back(connection, _LEASE.c.name == holding.name)

    async def leave(self) -> None:
        """Give everything back, and be no member any longer. Raises DatabaseUnavailable."""
        member = MEMBER + self.holder
        async with self._db.write(urgent=True) as connection:
            await self._give_back(connection, _LEASE.c.name != member)
            await connection.execute(sa.delete(_LEASE).where(_LEASE.c.name == member))

    async def _give_back(self, connection: AsyncConnection, which: sa.ColumnElement[bool]) -> None:
        mine = sa.update(_LEASE).where(_LEASE.c.holder == self.holder, which)
        await connection.execute(mine.values(holder="", expires_at=await clock.now(connection)))

    def _situation(self, rows: Sequence[sa.Row[Any]], held: Collection[Holding], now: datetime) -> Situation:
        alive = [row for row in rows if now < row.expires_at <= now + _BEYOND and row.holder]
        duties = [row for row in alive if not row.name.startswith(MEMBER)]
        stands = {Holding(row.name, row.holder, row.fence) for row in rows} & set(held)
        others = [row for row in duties if row.holder != self.holder]
        kept = {row.name for row in others} | {item.name for item in stands}
        ends = (row.expires_at for row in alive if row.holder != self.holder)
        return Situation(
            members=tuple(sorted(row.holder for row in alive if row.name.startswith(MEMBER))),
            held=frozenset(stands),
            free=frozenset(row.name for row in rows if not row.name.startswith(MEMBER)) - kept,
            others=frozenset(row.holder for row in others),
            expires_in=min(((end - now).total_seconds() for end in ends), default=math.inf),
        )

    async def _take(
        self, connection: AsyncConnection, names: Collection[str], now: datetime, until: datetime
    ) -> frozenset[Holding]:
        """Take those of them that are still free; a lease that we had and gave up counts as free."""
        if not names:
            return frozenset()
        found = await connection.scalars(
            sa.select(_LEASE.c.name)
            .where(
                _LEASE.c.name.in_(names),
                (_LEASE.c.expires_at <= now)
                | (_LEASE.c.expires_at > now + _BEYOND)
                | _LEASE.c.holder.in_(["", self.holder]),
            )
            .with_for_update(skip_locked=True)
        )
        taken = await connection.execute(
            sa.update(_LEASE)
            .where(_LEASE.c.name.in_(found.all()))
            .values(holder=self.holder, fence=_LEASE.c.fence + 1, expires_at=until)
            .returning(_LEASE.c.name, _LEASE.c.fence)
        )
        return frozenset(Holding(name, self.holder, fence) for name, fence in taken)

    async def _forget_members(self, connection: AsyncConnection, now: datetime) -> None:
        """Remove those that are gone for good. Never waits for another: that one may be waiting for us."""
        gone = await connection.scalars(
            sa.select(_LEASE.c.name)
            .where(_LEASE.c.name.startswith(MEMBER), _LEASE.c.expires_at < now - _FORGET_MEMBERS)
            .with_for_update(skip_locked=True)
        )
        if names := gone.all():
            await connection.execute(sa.delete(_LEASE).where(_LEASE.c.name.in_(names)))
