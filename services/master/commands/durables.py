"""The durable consumer of each agent on the stream of commands: made at first contact, and kept as is meant.

An agent has no right to make one; it binds to it by its name. Who the agents are is in the database, so the
consumers are made again from there when the broker has lost its store.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from schemas.ids import Target
from services.master.commands import consumers, metrics
from services.master.commands.consumers import SINCE, STREAM, Handed
from services.master.commands.skew import ClockSkew
from services.master.concurrently import all_of, for_each
from services.persistence.commands.attempts import Place
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.presence.known import count_known, known_targets
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus.client import ApiError, Bus, BusError
from services.runtime.bus.topology import STREAM_NOT_FOUND, parse_time
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

LOOK = 1.0
"""Seconds between two looks for new agents: one count of rows."""
STREAM_LOOK = 10.0
"""Seconds between two looks whether the stream is still the same one; also after each new connection."""
MEASUREMENTS = 3
"""How often it is tried to compare the clocks before anything is sent; slow answers hold it up no longer."""
MEASURE_AGAIN = 0.1
"""Seconds, at most, between the first two of them: what has made one slow may be over then."""
FULL_LOOK = 300.0
"""Seconds between two looks at all agents and the names of all consumers, whatever the counts say."""
AT_ONCE = 32
"""Requests to the broker at one time."""
REVIEW_PAUSE = 0.01
"""Seconds between two looks at consumers that are there already: nobody waits for them."""


class Durables:
    """Makes consumers, and knows which stream they are on."""

    def __init__(
        self,
        bus: Bus,
        db: Database,
        moving: Callable[[Place], Awaitable[None]],
        moved: Callable[[], None],
    ) -> None:
        """`moving` is awaited before commands go to another place than before, `moved` called afterwards, and
        when there are new consumers.
        """
        self._bus = bus
        self._db = db
        self._moving = moving
        self._moved = moved
        self._made: set[Target] = set()
        self._wanted: set[Target] = set()
        """Agents that somebody has commands for, and that had none."""
        self._known = -1
        """Rows of agents at the last look."""
        self._last_sequence = 0
        self._looking = asyncio.Lock()
        self._looked = 0.0
        """When the last look at the stream began, in monotonic seconds."""
        self.skew = ClockSkew()
        self._look = asyncio.Event()
        self.place: Place | None = None
        """Where commands go now; None while there is no stream."""
        self.since = time.monotonic()
        """Monotonic seconds when that began."""

    def has(self, target: Target) -> bool:
        """Whether an agent has its consumer; it is made soon where it is missing."""
        if target in self._made:
            return True
        self._wanted.add(target)
        self._look.set()
        return False

    def look(self) -> None:
        """Something is missing, or the connection is another one: look at once."""
        self._look.set()

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        self.place = None
        await all_of(self._keep, self._review_all)

    async def _keep(self) -> None:
        backoff = Backoff(base=0.2, cap=5.0)
        next_stream_look = next_full_look = 0.0
        complete: Place | None = None  # where no consumer was missing
        while True:
            await self._bus.wait_connected()
            now = time.monotonic()
            asked, place = self._look.is_set(), self.place
            self._look.clear()
            try:
                if asked or now >= next_stream_look or place is None or place.broker != self._bus.broker:
                    await self._look_at_stream()
                    next_stream_look = now + (LOOK if self.skew.ahead is None else STREAM_LOOK)
                if (place := self.place) is not None:
                    full = place != complete or now >= next_full_look
                    await self._make_missing(full=full)
                    complete, next_full_look = place, now + FULL_LOOK if full else next_full_look
            except (BusError, DatabaseUnavailable) as error:
                _log.warning("the agents' consumers cannot be looked at", reason=str(error))
                next_stream_look = next_full_look = 0.0
                await backoff.sleep()
            else:
                backoff.reset()
                await set_within(self._look, LOOK)

    async def _look_at_stream(self) -> None:
        """One at a time: no answer is applied after that to a later question."""
        wanted = time.monotonic()
        async with self._looking:
            if self._looked <= wanted:
                began = time.monotonic()
                await self._look_now()
                self._looked = began

    async def _look_now(self) -> None:
        broker = self._bus.broker
        try:
            info = await self._ask()
        except ApiError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            if self.place is not None:
                _log.warning("the stream of commands is gone: they wait", stream=STREAM)
            self.place = None
            return
        self._last_sequence = int(info["state"]["last_seq"])
        place = Place(parse_time(info["created"]), broker)
        if place != self.place:
            if self.place is None or place.created != self.place.created:
                self._made.clear()
            await self._moving(place)
            self.place, self.since = place, time.monotonic()
            self._moved()

    async def _ask(self) -> Mapping[str, Any]:
        """What the broker says of the stream. By its time there the clocks are compared, again and again
        before anything is sent.
        """
        backoff = Backoff(base=MEASURE_AGAIN)
        tries = 0
        while True:
            asked = time.monotonic()
            info = await self._bus.api(f"$JS.API.STREAM.INFO.{STREAM}")
            if "ts" in info:  # since nats-server 2.10
                await self.skew.measure(self._db, parse_time(info["ts"]), asked, time.monotonic())
            tries += 1
            if self.skew.ahead is not None or self.place is not None:
                return info
            if tries == MEASUREMENTS:
                _log.warning("the clocks of broker and database cannot be compared yet: taken for alike")
                return info
            await backoff.sleep()

    async def _make_missing(self, *, full: bool) -> None:
        known = await count_known(self._db)
        if not full and known == self._known and not self._wanted:
            return
        targets = set(await known_targets(self._db)) | self._wanted
        if full:
            there = await consumers.names(self._bus)
            self._made = {target for target in targets if target.durable in there}
        if missing := targets - self._made:
            await self._look_at_stream()  # how far it is says what their consumers cannot know
            await self._make(sorted(missing))
            self._moved()
        self._known = known
        self._wanted -= self._made
        metrics.CONSUMERS.set(len(self._made))

    async def _make(self, targets: Collection[Target]) -> None:
        """Make them, several at a time; raises the first error when all have had their turn.

        First those that somebody has commands for, also when that is only so meanwhile.
        """
        errors: list[BusError] = []
        left = dict.fromkeys(targets)

        async def make(_: Target) -> None:
            target = next((wanted for wanted in self._wanted if wanted in left), next(iter(left)))
            del left[target]
            try:
                await self.ensure(target)
            except BusError as error:
                errors.append(error)

        await for_each(targets, make, AT_ONCE)
        if errors:
            raise errors[0]

    async def _review_all(self) -> None:
        """Look at every consumer that was there before us, slowly: an earlier version may have made it."""
        reviewed: set[Target] = set()
        while True:
            for target in sorted(self._made - reviewed):
                await self._bus.wait_connected()
                with suppress(BusError):
                    await self._review(target)
                    reviewed.add(target)
                await asyncio.sleep(REVIEW_PAUSE)
            await asyncio.sleep(LOOK)

    # --- one consumer --------------------------------------------------------------------------------

    async def ensure(self, target: Target) -> None:
        """Make an agent's consumer where there is none. Raises BusError."""
        if await consumers.make(self._bus, target, self._last_sequence):
            metrics.CONSUMERS_MADE.inc()
            _log.info("consumer made", agent=str(target))
        else:
            await self._review(target)
        self._made.add(target)
        self._wanted.discard(target)

    async def handed(self, target: Target) -> Handed | None:
        """How far the broker has handed out an agent's commands; None: its consumer was gone, it is made
        again, and what it would have known is lost. Raises BusError.
        """
        info = await consumers.info_of(self._bus, target)
        if info is None:
            self._made.discard(target)
            await self._look_at_stream()
            await self.ensure(target)
            return None
        metadata = info["config"].get("metadata") or {}
        since = metadata.get(SINCE, "")
        return Handed(
            since=int(since) if since.isdigit() else self._last_sequence,
            delivered=int(info["delivered"]["stream_seq"]),
        )

    async def _review(self, target: Target) -> None:
        """Change what is not as it should be; one that is gone is made before long. Raises BusError."""
        info = await consumers.info_of(self._bus, target)
        if info is None:
            self._made.discard(target)
        elif await consumers.mend(self._bus, target, info):
            _log.info("consumer changed", agent=str(target))
