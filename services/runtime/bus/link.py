"""One connection to the broker. It is lost once, and then replaced by a new one.

nats-py's own reconnect is switched off. It would keep what is published during an outage and send it
later, after the caller was told that it failed; it has no jitter; and after some errors (payload over the
limit, authorization) it does not come back at all. One way of coming back, a new client, covers all.
"""

import asyncio
import re
import secrets
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from schemas import topology
from services.runtime import logs
from services.runtime.bus import metrics
from services.runtime.bus.errors import (
    BusError,
    BusUnavailable,
    MessageTooLarge,
    NoAnswer,
    PermissionDenied,
)
from services.runtime.tasks import cancellation_kept

_log = logs.get_logger(__name__)

MAX_OUTSTANDING_PINGS = 2
"""Pings without an answer; at the next one the connection counts as dead."""
CONNECT_TIMEOUT = 2
MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that wait for the socket before a publish is refused."""
PENDING_MESSAGES = 4096
PENDING_BYTES = 64 * 1024 * 1024
"""Bounds of what one subscription holds for its callback."""

_REFUSED = re.compile(r'permissions violation for (publish|subscription)[^"]*"([^"]+)"', re.IGNORECASE)
_NO_RESPONDERS = "503"

Callback = Callable[[Msg], Awaitable[None]]


def header_size(headers: Mapping[str, str] | None) -> int:
    """Bytes of the headers on the wire; the broker's limit counts them, nats-py's check does not."""
    if not headers:
        return 0
    return len("NATS/1.0\r\n\r\n") + sum(
        len(name) + len(value.encode()) + 4 for name, value in headers.items()
    )


class _Client(Client):
    """nats-py's client with a faster reader of headers, which is a third of the time of a message."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Headers by name. Like the original it skips a line without a sound name."""
        headers = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon and name.isascii() and len(name.split()) == 1:
                headers[name.strip()] = value.strip()
        return headers

    @property
    def server_id(self) -> str:
        return str(self._server_info.get("server_id", ""))


class NoResponders(BusError):
    """Nobody listens on the subject of a request."""


