"""Tells the master what becomes of commands; results again and again, until it has committed them.

What is not confirmed for a while is sent again, as Events are: one as a question, and only when that is
confirmed the others, a window at a time. Here each is confirmed by its id, so the question is the one that
was asked longest ago: one that nobody will ever confirm does not stand before the others.
"""

import asyncio
import random
from collections.abc import Sequence

from msgspec import Struct

from schemas.commands import (
    CommandCompleted,
    CommandProgressed,
    CommandReceived,
    CommandStarted,
)
from services.agent.gateway.interfaces import CommandGateway, Report
from services.agent.scheduler.commands import metrics
from services.agent.scheduler.commands.results import parts, with_data
from services.agent.store.file import StateDamaged, StateUnavailable
from services.agent.store.journal import Journal
from services.agent.store.journal_rows import Entry
from services.runtime import logs
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

COMPLETED = "completed"
PUBLISHERS = 8
"""Commands that are reported at once; what is said of one keeps its order."""
WINDOW = 64
"""Results sent again before the next confirmation."""
QUIET = 2.0
"""Seconds without a further confirmation after which a master that has answered the question lacks more."""
JITTER = 0.2
"""Fraction by which the time to a question is spread."""
LONGEST = 8.0
"""How many times `patience` the pauses between unanswered questions become at most."""
PROGRESS = 1.0
"""Seconds between two reports of how far one command has come."""
PARTS_AT_ONCE = 8
"""Messages with slices of one result that are under way together."""
GATHER = 0.1
"""Seconds for which "received" and "started" wait for what follows: of most commands that is the end, and
the master commits once for all three. They say themselves when they were."""
RETRY = 1.0
"""Seconds until a journal that could not be read is asked again."""


class _Due(Struct):
    """What is to be said of one command."""

    again: bool = False
    progress: CommandProgressed | None = None


