"""From the outbox to the stream of commands: what was accepted is sent, at once and once."""

import asyncio
import time

from schemas import topology
from services.master.commands import metrics
from services.master.commands.durables import Durables
from services.master.commands.hints import Hints
from services.master.commands.sender import Sender
from services.master.commands.timing import Timing
from services.master.work import DatabaseWork
from services.persistence.commands import outbox
from services.persistence.commands.attempts import Attempt, Outcome
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.presence.clockwatch import ClockWatch
from services.runtime.backoff import Backoff
from services.runtime.bus.client import Bus
from services.runtime.bus.consumer import Retry
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import set_within

BATCH = 256
"""Commands in one transaction, and on their way at one time."""
LOOK = 1.0
"""Seconds between two looks at the outbox when nobody has hinted at anything."""
RETURNS = 0.1
"""Seconds, at least, between two looks for agents that are back: what was held goes before what is new."""
GIVES_WAY = 0.25
"""Seconds, at most, between two full looks that moved nothing: as long as the last one took."""
HELD = 10.0
"""Seconds between two looks whether anything is held that we do not know of."""


class Relay:
    """Sends commands for the first time. One transaction notes the last batch and counts the next one."""

    def __init__(
        self,
        bus: Bus,
        db: Database,
        work: DatabaseWork,
        durables: Durables,
        sender: Sender,
        hints: Hints,
        timing: Timing,
        clock: ClockWatch,
    ) -> None:
        self._bus = bus
        self._db = db
        self._work = work
        self._durables = durables
        self._sender = sender
        self._hints = hints
        self._timing = timing
        self._clock = clock
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        backoff = Backoff(base=0.1, cap=2.0)
        made: list[Attempt] = []
        held, next_held, next_returns, soon = True, 0.0, 0.0, 0.0
        self._sender.under_way = set()
        while True:
            await self._bus.wait_connected()
            self._wake.clear()
            place = self._durables.place
            timing, began = self._timing, time.monotonic()
            try:
                judging = self._clock.stands() is None
                now = time.monotonic()
                if now >= (next_returns if held else next_held):
                    held, next_held = await outbox.any_held(self._db), now + HELD
                    if held:
                        await outbox.hasten_returned(self._db, reachable=self._durables.has, judging=judging)
                    next_returns = now + RETURNS
                look = outbox.send_new(
                    self._db,
                    made,
                    timing.pace,
                    timing.grace,
                    BATCH,
                    sendable=place is not None,
                    reachable=self._durables.has,
                    judging=judging,
                    holding=held,
                )
                turn = await self._work.run(topology.COMMANDS, look)
            except (DatabaseUnavailable, Retry):
                held = True  # something may be, should the transaction have gone through
                await backoff.sleep()
                continue
            backoff.reset()
            if made:
                await reach(Point.COMMAND_AFTER_SENT)
            held |= turn.held
            if turn.soon:
                soon = time.monotonic() + outbox.SOON.total_seconds()
            self._count(turn)
            self._hints.changed(turn.changed, [move.command_id for move in turn.ended])
            made = []
            self._sender.under_way = {item.command_id for item in turn.outgoing}
            if turn.outgoing:
                assert place is not None
                counted = time.monotonic()
                made = await self._sender.send(turn.outgoing, place)
                ages = {item.command_id: item.age for item in turn.outgoing}
                for attempt in made:
                    if attempt.outcome is Outcome.STORED:
                        metrics.SENT.inc()
                        metrics.SEND_SECONDS.observe(ages[attempt.command_id] + attempt.at - counted)
                if any(attempt.outcome is Outcome.WITHHELD for attempt in made):
                    self._durables.look()
            elif not turn.full:
                left = soon - time.monotonic()
                await set_within(self._wake, left if left > 0 else LOOK)
            elif not turn.ended:
                # All of them are held again: however many there are, half of the time is everybody else's.
                await asyncio.sleep(min(time.monotonic() - began, GIVES_WAY))

    def _count(self, turn: outbox.Turn) -> None:
        for move in turn.ended:
            metrics.ENDED.labels(state=move.state.value).inc()
