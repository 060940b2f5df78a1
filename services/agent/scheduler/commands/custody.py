"""Taking custody: a command is in the journal before its message is acknowledged."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from schemas.commands import CommandCompleted, CommandState, ErrorCode
from services.agent.gateway.interfaces import CommandGateway, Order
from services.agent.scheduler.commands import metrics
from services.agent.scheduler.commands.checks import Checks
from services.agent.scheduler.commands.reports import Reporter
from services.agent.scheduler.commands.results import Ending, completed, ended, fault
from services.agent.store import journal_rows
from services.agent.store.file import StateDamaged, StateUnavailable
from services.agent.store.journal import Journal
from services.agent.store.journal_rows import Entry
from services.runtime import logs
from services.runtime.failpoints import Point, reach

_log = logs.get_logger(__name__)

MAX_OPEN = 1000
"""Commands in custody that have not ended; further ones wait at the broker."""
DEFER = 5.0
"""Seconds after which what could not be taken comes again, give or take half."""


class Custody:
    """Decides what becomes of each command that the bus hands out.

    `taken` is called when there is work. `now`: the core's time.
    """

    def __init__(
        self,
        journal: Journal,
        checks: Checks,
        gateway: CommandGateway,
        reporter: Reporter,
        taken: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._journal = journal
        self._checks = checks
        self._gateway = gateway
        self._reporter = reporter
        self._taken = taken
        self._now = now
        self.received = 0
        self.refused = 0
        self.redelivered = 0

    async def handle(self, orders: Sequence[Order]) -> None:
        """Take what is new into custody, and answer what is not."""
        await reach(Point.COMMAND_AFTER_PULL)
        known = [order for order in orders if self._journal.knows(order.command.id)]
        new = [order for order in orders if not self._journal.knows(order.command.id)]
        if unsure := [order for order in new if self._checks.late_by_own_clock_only(order)]:
            # The master asks about them before long, and its question says what time it is.
            new = [order for order in new if order not in unsure]
            await self._defer(unsure)
        first: dict[str, Order] = {}
        for order in new:
            first.setdefault(order.command.id, order)  # copies may come together
        if not self._journal.id or self._journal.full or len(self._journal.open) + len(first) > MAX_OPEN:
            await self._defer(new)
        elif new:
            await self._take(new, [await self._entry(order) for order in first.values()])
        await self._acknowledge(known)
        self._answer({order.command.id for order in known})

    async def _take(self, orders: Sequence[Order], entries: Sequence[Entry]) -> None:
        """Write the entries, and only then acknowledge their orders."""
        try:
            await self._keep(entries)
            kept = [order for order in orders if self._journal.knows(order.command.id)]
            await self._defer([order for order in orders if not self._journal.knows(order.command.id)])
            if kept:
                await reach(Point.COMMAND_AFTER_JOURNAL)
                await self._acknowledge(kept)
                await reach(Point.COMMAND_AFTER_ACK)
        finally:  # what is in the journal is in custody, whatever became of the acknowledgement
            for entry in entries:
                if self._journal.knows(entry.id):
                    self._reporter.report(entry.id)
            self._taken()

    async def _keep(self, entries: Sequence[Entry]) -> None:
        """Bring them into the journal, on the disk. One that can't be written is refused instead."""
        try:
            if faults := await self._journal.accept(entries):
                entries = [
                    self._unwritable(entry, faults[entry.id]) if entry.id in faults else entry
                    for entry in entries
                ]
                faults = await self._journal.accept([entry for entry in entries if entry.id in faults])
                for command_id, error in faults.items():
                    _log.error("a command is left to the broker", command=command_id, reason=str(error))
        except (StateUnavailable, StateDamaged) as error:
            _log.warning("commands are left to the broker", commands=len(entries), reason=str(error))
        entries = [entry for entry in entries if self._journal.knows(entry.id)]
        self.received += len(entries)
        metrics.RECEIVED.inc(len(entries))
        for entry in entries:
            if entry.done:
                self._tell_refusal(entry)

    def _unwritable(self, entry: Entry, error: Exception) -> Entry:
        """A refusal in the place of one that can't be written; nothing that came with it is in it."""
        now = self._now()
        _log.error("a command can't be written", command=entry.id, reason=f"{type(error).__name__}: {error}")
        text = f"it can't be kept in the agent's journal: {fault(error)}"
        report, data = completed(entry.id, ended(CommandState.REJECTED, ErrorCode.INTERNAL, text), now)
        bare = replace(
            entry, body=b"", extensions={}, stored_at=now, received_at=now, start_by=now, finish_by=now
        )
        return journal_rows.with_result(bare, report, data)

    def _tell_refusal(self, entry: Entry) -> None:
        report = CommandCompleted.model_validate_json(entry.result)
        assert report.error
        self.refused += 1
        metrics.ENDED.labels(state=report.state.value).inc()
        code, reason = report.error.code, report.error.message
        _log.warning("command refused", command=entry.id, state=report.state.value, code=code, reason=reason)

    async def _acknowledge(self, orders: Sequence[Order]) -> None:
        """Tell the broker that they need not come again."""
        for order in orders:
            await self._gateway.acknowledge(order)

    async def _entry(self, order: Order) -> Entry:
        command = order.command
        entry = Entry(
            id=command.id,
            body=order.body,
            extensions=dict(order.extensions),
            stored_at=order.stored_at,
            received_at=self._now(),
            start_by=command.start_by,
            finish_by=command.finish_by,
        )
        refusal = await self._checks.refusal(order)
        if refusal is None:
            return entry
        report, data = completed(command.id, Ending(refusal.state, refusal.error), self._now())
        return journal_rows.with_result(entry, report, data)

    async def _defer(self, orders: Sequence[Order]) -> None:
        metrics.DEFERRED.inc(len(orders))
        for order in orders:
            await self._gateway.defer(order, DEFER * random.uniform(0.5, 1.5))

    def _answer(self, command_ids: set[str]) -> None:
        """They are in the journal: say again what is known of them."""
        self.redelivered += len(command_ids)
        metrics.REDELIVERED.inc(len(command_ids))
        for command_id in command_ids:
            self._reporter.report(command_id, again=True)
