"""Publishes observed events: one message per version, never in frames, until the master has committed it.

Each version goes into the spool first, then to the bus, and leaves the spool when the master confirms it.
What is not confirmed for a while is sent again, in order, from the oldest on (go-back-N): one as a question,
which a master that was only late answers for all, and then window by window, each after the one before is
confirmed. So nothing storms while no master runs, and a fleet comes back no faster than it is read.
"""

import asyncio
import random
from collections.abc import Sequence

from services.agent.capability import Capability, Observed
from services.agent.gateway.interfaces import MasterGateway
from services.agent.scheduler.ledger import Gone, Ledger
from services.agent.store.file import StateDamaged
from services.agent.store.rows import Spooled
from services.agent.store.spool import Spool
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

BATCH = 500
"""Events that go into the spool together."""
BATCH_BYTES = 1024 * 1024
UNDER_WAY = 64
"""Events on their way to the bus at once."""
WINDOW = 512
"""Events sent again before the next confirmation."""
QUIET = 2.0
"""Seconds without a further confirmation after which a master that has answered the question is not on its
way through what we sent before, but lacks it. Twice the pause between two of its confirmations."""
JITTER = 0.2
"""Fraction by which the time to a question is spread, so that a fleet does not ask at one moment."""


class EventScheduler:
    """Sends the events of one agent.

    `flush_interval`: seconds in which versions of one may coalesce. `patience`: seconds without a
    confirmation after which they are sent again.
    """

    def __init__(
        self,
        capability: Capability,
        gateway: MasterGateway,
        spool: Spool,
        *,
        flush_interval: float,
        patience: float,
    ) -> None:
        self._capability = capability
        self._gateway = gateway
        self._spool = spool
        self._flush_interval = flush_interval
        self._patience = patience
        self._ledger = Ledger(outlive=True)
        self._reached = 0
        """The place in the spool up to which everything was sent once."""
        self._news = asyncio.Event()
        self._progress = asyncio.Event()
        self._sending = asyncio.Lock()
        """Held while a batch is sent, so that what is sent again and what is new do not mix."""
        self.published = 0
        """Events the bus has taken since the agent started, each counted once."""
        self.repeated = 0
        """Events sent again since the agent started."""

    def by_type(self) -> dict[str, int]:
        """Events that are still present, by type."""
        return dict(self._ledger.summary.events)

    @property
    def pending(self) -> int:
        """Events waiting to be taken into the spool."""
        return self._ledger.pending

    async def confirmed(self, epoch: str, sequence: int) -> None:
        """The master has committed the events of `epoch` up to `sequence`."""
        if await self._spool.confirm(epoch, sequence):
            self._progress.set()

    async def run(self) -> None:
        """Until cancelled. When the spool is lost, what the source still has is taken and sent anew."""
        backoff = Backoff(base=0.5, cap=30.0)
        while True:
            try:
                await self._run_once()
            except* StateDamaged:
                _log.error("the spool is lost: what is still there is taken and sent anew")
            await backoff.sleep()

    async def _run_once(self) -> None:
        self._ledger = Ledger(outlive=True)
        for observed in await self._spool.begin():
            self._ledger.assume(observed)
        self._reached = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._capability.follow_events(self._ledger), name="follow events")
            group.create_task(self._take(), name="take events")
            group.create_task(self._publish(), name="publish events")
            group.create_task(self._repeat(), name="repeat events")
            group.create_task(self._spool.recover(), name="recover the spool")

    async def _take(self) -> None:
        """From the source into the spool."""
        while True:
            await self._ledger.wait()
            await asyncio.sleep(self._flush_interval)
            while self._ledger.pending:
                changes = self._ledger.take(BATCH, BATCH_BYTES).changes
                # A deletion is the source forgetting; what was observed has still happened.
                gone = [(change.resource, change.key) for change in changes if isinstance(change, Gone)]
                await self._spool.append([item for item in changes if isinstance(item, Observed)], gone)
                await reach(Point.EVENTS_AFTER_SPOOL)
                self._news.set()

    async def _publish(self) -> None:
        """From the spool to the bus, each once; after a start also what was there before."""
        while True:
            self._news.clear()
            events = await self._spool.after(self._reached, UNDER_WAY)
            if not events:
                await self._news.wait()
                continue
            await self._send(events, again=False)
            self._reached = events[-1].number
            self.published += len(events)

    async def _send(self, events: Sequence[Spooled], *, again: bool) -> None:
        async with self._sending:
            kept = [event for event in events if self._spool.keeps(event)]
            too_large = await self._gateway.publish_events(kept, self._spool.first, again=again)
        if too_large:
            await self._spool.discard([event.number for event in too_large], "too large")

    # --- until it is confirmed ------------------------------------------------------------------------

    async def _repeat(self) -> None:
        """Send again what is not confirmed for a while."""
        while True:
            await self._spool.wait_unconfirmed()
            if not await self._confirmed_within(self._patience * random.uniform(1 - JITTER, 1 + JITTER)):
                await self._go_back()

    async def _go_back(self) -> None:
        """Ask with the oldest, then send window after window for as long as they are confirmed."""
        window = 1
        while events := await self._oldest(window):
            self.repeated += len(events)
            _log.info("events are sent again", events=len(events), unconfirmed=self._spool.unconfirmed)
            await self._send(events, again=True)
            while self._spool.keeps(events[-1]):
                if not await self._confirmed_within(self._patience):
                    return
            while window == 1 and await self._confirmed_within(min(QUIET, self._patience)):
                pass  # it is on its way through what it has
            window = WINDOW

    async def _oldest(self, most: int) -> list[Spooled]:
        """The oldest that were sent before and are not confirmed."""
        return [event for event in await self._spool.after(0, most) if event.number <= self._reached]

    async def _confirmed_within(self, seconds: float) -> bool:
        """Whether anything is confirmed in that time."""
        self._progress.clear()
        return await set_within(self._progress, seconds)
