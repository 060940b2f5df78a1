"""Fetching from a JetStream consumer: one pull at a time, the next one under way while a batch is handled.

Ours because nats-py's `fetch` starts a task for each message, and waits out its whole time after a broker
restart.
"""

import asyncio
import secrets
from collections import deque

import msgspec
from nats.aio.msg import Msg

from schemas import topology
from services.runtime.bus.client import Bus, Subscription
from services.runtime.bus.delivery import Message, message
from services.runtime.bus.errors import BusUnavailable

EXPIRES = 5.0
"""Seconds a pull waits at the broker; a new one follows."""
_GRACE = 1.0
"""Seconds after which a pull that the broker did not end counts as lost."""
_MAX_BYTES = 16 * 1024 * 1024
"""Of one pull; far above the largest message."""

_PULL_ENDED = ("batch completed", "message size exceeds maxbytes")
"""Of the broker's 409s those that end the pull only."""


class ConsumerGone(Exception):
    """The consumer must be made or bound again; the text says why."""


class Pull:
    """Messages of one consumer. `take()` raises ConsumerGone once the connection or the consumer is lost."""

    def __init__(self, bus: Bus, stream: str, consumer: str, batch: int) -> None:
        self._bus = bus
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = f"{topology.inbox(bus.user)}.{secrets.token_hex(11)}"
        self._batch = batch
        self._buffer: deque[Message] = deque()
        self._expected = 0
        self._pulls = 0
        self._deadline = 0.0
        self._news = asyncio.Event()
        self._gone = ""
        self._subscription: Subscription | None = None
        self.heard = 0.0
        """When the broker last said anything, by the loop's clock; 0: never."""

    @property
    def buffered(self) -> list[Message]:
        """Received and not yet taken."""
        return list(self._buffer)

    async def open(self) -> None:
        """Subscribe the inbox. Raises ConsumerGone without a connection."""
        self._subscription = await self._bus.tap(f"{self._inbox}.*", self._on_message, self._on_link)
        if not self._bus.connected:
            raise ConsumerGone("no connection")

    async def close(self) -> None:
        """Give the inbox up."""
        if self._subscription is not None:
            await self._subscription.close()

    async def take(self, *, wait: bool = True) -> list[Message]:
        """The messages that are there, at most `batch`; waits while there is none, at most EXPIRES."""
        if not self._buffer and not wait and asyncio.get_running_loop().time() > self._deadline:
            self._expected = 0  # lost on the way, or never answered
        if not self._buffer and wait:
            await self._ask_if_due()
            self._news.clear()
            if not self._buffer and not self._gone:
                try:
                    async with asyncio.timeout_at(self._deadline):
                        await self._news.wait()
                except TimeoutError:
                    self._expected = 0  # lost on the way, or never answered
        if self._gone:
            raise ConsumerGone(self._gone)
        taken = [self._buffer.popleft() for _ in range(min(self._batch, len(self._buffer)))]
        await self._ask_if_due()
        return taken

    async def _ask_if_due(self) -> None:
        if self._expected > 0 or len(self._buffer) >= self._batch or self._gone:
            return
        self._pulls += 1
        self._expected = self._batch
        self._deadline = asyncio.get_running_loop().time() + EXPIRES + _GRACE
        request = {"batch": self._batch, "expires": int(EXPIRES * 1e9), "max_bytes": _MAX_BYTES}
        try:
            await self._bus.ask(self._next, msgspec.json.encode(request), f"{self._inbox}.{self._pulls}")
        except BusUnavailable as error:
            raise ConsumerGone(str(error)) from error

    async def _on_message(self, raw: Msg) -> None:
        self.heard = asyncio.get_running_loop().time()
        status = (raw.headers or {}).get("Status") if not raw.reply else None
        if status is None:
            self._expected -= 1
            self._buffer.append(message(raw))
        elif raw.subject == f"{self._inbox}.{self._pulls}":  # not of a pull that was given up
            self._on_status(status, (raw.headers or {}).get("Description", ""))
        self._news.set()

    def _on_status(self, status: str, text: str) -> None:
        """The broker ended the pull: 404 nothing there, 408 expired, 409 for a reason, 503 no consumer."""
        self._expected = 0
        if status not in ("404", "408") and text.lower() not in _PULL_ENDED:
            # Where nobody answers, what nats-py takes for a description is the first header.
            self._gone = "there is no such consumer" if status == "503" else text or f"status {status}"

    def _on_link(self) -> None:
        self._gone = "the connection was lost"
        self._news.set()
