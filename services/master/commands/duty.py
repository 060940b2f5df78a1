"""What the holder of the lease `commands` does: all that the master's side of commands is."""

import asyncio
from collections.abc import Sequence

from schemas import subjects
from schemas.commands import OPEN_STATES
from services.master.commands import metrics
from services.master.commands.cancels import Cancels
from services.master.commands.confirmations import ResultConfirmations
from services.master.commands.durables import Durables
from services.master.commands.hints import Hints
from services.master.commands.operations import Operations
from services.master.commands.questions import Questions
from services.master.commands.relay import Relay
from services.master.commands.results import ResultReader
from services.master.commands.sender import Sender
from services.master.commands.timing import Timing
from services.master.concurrently import all_of
from services.master.parts import Parts
from services.master.teller import Teller
from services.persistence.commands import outbox
from services.persistence.commands.attempts import Place
from services.persistence.commands.figures import figures
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.presence.clockwatch import ClockWatch
from services.runtime import logs
from services.runtime.bus.consumer import Consumer

_log = logs.get_logger(__name__)

_MEASURE = 5.0
"""Seconds between two looks at how many commands there are."""


class CommandsDuty:
    """Composes the parts; each has a `run`, and is woken by what the others and the apis do."""

    def __init__(self, parts: Parts) -> None:
        self._bus, self._db, self._work = parts.bus, parts.db, parts.work
        source = subjects.service_source("master", parts.bus.name)
        teller, timing = Teller(parts.bus), Timing.of(parts.settings)
        self._hints = Hints(teller, source)
        self._confirmations = ResultConfirmations(teller)
        self._durables = Durables(parts.bus, parts.db, self._moving, self._moved)
        sender = Sender(parts.bus, source, self._durables.skew)
        self._clock = ClockWatch(parts.db)
        self._cancels = Cancels(parts.db, teller, self._hints)
        self._results = ResultReader(
            parts.bus, parts.db, parts.work, self._hints, self._confirmations, self._cancels.tell_now, timing
        )
        self._relay = Relay(
            parts.bus, parts.db, parts.work, self._durables, sender, self._hints, timing, self._clock
        )
        self._questions = Questions(
            parts.bus,
            parts.db,
            parts.work,
            self._durables,
            sender,
            self._hints,
            self._results,
            timing,
        )
        self._operations = Operations(parts.db, self._hints, self._relay.wake)
        self._hints.listener = self._operations.moved
        self._begun = False
        self.consumers: Sequence[Consumer] = (self._results.consumer,)

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost, DatabaseUnavailable."""
        self._begun = False
        hear = self._hints.heard_by(self._wake)
        subscription = await self._bus.subscribe(subjects.COMMANDS_CHANGED, hear, self._durables.look)
        try:
            await all_of(
                *(
                    self._clock.run,
                    self._durables.run,
                    self._relay.run,
                    self._questions.run,
                    self._results.consumer.run,
                    self._confirmations.run,
                    self._cancels.run,
                    self._operations.run,
                    self._hints.run,
                    self._measure,
                )
            )
        finally:
            await subscription.close()
            self._work.forget()

    def _wake(self) -> None:
        self._relay.wake()
        self._cancels.wake()
        self._operations.wake()

    async def _moving(self, place: Place) -> None:
        """Commands go to another place from now on; at our start also from a master that did not note all."""
        if hastened := await outbox.hasten(self._db, place, unnoted=not self._begun):
            _log.info("commands are asked about at once", commands=hastened)
        self._begun = True

    def _moved(self) -> None:
        self._relay.wake()
        self._questions.wake()

    async def _measure(self) -> None:
        """Keep the gauges current."""
        try:
            while True:
                try:
                    now = await figures(self._db)
                except DatabaseUnavailable:
                    pass  # the others tell of that
                else:
                    for state in OPEN_STATES:
                        metrics.OPEN.labels(state=state.value).set(now.by_state.get(state, 0))
                    metrics.OUTBOX_DUE.set(now.due)
                    metrics.OUTBOX_OLDEST.set(now.oldest)
                await asyncio.sleep(_MEASURE)
        finally:
            metrics.OPEN.clear()
            metrics.OUTBOX_DUE.set(0)
            metrics.OUTBOX_OLDEST.set(0)
