"""The loop of every reader of a stream: fetch, check, handle, settle. One unreadable message stops nobody.

Where a reader stands is either a cursor that its handler commits together with the effect (SQL), or the
acknowledgements of a durable consumer. Both deliver at least once; the cursor is also without gaps.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

from schemas.errors import ContractError
from schemas.topology import Stream
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus import metrics
from services.runtime.bus.backlog import Backlog, Fetched, Room
from services.runtime.bus.client import Bus, BusUnavailable
from services.runtime.bus.cursor import Cursor, CursorStore, ReaderReplaced
from services.runtime.bus.deadletters import DeadLetters
from services.runtime.bus.delivery import Delivery, Message, Rejected, read
from services.runtime.bus.position import AckPosition, CursorPosition, Session
from services.runtime.bus.pull import ConsumerGone
from services.runtime.failpoints import Point, reach

__all__ = [
    "AckPosition",
    "Consumer",
    "Cursor",
    "CursorPosition",
    "CursorStore",
    "Delivery",
    "Handler",
    "ReaderReplaced",
    "Rejected",
    "Retry",
    "Room",
]

_log = logs.get_logger(__name__)

MAX_ATTEMPTS = 8
"""Calls of a handler for one message before it goes to the dead letters."""
RETRY_CAP = 5.0
"""Seconds at most between two calls of a handler that fails."""
_SLICE = 0.008
"""Seconds of decoding after which other tasks get their turn."""


class Retry(Exception):
    """Raised by a handler: not now, for a cause outside of the message (the database is away).

    Repeated for ever.
    """


class Handler(Protocol):
    """Handles a batch, in the stream's order; called with one message at a time after a failure.

    With a cursor it commits its effect and the cursor in one transaction, and it may handle the first ones
    only: it returns how many (None: all), commits a cursor before the others, and is called with those again
    after what has come meanwhile and may not wait. It raises ContractError for a
    message that cannot be applied (dead letter), Retry for trouble that is not the message's, ReaderReplaced
    when it is not to go on; whatever else it raises is repeated MAX_ATTEMPTS times before the message goes to
    the dead letters.
    """

    async def __call__(self, deliveries: Sequence[Delivery], cursor: Cursor | None, /) -> int | None: ...


OnPoison = Callable[[Rejected], Awaitable[None]]
MayWait = Callable[[Sequence[Message]], Awaitable[Collection[str]]]
"""The subjects of these messages that may wait until no others are there. It does not raise."""


class Consumer:
    """Reads `filters` of a stream from a position on, for ever: `await consumer.run()`.

    `service` names the reader on the dead letters; `on_poison` is told of each message that went there,
    after it is stored. `may_wait`, for readers with a cursor: the handler is given messages of other subjects
    first, and `room` says how far ahead is read for them; the order within a subject is the stream's.
    `linger`: seconds that what comes first waits for what was sent with it, to be handled as one batch.
    """

    def __init__(
        self,
        bus: Bus,
        stream: Stream,
        filters: Sequence[str],
        position: CursorPosition | AckPosition,
        handler: Handler,
        *,
        service: str,
        batch: int = 100,
        max_attempts: int = MAX_ATTEMPTS,
        on_poison: OnPoison | None = None,
        may_wait: MayWait | None = None,
        room: Room | None = None,
        linger: float = 0.0,
    ) -> None:
        self.stream = stream
        self.lag = 0
        """Messages that are not handled yet, as of the last fetch."""
        self.last_error = ""
        """Why nothing is read now; empty while all is well."""
        self._bus = bus
        self._filters = filters
        self._position = position
        self._handler = handler
        self._batch = batch
        self._max_attempts = max_attempts
        self._dead_letters = DeadLetters(bus, service)
        self._on_poison = on_poison
        self._may_wait = may_wait
        self._room = room or Room(0)
        self._linger = linger

    def health(self) -> str | None:
        """A readiness check."""
        return self.last_error or None

    async def run(self) -> None:
        """Until cancelled. Whatever fails is begun again from the position, with back-off.

        Raises ReaderReplaced when a handler or the cursor's store does.
        """
        try:
            await self._read_on()
        finally:
            metrics.LAG.remove(self.stream.name, self._position.name)

    async def _read_on(self) -> None:
        backoff = Backoff(base=0.1, cap=2.0)
        while True:
            await self._bus.wait_connected()
            started = time.monotonic()
            try:
                async with self._position.open(self._bus, self.stream, self._filters, self._batch) as session:
                    self.last_error = ""
                    with Backlog(self._room) as backlog:
                        await self._work_off(session, backlog)
            except (ConsumerGone, BusUnavailable) as error:
                _log.info(
                    "reading again", stream=self.stream.name, position=self._position.name, reason=error
                )
                self.last_error = str(error)
            except ReaderReplaced:
                raise
            except Exception as error:  # noqa: BLE001 - a reader never ends; the cause is told by health
                if str(error) != self.last_error:
                    _log.error(
                        "cannot read", stream=self.stream.name, position=self._position.name, reason=error
                    )
                self.last_error = str(error) or type(error).__name__
            if time.monotonic() - started > RETRY_CAP:
                backoff.reset()
            await backoff.sleep()

    async def _work_off(self, session: Session, backlog: Backlog) -> None:
        """Fetch and handle; a look at what is new follows each call of the handler."""
        while True:
            if not backlog.full:
                messages = await session.take(wait=not backlog)
                if self._linger and messages and not backlog:
                    await asyncio.sleep(self._linger)
                    messages += await session.take(wait=False)
                waiting = await self._may_wait(messages) if self._may_wait and messages else ()
                backlog.add(messages, waiting)
            if backlog:
                await self._process(session, backlog)

    async def _process(self, session: Session, backlog: Backlog) -> None:
        portion = await self._read(session, backlog, backlog.portion(self._batch))
        deliveries = [item.delivery for item in portion if item.delivery is not None]
        handled = await self._handle(session, deliveries, backlog.reached(portion))
        await reach(Point.CONSUMER_BEFORE_SETTLE)
        await session.settle([item.message for item in portion[:handled]])
        for item in portion[:handled]:
            backlog.done(item)
        self.lag = backlog.lag
        metrics.LAG.labels(stream=self.stream.name, position=self._position.name).set(self.lag)
        metrics.HANDLED.labels(stream=self.stream.name).inc(handled)

    async def _read(self, session: Session, backlog: Backlog, portion: list[Fetched]) -> list[Fetched]:
        """Those that keep the contract; the others go to the dead letters."""
        good: list[Fetched] = []
        slice_end = time.monotonic() + _SLICE
        for item in portion:
            result = item.delivery or read(item.message, self.stream)
            if isinstance(result, Rejected):
                await self._bury(session, result)
                await session.settle([item.message])
                backlog.done(item)
            else:
                item.delivery = result
                good.append(item)
            if time.monotonic() > slice_end:
                await asyncio.sleep(0)
                slice_end = time.monotonic() + _SLICE
        return good

    async def _handle(self, session: Session, deliveries: list[Delivery], reached: int) -> int:
        """Have the first ones handled, whatever it takes; how many. The position is `reached` after all."""
        backoff = Backoff(base=0.1, cap=RETRY_CAP)
        failures = 0
        while deliveries:
            try:
                handled = await self._handler(deliveries, session.cursor(reached))
                return len(deliveries) if handled is None else handled
            except Retry as error:
                _log.warning("handler asks for a retry", stream=self.stream.name, reason=error)
            except ReaderReplaced:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a handler raises must not end the reader
                if len(deliveries) > 1:
                    _log.warning("batch failed, handling one by one", stream=self.stream.name, reason=error)
                    for delivery in deliveries:
                        behind = min(delivery.stream_sequence, reached)
                        while not await self._handle(session, [delivery], behind):
                            pass  # a part of it was done
                    break
                failures += 1
                poisonous = isinstance(error, ContractError)
                if poisonous or failures >= self._max_attempts:
                    reason = str(error) if poisonous else f"{failures} attempts failed: {_text(error)}"
                    await self._bury(session, _reject(deliveries[0], self.stream, reason))
                    break
                _log.warning("handler failed", stream=self.stream.name, attempt=failures, exc_info=True)
            metrics.RETRIES.labels(stream=self.stream.name).inc()
            await backoff.sleep()
        await self._until_done(lambda: session.skip(reached), "move the position")
        return len(deliveries)

    async def _bury(self, session: Session, rejected: Rejected) -> None:
        message = rejected.message
        _log.warning(
            "message goes to the dead letters",
            stream=self.stream.name,
            sequence=message.sequence,
            subject=message.subject,
            reason=rejected.reason,
        )
        await self._until_done(
            lambda: self._dead_letters.put(rejected, session.created), "store a dead letter"
        )
        metrics.DEAD_LETTERS.labels(stream=self.stream.name).inc()
        if self._on_poison is not None:
            try:
                await self._on_poison(rejected)
            except ReaderReplaced:
                raise
            except Exception:  # noqa: BLE001 - the message is safe already
                _log.exception("the hook for poison failed", stream=self.stream.name)

    async def _until_done(self, step: Callable[[], Awaitable[Any]], what: str) -> None:
        """Repeat a step that must not be left out."""
        backoff = Backoff(base=0.1, cap=RETRY_CAP)
        while True:
            try:
                await step()
            except ReaderReplaced:
                raise
            except Exception as error:  # noqa: BLE001 - repeated until it succeeds; the cause is told by health
                text = f"cannot {what}: {_text(error)}"
                if text != self.last_error:
                    _log.error("trying again", stream=self.stream.name, reason=text)
                self.last_error = text
                await self._bus.pause(backoff)
            else:
                self.last_error = ""
                return


def _reject(delivery: Delivery, stream: Stream, reason: str) -> Rejected:
    return Rejected(reason, stream.name, delivery.message, delivery.subject, delivery.envelope)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