class Link:
    """A connection as one user. `lost` is set when it ended, `cause` says why."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.lost = asyncio.Event()
        self.cause = ""
        self._client = _Client()
        self._errors: deque[str] = deque(maxlen=16)
        self._replies: dict[str, asyncio.Future[Msg]] = {}
        self._waiting: dict[str, set[asyncio.Future[Msg]]] = {}
        self._requests = 0
        # Random, since a subject that another user can guess is one it can have a reply sent to.
        self._inbox = f"{topology.inbox(user)}.{secrets.token_hex(11)}."
        self._monitor: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        urls: list[str],
        user: str,
        *,
        name: str,
        seed_file: Path,
        ca: Path | None,
        ping_interval: float,
    ) -> "Link":
        """Connect once. Raises BusUnavailable with the cause. `ping_interval` in seconds."""
        link = cls(user)
        try:
            tls = None
            if ca is not None or any(url.startswith("tls://") for url in urls):
                tls = ssl.create_default_context(cafile=ca)
            with cancellation_kept():
                await link._client.connect(
                    urls,
                    name=name,
                    nkeys_seed=str(seed_file),
                    inbox_prefix=topology.inbox(user),
                    tls=tls,
                    connect_timeout=CONNECT_TIMEOUT,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=ping_interval,  # type: ignore[arg-type]  # it sleeps so long, seconds or parts
                    max_outstanding_pings=MAX_OUTSTANDING_PINGS,
                    pending_size=MAX_UNSENT,
                    flush_timeout=CONNECT_TIMEOUT,
                    error_cb=link._on_error,
                    closed_cb=link._on_closed,
                )
            link._monitor = asyncio.create_task(link._watch(), name=f"bus link of {user}")
            await link.subscribe(link._inbox + "*", link._on_reply)
            return link
        except (nats.errors.Error, OSError, TimeoutError) as error:
            await link.close()
            raise BusUnavailable(link._errors[0] if link._errors else _text(error)) from error
        except BaseException:
            await link.close()
            raise

    @property
    def server_id(self) -> str:
        """Id of the broker's process: a new one each time it starts."""
        return self._client.server_id

    async def close(self) -> None:
        """End the connection. Raises nothing but our own cancellation."""
        self._lose("closed")
        if self._monitor is not None:
            self._monitor.cancel()
        with cancellation_kept(), suppress(Exception):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._client.close()

    # --- sending -------------------------------------------------------------------------------------

    async def publish(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Hand a message to the socket; nothing says whether it arrives."""
        size = header_size(headers) + len(payload)
        if size > self._client.max_payload:
            raise MessageTooLarge(subject, size, self._client.max_payload)
        if self.lost.is_set():
            raise BusUnavailable(self.cause)
        if self._client.pending_data_size > MAX_UNSENT:
            raise BusUnavailable(f"the connection is stalled: over {MAX_UNSENT} bytes wait to be sent")
        try:
            with cancellation_kept():
                await self._client.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.BadSubjectError as error:
            raise BusError(f"{subject!r} is not a subject") from error
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable(_text(error)) from error

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        timeout: float = 5.0,
    ) -> Msg:
        """Publish and wait for the answer.

        Raises NoAnswer when there is none in `timeout` seconds, BusUnavailable, NoResponders,
        PermissionDenied.
        """
        self._requests += 1
        token = str(self._requests)
        with self.expecting(subject) as future:
            self._replies[token] = future
            try:
                async with asyncio.timeout(timeout):
                    await self.publish(subject, payload, headers, reply=self._inbox + token)
                    message = await future
            except TimeoutError:
                raise NoAnswer(f"no answer to {subject} in {timeout:.2g}s") from None
            finally:
                del self._replies[token]
        if message.headers and message.headers.get("Status") == _NO_RESPONDERS and not message.data:
            raise NoResponders(f"nobody listens on {subject}")
        return message

    async def send(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, timeout: float
    ) -> None:
        """Publish without an answer, and wait until the broker has read it and not refused it."""
        with self.expecting(subject) as refused:
            await self.publish(subject, payload, headers)
            await self._round_trip(refused, timeout)

    async def subscribe(self, subject: str, callback: Callback, timeout: float = 5.0) -> NatsSubscription:
        """Subscribe; `callback` must not raise. Raises PermissionDenied when the broker refuses."""
        with self.expecting(subject) as refused:
            try:
                with cancellation_kept():
                    subscription = await self._client.subscribe(
                        subject,
                        cb=callback,
                        pending_msgs_limit=PENDING_MESSAGES,
                        pending_bytes_limit=PENDING_BYTES,
                    )
            except (nats.errors.Error, OSError) as error:
                raise BusUnavailable(_text(error)) from error
            await self._round_trip(refused, timeout)
        return subscription

    async def unsubscribe(self, subscription: NatsSubscription) -> None:
        """Give a subscription up; that fails only where the connection does."""
        with cancellation_kept(), suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()

    @contextmanager
    def expecting(self, subject: str) -> "Iterator[asyncio.Future[Msg]]":
        """A future that fails when the broker refuses this subject, or the connection is lost."""
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        if self.lost.is_set():
            raise BusUnavailable(self.cause)
        key = subject.lower()  # nats-py gives the broker's error texts in lower case
        self._waiting.setdefault(key, set()).add(future)
        try:
            yield future
        finally:
            waiting = self._waiting[key]
            waiting.discard(future)
            if not waiting:
                del self._waiting[key]
            if future.done() and not future.cancelled():
                future.exception()  # seen; asyncio would complain at exit otherwise

    async def _round_trip(self, refused: "asyncio.Future[Msg]", timeout: float) -> None:
        """PING and PONG: the broker answers in order, so a refusal of what was sent before comes first."""
        # In a task of its own: a PONG for a flush that was cancelled ends nats-py's reader.
        flush = asyncio.ensure_future(self._client.flush(max(1, round(timeout))))
        flush.add_done_callback(self._flushed)
        either: list[asyncio.Future[Any]] = [flush, refused]
        await asyncio.wait(either, timeout=timeout + 1, return_when=asyncio.FIRST_COMPLETED)
        if refused.done():
            refused.result()
        if not flush.done() or flush.exception() is not None:
            raise BusUnavailable("the broker did not answer a ping in time")

    def _flushed(self, flush: "asyncio.Future[None]") -> None:
        if flush.cancelled() or flush.exception() is not None:
            self._lose("the broker did not answer a ping in time")

    # --- what nats-py tells --------------------------------------------------------------------------

    async def _on_reply(self, message: Msg) -> None:
        future = self._replies.get(message.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(message)

    async def _on_error(self, error: Exception) -> None:
        text = _text(error)
        if isinstance(error, nats.errors.SlowConsumerError):
            metrics.DROPPED.labels(user=self.user).inc()
            _log.warning("message thrown away, its handler is too slow", subject=error.subject)
        elif refusal := _REFUSED.search(text):
            self._refuse(*refusal.groups())
        else:
            self._errors.append(text)

    async def _on_closed(self) -> None:
        self._lose(self._errors[-1] if self._errors else "the broker closed the connection")

    def _refuse(self, verb: str, subject: str) -> None:
        metrics.REFUSED.labels(user=self.user).inc()
        verb = "publish to" if verb == "publish" else "subscribe to"
        waiting = self._waiting.get(subject, ())
        for future in waiting:
            if not future.done():
                future.set_exception(PermissionDenied(self.user, verb, subject))
        if not waiting:
            _log.error("the broker refused it", user=self.user, verb=verb, subject=subject)

    async def _watch(self) -> None:
        # nats-py does not always call back when a connection ends (an error while closing).
        while self._client.is_connected:  # noqa: ASYNC110 - nor has it an event
            await asyncio.sleep(0.5)
        self._lose(self._errors[-1] if self._errors else "the connection ended")

    def _lose(self, cause: str) -> None:
        if self.lost.is_set():
            return
        self.cause = cause
        self.lost.set()
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(BusUnavailable(cause))


def _text(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    text = str(error).removeprefix("nats: ").strip("' ")
    return text or type(error).__name__
