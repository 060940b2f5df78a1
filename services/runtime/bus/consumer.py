"""The loop of every reader of a stream: fetch, check, handle, settle. One unreadable message stops nobody.

Where a reader stands is either a cursor that its handler commits together with the effect (SQL), or the
acknowledgements of a durable consumer. Both deliver at least once; the cursor is also without gaps.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from schemas.errors import ContractError
from schemas.topology import Stream
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus import metrics
from services.runtime.bus.client import Bus, BusUnavailable
from services.runtime.bus.cursor import Cursor, CursorStore
from services.runtime.bus.deadletters import DeadLetters
from services.runtime.bus.delivery import Delivery, Message, Rejected, read
from services.runtime.bus.position import AckPosition, CursorPosition, Session
from services.runtime.bus.pull import ConsumerGone

__all__ = [
    "AckPosition",
    "Consumer",
    "Cursor",
    "CursorPosition",
    "CursorStore",
    "Delivery",
    "Handler",
    "Rejected",
    "Retry",
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

    With a cursor it commits its effect and the cursor in one transaction. It raises ContractError for a
    message that cannot be applied (dead letter), Retry for trouble that is not the message's, and whatever
    else it raises is repeated MAX_ATTEMPTS times before the message goes to the dead letters.
    """

    async def __call__(self, deliveries: Sequence[Delivery], cursor: Cursor | None, /) -> None: ...


OnPoison = Callable[[Rejected], Awaitable[None]]


class Consumer:
    """Reads `filters` of a stream from a position on, for ever: `await consumer.run()`.

    `service` names the reader on the dead letters; `on_poison` is told of each message that went there,
    after it is stored.
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
    ) -> None:
        self.stream = stream
        self.lag = 0
        """Messages that follow the last one handled, when it was fetched."""
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

    def health(self) -> str | None:
        """A readiness check."""
        return self.last_error or None

    async def run(self) -> None:
        """Until cancelled. Whatever fails is begun again from the position, with back-off."""
        backoff = Backoff(base=0.1, cap=2.0)
        while True:
            await self._bus.wait_connected()
            started = time.monotonic()
            try:
                async with self._position.open(self._bus, self.stream, self._filters, self._batch) as session:
                    self.last_error = ""
                    while True:
                        await self._process(session, await session.take())
            except (ConsumerGone, BusUnavailable) as error:
                _log.info(
                    "reading again", stream=self.stream.name, position=self._position.name, reason=error
                )
                self.last_error = str(error)
            except Exception as error:  # noqa: BLE001 - a reader never ends; the cause is told by health
                if str(error) != self.last_error:
                    _log.error(
                        "cannot read", stream=self.stream.name, position=self._position.name, reason=error
                    )
                self.last_error = str(error) or type(error).__name__
            if time.monotonic() - started > RETRY_CAP:
                backoff.reset()
            await backoff.sleep()

    async def _process(self, session: Session, messages: list[Message]) -> None:
        if not messages:
            return
        good: list[Delivery] = []
        slice_end = time.monotonic() + _SLICE
        for message in messages:
            result = read(message, self.stream)
            if isinstance(result, Rejected):
                await self._bury(session, result)
            else:
                good.append(result)
            if time.monotonic() > slice_end:
                await asyncio.sleep(0)
                slice_end = time.monotonic() + _SLICE
        await self._handle(session, good, messages[-1].sequence)
        await session.settle(messages)
        self.lag = messages[-1].pending
        metrics.LAG.labels(stream=self.stream.name, position=self._position.name).set(self.lag)
        metrics.HANDLED.labels(stream=self.stream.name).inc(len(good))

    async def _handle(self, session: Session, deliveries: list[Delivery], last: int) -> None:
        """Have the batch handled, whatever it takes; the position is then after `last`."""
        backoff = Backoff(base=0.1, cap=RETRY_CAP)
        failures = 0
        while deliveries:
            try:
                await self._handler(deliveries, session.cursor(last))
                return
            except Retry as error:
                _log.warning("handler asks for a retry", stream=self.stream.name, reason=error)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises must not end the reader
                if len(deliveries) > 1:
                    _log.warning("batch failed, handling one by one", stream=self.stream.name, reason=error)
                    for delivery in deliveries:
                        await self._handle(session, [delivery], delivery.stream_sequence)
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
        await self._until_done(lambda: session.skip(last), "move the position")

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
            except Exception:  # noqa: BLE001 - the message is safe already
                _log.exception("the hook for poison failed", stream=self.stream.name)

    async def _until_done(self, step: Callable[[], Awaitable[Any]], what: str) -> None:
        """Repeat a step that must not be left out."""
        backoff = Backoff(base=0.1, cap=RETRY_CAP)
        while True:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - repeated until it succeeds; the cause is told by health
                text = f"cannot {what}: {_text(error)}"
                if text != self.last_error:
                    _log.error("trying again", stream=self.stream.name, reason=text)
                self.last_error = text
                await backoff.sleep()
            else:
                self.last_error = ""
                return


def _reject(delivery: Delivery, stream: Stream, reason: str) -> Rejected:
    return Rejected(reason, stream.name, delivery.message, delivery.subject, delivery.envelope)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
