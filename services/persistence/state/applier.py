"""The write side of the read model: frames become rows.

One transaction holds about 500 rows at most, since the database has one writer and others wait for it.
What a transaction applies and how far it got in the log are committed together; frames are judged by
their own epoch, sequence and place in the log, so a repeat of any of them changes nothing. Agents have
nothing to do with each other: only the frames of each must come in the log's order.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from services.persistence import cursors
from services.persistence.database.engine import Database
from services.persistence.state import ledgers
from services.persistence.state.epochs import ReceivedFrame
from services.persistence.state.ledgers import Ledgers
from services.persistence.state.report import Report
from services.persistence.state.transaction import Transaction
from services.runtime.bus.cursor import Cursor
from services.runtime.failpoints import Point, reach


class FrameApplier:
    """Applies the frames of one shard; the only writer of its objects."""

    def __init__(self, db: Database, shard: int) -> None:
        """Where several processes could write, `db` is a FencedDatabase, and each holding has an applier of
        its own: what one remembers is true only for as long as nobody else writes.
        """
        self._db = db
        self._shard = shard
        self._ledgers = Ledgers()
        self._one_at_a_time = asyncio.Lock()

    async def apply(self, received: Sequence[ReceivedFrame], cursor: Cursor) -> Report:
        """Apply as many of them as one transaction holds, in log order; the report has those that are done.

        With it the cursor is moved to where all is applied: to the one given, or before the first frame that
        is left. None may be done, when more is to be swept than fits. Raises ContractError for a frame that
        breaks the contract, LeaseLost, DatabaseUnavailable; the transaction is then rolled back.
        """
        async with self._one_at_a_time, self._transaction() as connection:
            known = await self._ledgers.get(connection, (item.target for item in received))
            transaction = Transaction(connection, known, self._shard)
            rest = received[await transaction.apply(received) :]
            if rest:
                cursor = replace(cursor, sequence=min(rest[0].position.sequence - 1, cursor.sequence))
            await cursors.save(connection, cursor)
            await reach(Point.FRAMES_BEFORE_COMMIT)
        self._ledgers.keep(transaction.ledgers)
        return transaction.report

    async def in_sync(self, targets: Collection[Target]) -> dict[Target, str]:
        """Those of these agents that are in sync, with their epochs. Raises DatabaseUnavailable."""
        async with self._one_at_a_time:
            if not self._ledgers.has(targets):
                async with self._db.read() as connection:
                    await self._ledgers.get(connection, targets)
            return self._ledgers.in_sync(targets)

    async def want_resync(self, target: Target, reason: str, since: datetime) -> str | None:
        """Note that a new epoch is wanted of an agent; the epoch it is in, None when it is not known."""
        async with self._one_at_a_time, self._transaction() as connection:
            known = await self._ledgers.get(connection, [target])
            if target in known:
                known[target].want_resync(reason, since)
                await ledgers.save(connection, known, {})
        self._ledgers.keep(known)
        return known[target].epoch if target in known else None

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._db.write() as connection:
                yield connection
        except BaseException:
            # Not even whether it was committed is known.
            self._ledgers.forget()
            raise
