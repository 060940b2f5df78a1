"""Asking what has become of commands that were sent, and judging those whose time is over.

A command that is sent again is a question: an agent that has it in its journal says again what it has said
before, and does nothing. What needs no question is not asked: as long as the broker says that it has never
handed the command out, it waits, and when its time is over then, it has certainly not been begun.

The clock is the database's: it is the one of the deadlines in the rows, it is the same for all masters, and
it goes on when the broker's does not. The broker is told durations only (`Nats-TTL`).
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from schemas import topology
from schemas.commands import CommandState, ErrorCode
from schemas.ids import Target
from services.master.commands import metrics
from services.master.commands.consumers import Handed
from services.master.commands.durables import Durables
from services.master.commands.hints import Hints
from services.master.commands.results import ResultReader
from services.master.commands.sender import Sender
from services.master.commands.timing import Timing
from services.master.concurrently import for_each
from services.master.work import DatabaseWork
from services.persistence.commands import outbox
from services.persistence.commands.attempts import Attempt, Outcome, Place
from services.persistence.commands.pace import MARGIN
from services.persistence.commands.states import Move, ending
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.targets import target_of
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus.client import Bus, BusError, BusUnavailable
from services.runtime.bus.consumer import Retry
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

BATCH = 500
LOOK = 1.0
"""Seconds between two looks at what is due."""
JOURNALS = 5.0
"""Seconds between two looks whether an agent has another journal than before."""
ANSWER = 10.0
"""Seconds that an agent with another journal has to say itself what has become of a command."""
_REMEMBERED = 60.0
"""Seconds for which it is known when such an agent was asked; a command ends long before."""
SOON = timedelta(seconds=1)
AT_ONCE = 32
"""Requests to the broker at one time."""


class Questions:
    """Looks after commands that were sent."""

    def __init__(
        self,
        bus: Bus,
        db: Database,
        work: DatabaseWork,
        durables: Durables,
        sender: Sender,
        hints: Hints,
        results: ResultReader,
        timing: Timing,
    ) -> None:
        self._bus = bus
        self._db = db
        self._work = work
        self._durables = durables
        self._sender = sender
        self._hints = hints
        self._results = results
        self._timing = timing
        self._wake = asyncio.Event()
        self._asked_anew: dict[str, float] = {}
        """Commands of lost journals: when their agents were asked, in monotonic seconds."""

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        backoff = Backoff(base=LOOK, cap=2.0)
        next_journals = 0.0
        while True:
            await self._bus.wait_connected()
            self._wake.clear()
            full = False
            try:
                if time.monotonic() >= next_journals:
                    await outbox.hasten_lost_journals(self._db)
                    next_journals = time.monotonic() + JOURNALS
                full = await self._turn()
            except (BusError, DatabaseUnavailable, Retry) as error:
                if not backoff.attempts:
                    _log.warning("commands cannot be asked about", reason=str(error))
                await backoff.sleep()
            else:
                backoff.reset()
            if not full:
                await set_within(self._wake, LOOK)

    async def _turn(self) -> bool:
        """Deal with what is due; whether there is more."""
        now, rows, journals = await outbox.due_again(self._db, BATCH)
        if not rows:
            return False
        place = self._durables.place
        handed = await self._handed({target_of(row) for row in rows}) if place is not None else {}
        heard = await self._heard(now, rows)
        ask: list[Any] = []
        until: dict[str, datetime] = {}
        ends: list[Move] = []
        for row in rows:
            if row.id in self._sender.under_way:
                until[row.id] = now + SOON
                continue
            target = target_of(row)
            match self._judge(row, now, place, handed.get(target), journals.get(target, ""), heard):
                case Move() as move:
                    ends.append(move)
                case datetime() as later:
                    until[row.id] = later
                case None:
                    ask.append(row)
        timing = self._timing
        again = outbox.send_again(self._db, ask, until, ends, timing.pace, timing.grace)
        turn = await self._work.run(topology.COMMANDS, again)
        self._forget_asked()
        self._hints.changed(turn.changed, [move.command_id for move in turn.ended])
        for move in turn.ended:
            metrics.ENDED.labels(state=move.state.value).inc()
            _log.info("command ended by the master", id=move.command_id, state=move.state.value)
        if turn.outgoing:
            assert place is not None
            await self._note(await self._sender.send(turn.outgoing, place))
        return len(rows) == BATCH

    def _forget_asked(self) -> None:
        ago = time.monotonic() - _REMEMBERED
        self._asked_anew = {one: asked for one, asked in self._asked_anew.items() if asked > ago}

    async def _note(self, made: list[Attempt]) -> None:
        stored = sum(attempt.outcome is Outcome.STORED for attempt in made)
        metrics.ASKED.inc(stored)
        if stored < len(made):
            self._durables.look()
        moves = await self._work.run(topology.COMMANDS, outbox.note(self._db, made))
        self._hints.changed(
            [move.command_id for move in moves],
            [move.command_id for move in moves if move.state.terminal],
        )

    def _judge(
        self,
        row: Any,
        now: datetime,
        place: Place | None,
        handed: Handed | None,
        journal: str,
        heard: bool,
    ) -> Move | datetime | None:
        """Its end, until when it waits, or None: it is asked about.

        `heard`: all that agents have said is applied.
        """
        timing = self._timing
        waits = (
            place is not None
            and handed is not None
            and row.stream_sequence > 0
            and place == Place(row.stream_created, row.broker)
            and handed.never(row.stream_sequence)
        )
        if waits and row.state in (CommandState.ACCEPTED, CommandState.SENT):
            if now >= row.start_by + MARGIN:
                if row.cancel_requested_at is not None:
                    return outbox.canceled(row, now, before="its agent fetched it")
                return ending(row.id, CommandState.EXPIRED, now, ErrorCode.LATE, _NOT_FETCHED)
            return timing.pace.next(now, row, timing.grace)
        if now >= row.finish_by + timing.grace:
            return (
                ending(row.id, CommandState.UNKNOWN, now, ErrorCode.TIMEOUT, _in_doubt(row))
                if heard
                else now + SOON
            )
        if place is None:
            return now + SOON
        if journal and journal != row.journal:
            asked = self._asked_anew.setdefault(row.id, time.monotonic())
            if time.monotonic() - asked > ANSWER and heard:
                return ending(row.id, CommandState.UNKNOWN, now, ErrorCode.JOURNAL_LOST, _JOURNAL_LOST)
            if asked < time.monotonic() - SOON.total_seconds():
                return now + SOON
        return None

    async def _handed(self, targets: set[Target]) -> Mapping[Target, Handed | None]:
        """How far the broker has handed out the commands of these agents."""
        found: dict[Target, Handed | None] = {}

        async def look(target: Target) -> None:
            try:
                found[target] = await self._durables.handed(target)
            except BusUnavailable:
                raise
            except BusError as error:
                _log.warning("a consumer cannot be looked at", agent=str(target), reason=str(error))

        await for_each(targets, look, AT_ONCE)
        return found

    async def _heard(self, now: datetime, rows: list[Any]) -> bool:
        """Whether all that agents had said by now is applied: only then a silence is one.

        After the broker was away they get a moment to say again what was not confirmed.
        """
        grace = self._timing.grace
        lost = bool(self._asked_anew)
        if not lost and all(now < row.finish_by + grace for row in rows):
            return False  # nobody asks
        if time.monotonic() - self._durables.since < grace.total_seconds():
            return False
        return await self._results.caught_up()


_NOT_FETCHED = (
    "its agent did not fetch it by its start_by, so nothing was done: the broker never handed it out"
)
_JOURNAL_LOST = (
    "its agent received it, or may have, and has lost its journal since: nobody can prove what became of it; "
    "look at the object itself"
)


def _in_doubt(row: Any) -> str:
    if row.state in (CommandState.RECEIVED, CommandState.RUNNING):
        return (
            f"its agent had it ({row.state}) and has not reported its end by finish_by; "
            "what it reports later is attached as evidence"
        )
    return (
        "it was sent, and its agent has not said by finish_by whether it had it; "
        "what it reports later is attached as evidence"
    )
