"""The write side of the read model: frames become rows.

One transaction holds about 500 rows at most, since the database has one writer and others wait for it.
What a transaction applies and how far it got in the log are committed together; frames are judged by
their own epoch, sequence and place in the log, so a repeat of any of them changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from schemas.frames import Phase
from schemas.ids import Target
from services.persistence import cursors, ledgers, tables
from services.persistence.applying import Transaction
from services.persistence.dialects import insert_new
from services.persistence.engine import Database
from services.persistence.epochs import ReceivedFrame
from services.persistence.ledgers import Ledgers
from services.persistence.report import Report
from services.runtime.bus.cursor import Cursor


class FrameApplier:
    """Applies the frames of one shard; the only writer of its rows."""

    def __init__(self, db: Database, shard: int) -> None:
        self._db = db
        self._shard = shard
        self._ledgers = Ledgers()
        self._rev: int | None = None
        """The shard's revision as committed; None: to be read."""
        self._one_at_a_time = asyncio.Lock()

    async def apply(self, received: Sequence[ReceivedFrame], cursor: Cursor) -> Report:
        """Apply a batch in log order and move the cursor past it.

        Frames of agents that are in sync come first, so that one agent's big snapshot does not delay the
        changes of the others; the cursor then follows the rest, and a crash between replays what came first.
        Raises ContractError for a frame that breaks the contract, DatabaseUnavailable; the transaction in
        hand is then rolled back, earlier ones stay.
        """
        report = Report()
        async with self._one_at_a_time:
            first, rest = self._in_sync_first(received)
            if rest:
                await self._run(first, None, report)
                await self._run(rest, cursor, report)
            else:
                await self._run(first, cursor, report)
        return report

    async def want_resync(self, target: Target, reason: str, since: datetime) -> str | None:
        """Note that a new epoch is wanted of an agent; the epoch it is in, None when it is not known."""
        async with self._one_at_a_time, self._transaction() as connection:
            known = await self._ledgers.get(connection, [target])
            if target in known:
                known[target].want_resync(reason, since)
                await ledgers.save(connection, known, {})
        self._ledgers.keep(known)
        return known[target].epoch if target in known else None

    def _in_sync_first(
        self, received: Sequence[ReceivedFrame]
    ) -> tuple[list[ReceivedFrame], list[ReceivedFrame]]:
        beginning = {item.target for item in received if item.frame.phase is Phase.BEGIN}
        ahead = {item.target for item in received if self._ledgers.in_sync(item.target)} - beginning
        return (
            [item for item in received if item.target in ahead],
            [item for item in received if item.target not in ahead],
        )

    async def _run(self, received: list[ReceivedFrame], cursor: Cursor | None, report: Report) -> None:
        """As many transactions as it takes; with a cursor, each moves it to where all is applied."""
        while received or cursor:
            async with self._transaction() as connection:
                known = await self._ledgers.get(connection, (item.target for item in received))
                rev = await self._next_rev(connection)
                transaction = Transaction(connection, known, rev)
                done = await transaction.apply(received)
                rest = received[done:]
                if wrote := bool(transaction.report.changed or transaction.report.removed):
                    model = tables.Shard
                    await connection.execute(
                        sa.update(model).where(col(model.shard) == self._shard).values(rev=rev)
                    )
                if cursor is not None:
                    reached = rest[0].position.sequence - 1 if rest else cursor.sequence
                    await cursors.save(connection, replace(cursor, sequence=reached))
            self._ledgers.keep(transaction.ledgers)
            self._rev = rev if wrote else rev - 1
            report.add(transaction.report)
            received = rest
            if not rest:
                return

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._db.write() as session:
                yield await session.connection()
        except BaseException:
            # Not even whether it was committed is known.
            self._ledgers.forget()
            self._rev = None
            raise

    async def _next_rev(self, connection: AsyncConnection) -> int:
        if self._rev is None:
            model = tables.Shard
            found = await connection.scalar(sa.select(col(model.rev)).where(col(model.shard) == self._shard))
            if found is None:
                row = {"shard": self._shard, "rev": 0, "forgotten": 0}
                await insert_new(connection, model, [row])
            self._rev = found or 0
        return self._rev + 1