class Reporter:
    """Reports of one agent. `patience`: seconds without a confirmation after which results are sent again."""

    def __init__(self, journal: Journal, gateway: CommandGateway, *, patience: float) -> None:
        self._journal = journal
        self._gateway = gateway
        self._patience = patience
        self._due: dict[str, _Due] = {}
        self._soon: set[str] = set()
        """Commands that have only begun: what is to be said of them waits for a moment."""
        self._busy: set[str] = set()
        """Commands of which something is being said: what follows waits, and keeps the order."""
        self._slots = asyncio.Semaphore(PUBLISHERS)
        self._news = asyncio.Event()
        self._said: dict[str, set[str]] = {}
        """By command, the reports that the bus has; until its result is confirmed."""
        self._unconfirmed: dict[str, float] = {}
        """When the bus took a result last, by the loop's clock; the one that was longest ago comes first."""
        self._filled = asyncio.Event()
        self._confirmation = asyncio.Event()
        self._progress: dict[str, CommandProgressed] = {}
        """The latest of each command that is to be said in a moment."""
        self._progressed_at: dict[str, float] = {}
        self.repeated = 0
        """Results sent again since the agent started."""

    def report(self, command_id: str, *, again: bool = False) -> None:
        """Say what is known of a command and was not said yet; `again`: also what was."""
        if not again and command_id in self._journal.open and command_id not in self._due:
            if command_id not in self._soon:
                self._soon.add(command_id)
                asyncio.get_running_loop().call_later(GATHER, self._say_beginning, command_id)
            return
        due = self._due.setdefault(command_id, _Due())
        due.again |= again
        self._news.set()

    def _say_beginning(self, command_id: str) -> None:
        self._soon.discard(command_id)
        if command_id in self._journal.open:  # else its end says all of it
            self._due.setdefault(command_id, _Due())
            self._news.set()

    def report_all(self) -> None:
        """The same of every command that has not ended, or whose result is not confirmed."""
        for command_id in (*self._journal.open, *self._journal.unconfirmed):
            self.report(command_id)

    def progressed(self, progress: CommandProgressed) -> None:
        """Say how far one has come: the latest word, once in a while; its end says the rest."""
        command_id = progress.command_id
        if command_id not in self._progress:
            at = self._progressed_at.get(command_id, 0.0) + PROGRESS
            asyncio.get_running_loop().call_at(at, self._say_progress, command_id)
        self._progress[command_id] = progress

    def _say_progress(self, command_id: str) -> None:
        progress = self._progress.pop(command_id)
        if command_id in self._journal.open:
            self._progressed_at[command_id] = asyncio.get_running_loop().time()
            self._due.setdefault(command_id, _Due()).progress = progress
            self._news.set()

    async def confirmed(self, command_ids: Sequence[str]) -> None:
        """The master has committed these results."""
        await reach(Point.COMMAND_AFTER_CONFIRM)
        for command_id in await self._journal.confirm(command_ids):
            self._said.pop(command_id, None)
            self._unconfirmed.pop(command_id, None)
            self._confirmation.set()
        metrics.UNCONFIRMED.set(self._journal.unconfirmed_count)

    async def run(self) -> None:
        """Until cancelled."""
        self._slots, self._busy = asyncio.Semaphore(PUBLISHERS), set()
        self.report_all()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(), name="repeat results")
            while True:
                self._news.clear()
                for command_id in [id_ for id_ in self._due if id_ not in self._busy]:
                    await self._slots.acquire()
                    if command_id in self._busy:
                        self._slots.release()
                        continue
                    self._busy.add(command_id)
                    group.create_task(self._say(command_id, self._due.pop(command_id)))
                await self._news.wait()

    # --- publishing -----------------------------------------------------------------------------------

    async def _say(self, command_id: str, due: _Due) -> None:
        """In a slot, the command marked as busy; gives both back."""
        try:
            await self._publish(command_id, due)
        except (StateUnavailable, StateDamaged):  # the journal has told it
            await asyncio.sleep(RETRY)
            self.report(command_id, again=due.again)
        except Exception:  # noqa: BLE001 - one command's trouble is not the next one's
            _log.exception("a command can't be reported", command=command_id)
        finally:
            self._busy.discard(command_id)
            self._slots.release()
            self._news.set()

    async def _publish(self, command_id: str, due: _Due) -> None:
        found = await self._journal.read(command_id)
        if found is None:
            return
        entry, data = found
        if entry.confirmed and not due.again:
            return
        said = self._said.setdefault(command_id, set())
        reports = _opening(entry, self._journal.id)
        if due.progress is not None and not entry.done:
            progress = due.progress
            reports.append(Report(f"progressed-{progress.sequence}", progress, progress.at))
        reports = [report for report in reports if due.again or report.name not in said]
        if ends := entry.done and (due.again or COMPLETED not in said):
            await self._publish_end(entry, data, reports, again=due.again)
        elif reports:
            await self._gateway.publish_reports(command_id, reports, again=due.again)
        said.update(report.name for report in reports if not isinstance(report.body, CommandProgressed))
        if ends:
            said.add(COMPLETED)
            await self.published(entry)

    async def _publish_end(self, entry: Entry, data: bytes, before: Sequence[Report], *, again: bool) -> None:
        """The result: what does not fit into one message first. What is to be said `before` goes with it."""
        end = CommandCompleted.model_validate_json(entry.result)
        some = [*before]
        for part in parts(end, data):
            some.append(Report(f"part-{part.index}", part, end.executed_at))
            if len(some) >= PARTS_AT_ONCE or part.index == part.count - 1:
                if not await self._gateway.publish_reports(entry.id, some, again=again):
                    data = b""  # nobody could put the others together
                    break
                some = []
        for kept in (data, b"") if data else (data,):
            report = Report(COMPLETED, with_data(end, entry.data_size, kept), end.executed_at)
            if await self._gateway.publish_reports(entry.id, [*some, report], again=again):
                return
            some = []
        _log.error("a result is too large for the broker, whatever is left out", command=entry.id)

    async def published(self, entry: Entry) -> None:
        """The bus has the result; only the master's confirmation says that it is committed."""
        await reach(Point.COMMAND_AFTER_PUBLISH)
        self._progressed_at.pop(entry.id, None)
        self._unconfirmed.pop(entry.id, None)
        if self._journal.awaits_confirmation(entry.id):
            self._unconfirmed[entry.id] = asyncio.get_running_loop().time()
            self._filled.set()
        else:
            self._said.pop(entry.id, None)

    # --- until it is confirmed ------------------------------------------------------------------------

    async def _repeat(self) -> None:
        """Send again what is not confirmed for a while."""
        patience = self._patience
        while True:
            while not self._unconfirmed:
                patience = self._patience
                self._filled.clear()
                await self._filled.wait()
            if not await self._confirmed_within(patience * random.uniform(1 - JITTER, 1 + JITTER)):
                answered = await self._go_back()
                patience = self._patience if answered else min(2 * patience, LONGEST * self._patience)

    async def _go_back(self) -> bool:
        """Ask with one, then send window after window while they are confirmed. Whether any was."""
        window = 1
        while command_ids := self._longest_ago(window):
            self.repeated += len(command_ids)
            metrics.REPEATED.inc(len(command_ids))
            _log.info("results are sent again", results=len(command_ids), unconfirmed=len(self._unconfirmed))
            await asyncio.gather(*(self._send_again(command_id) for command_id in command_ids))
            while any(command_id in self._unconfirmed for command_id in command_ids):
                if not await self._confirmed_within(self._patience):
                    return window > 1
            while window == 1 and await self._confirmed_within(min(QUIET, self._patience)):
                pass  # it is on its way through what it has
            window = WINDOW
        return True

    def _longest_ago(self, most: int) -> list[str]:
        """Results that were sent a while ago."""
        until = asyncio.get_running_loop().time() - self._patience / 2
        found = [command_id for command_id, sent in self._unconfirmed.items() if sent <= until]
        return found[:most]

    async def _send_again(self, command_id: str) -> None:
        await self._slots.acquire()
        if command_id in self._busy:
            self._slots.release()
            return
        self._busy.add(command_id)
        await self._say(command_id, _Due(again=True))

    async def _confirmed_within(self, seconds: float) -> bool:
        """Whether anything is confirmed in that time."""
        self._confirmation.clear()
        return await set_within(self._confirmation, seconds)


def _opening(entry: Entry, journal: str) -> list[Report]:
    """That it was received, and that it was begun."""
    received = CommandReceived(command_id=entry.id, journal=journal, at=entry.received_at)
    reports = [Report("received", received, entry.received_at)]
    if entry.started_at is not None:
        started = CommandStarted(command_id=entry.id, at=entry.started_at)
        reports.append(Report("started", started, entry.started_at))
    return reports
