"""The bus as services see it: publish, send, subscribe, over connections that come and go."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from schemas import binding, topology
from schemas.envelope import Envelope
from schemas.errors import ContractError
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus import metrics
from services.runtime.bus.credentials import check_seed
from services.runtime.bus.errors import (
    ApiError,
    BusError,
    BusUnavailable,
    MessageTooLarge,
    NoAnswer,
    PermissionDenied,
    StreamMissing,
)
from services.runtime.bus.link import Callback, Link, NoResponders
from services.runtime.errors import EXIT_TEMPORARY, UserError
from services.runtime.settings import BusSettings
from services.runtime.tasks import set_within

__all__ = [
    "ApiError",
    "Bus",
    "BusError",
    "BusUnavailable",
    "MessageTooLarge",
    "NoAnswer",
    "NoResponders",
    "PermissionDenied",
    "StreamMissing",
    "Subscription",
    "connect",
]

_log = logs.get_logger(__name__)

PUBLISHES_IN_FLIGHT = 256
"""Publishes that wait for their acknowledgement at one time; further ones queue for their turn."""
RECONNECT_CAP = 5.0
"""Seconds at most between two attempts to connect; a broker that is back is found within that."""
CORE_RECONNECT_CAP = 1.5
"""The same of the core's users: they are few, and a whole fleet waits for them."""
STEADY = 10.0
"""Seconds after which a connection counts as having worked."""
REFUSAL_COUNTS = 30.0
"""Seconds for which a publish that was not stored speaks against the broker: it is repeated sooner."""

Handler = Callable[[str, Envelope], Awaitable[None]]
"""Called with the subject and the envelope."""
Answerer = Callable[[str, Envelope], Awaitable[Envelope]]
"""The same, and what it returns is the answer."""


@dataclass(eq=False)
class Subscription:
    """Interest in a subject; made again on every new connection until it is closed."""

    subject: str
    callback: Callback
    on_link: Callable[[], None] | None
    """Called when the connection is lost and when there is a new one."""
    bus: "Bus"
    live: NatsSubscription | None = None
    """On the connection there is now."""

    async def close(self) -> None:
        """No more messages. Never raises."""
        await self.bus.drop(self)


class Bus:
    """A user's access to the broker. One object outlives any number of connections.

    While there is no connection every call raises BusUnavailable at once: nothing is kept for later.
    """

    def __init__(self, settings: BusSettings, user: str, name: str) -> None:
        self.user = user
        self.url = settings.nats_url
        self.name = name
        self.last_error = ""
        self.connections = 0
        """How many there have been."""
        self._settings = settings
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._subscriptions: set[Subscription] = set()
        self._in_flight = asyncio.Semaphore(PUBLISHES_IN_FLIGHT)
        self._not_stored: dict[str, tuple[float, str]] = {}
        """By subject: when the last publish was not stored by a broker that is connected, and why."""
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None

    @property
    def broker(self) -> str:
        """Id of the run of the broker that we are connected to; empty without a connection."""
        return self._link.server_id if self._link is not None else ""

    async def wait_connected(self) -> None:
        """Until there is a connection."""
        await self._up.wait()

    async def pause(self, backoff: Backoff) -> None:
        """Wait before repeating what the bus did not take: for the back-off while there is a connection.

        Once it is lost, whatever the cause was, only until there is a new one: then the back-off begins anew.
        """
        if self._link is not None and not await set_within(self._link.lost, backoff.delay()):
            return
        await self.wait_connected()
        backoff.reset()
        await backoff.sleep()  # callers by the hundred wait for the same moment

    def health(self) -> str | None:
        """A readiness check: None when connected to a broker that stores what it gets, otherwise why not."""
        if not self.connected:
            return self.last_error or "connecting"
        now = time.monotonic()
        self._not_stored = {
            subject: told for subject, told in self._not_stored.items() if now - told[0] < REFUSAL_COUNTS
        }
        return next((reason for _, reason in self._not_stored.values()), None)

    # --- messages ------------------------------------------------------------------------------------

    async def publish(
        self,
        subject: str,
        envelope: Envelope,
        *,
        compress: bool = False,
        message_id: str | None = None,
        ttl: int | None = None,
        timeout: float = 5.0,
    ) -> int:
        """Store a message in the stream that takes the subject; its sequence there. One attempt.

        `message_id` is the `Nats-Msg-Id`, by default the envelope's id: the stream drops a repeated one
        inside its duplicate window and answers with the sequence of the first. `ttl`: whole seconds, at least
        1, after which the stream forgets it, where it lets messages say so.
        Raises BusUnavailable (also when the message may have been stored: repeat it with the same id),
        StreamMissing, PermissionDenied, MessageTooLarge, ApiError (the stream refused it).
        """
        if compress:  # milliseconds of zlib, which lets go of the interpreter
            headers, payload = await asyncio.to_thread(binding.encode, envelope, compress=True)
        else:
            headers, payload = binding.encode(envelope)
        headers["Nats-Msg-Id"] = message_id or envelope.id
        if ttl is not None:
            headers["Nats-TTL"] = str(ttl)
        try:
            sequence = await self._store(subject, payload, headers, timeout)
        except (BusUnavailable, StreamMissing) as error:
            if self.connected:
                self._not_stored[subject] = time.monotonic(), _not_stored(error)
            raise
        self._not_stored.pop(subject, None)
        return sequence

    async def _store(self, subject: str, payload: bytes, headers: dict[str, str], timeout: float) -> int:
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                await self._in_flight.acquire()
        except TimeoutError:
            raise BusUnavailable(f"{PUBLISHES_IN_FLIGHT} publishes wait for their acknowledgement") from None
        try:
            left = max(0.01, timeout - (time.monotonic() - started))
            message = await self._connection().request(subject, payload, headers, timeout=left)
        except NoResponders:
            raise StreamMissing(subject) from None
        finally:
            self._in_flight.release()
        sequence = _answer(message).get("seq")
        if not isinstance(sequence, int):
            raise BusError(f"what answered on {subject} is no stream")
        return sequence

    async def send(self, subject: str, envelope: Envelope, *, timeout: float = 5.0) -> None:
        """Send over core NATS, not stored: returns when the broker has it, whether or not anybody listens.

        Raises BusUnavailable, PermissionDenied, MessageTooLarge.
        """
        headers, payload = binding.encode(envelope)
        await self._connection().send(subject, payload, headers, timeout)

    async def subscribe(
        self, subject: str, handler: Handler, on_link: Callable[[], None] | None = None
    ) -> Subscription:
        """Hear a subject over core NATS. Messages are handled one after the other, in a bounded queue.

        A handler that raises is logged and the next message is taken; what is no CloudEvent is counted and
        logged. Without a connection it is made as soon as there is one. Raises PermissionDenied.
        """

        async def on_message(message: Msg) -> None:
            try:
                await handler(message.subject, binding.decode(message.headers, message.data))
            except ContractError as error:
                metrics.REJECTED.labels(user=self.user).inc()
                _log.warning("message rejected", subject=message.subject, reason=str(error))
            except Exception:  # noqa: BLE001 - one message's trouble is not the next one's
                _log.exception("handler failed", subject=message.subject)

        return await self.tap(subject, on_message, on_link)

    # --- calls ---------------------------------------------------------------------------------------

    async def call(self, subject: str, envelope: Envelope, *, timeout: float = 5.0) -> Envelope:
        """Ask whoever answers on `subject`, over core NATS. One attempt.

        Raises NoResponders when nobody listens there, NoAnswer and BusUnavailable when no answer came (it may
        have been heard), PermissionDenied, MessageTooLarge; BusError when what came is no CloudEvent.
        """
        headers, payload = binding.encode(envelope)
        message = await self._connection().request(subject, payload, headers, timeout=timeout)
        try:
            return binding.decode(message.headers, message.data)
        except ContractError as error:
            raise BusError(f"what answered on {subject} can't be read: {error}") from error

    async def answer(self, subject: str, handler: Answerer) -> Subscription:
        """Answer the calls on `subject`, one after the other, until the subscription is closed.

        A call that can't be read, or whose handler raises, gets no answer. Raises PermissionDenied.
        """

        async def on_message(message: Msg) -> None:
            try:
                answer = await handler(message.subject, binding.decode(message.headers, message.data))
                headers, payload = binding.encode(answer)
                await self._connection().publish(message.reply, payload, headers)
            except ContractError as error:
                metrics.REJECTED.labels(user=self.user).inc()
                _log.warning("call rejected", subject=message.subject, reason=str(error))
            except BusError as error:
                _log.info("call not answered", subject=message.subject, reason=str(error))
            except Exception:  # noqa: BLE001 - one call's trouble is not the next one's
                _log.exception("handler failed", subject=message.subject)

        return await self.tap(subject, on_message)

    # --- what consumer and topology build on ---------------------------------------------------------

    async def tap(
        self, subject: str, callback: Callback, on_link: Callable[[], None] | None = None
    ) -> Subscription:
        """Subscribe to bare messages; `callback` must not raise. Raises PermissionDenied."""
        subscription = Subscription(subject, callback, on_link, self)
        self._subscriptions.add(subscription)
        try:
            if self._link is not None:
                subscription.live = await self._link.subscribe(subject, callback)
        except BusUnavailable:
            pass  # the next connection makes it
        except BaseException:
            self._subscriptions.discard(subscription)
            raise
        return subscription

    async def api(self, subject: str, body: object = None, *, timeout: float = 5.0) -> dict[str, Any]:
        """Call the JetStream API (`$JS.API.…`). Raises ApiError, BusUnavailable, PermissionDenied."""
        payload = msgspec.json.encode(body) if body is not None else b""
        try:
            return _answer(await self._connection().request(subject, payload, timeout=timeout))
        except NoResponders:
            raise BusUnavailable(
                "JetStream does not answer: it is off, or the broker is still starting"
            ) from None

    async def settle(self, reply: str, word: bytes, *, confirm: bool = False) -> None:
        """Acknowledge (`+ACK`, `+WPI`, `-NAK`) a delivery; with `confirm` wait until the broker has it."""
        if confirm:
            await self._connection().request(reply, word)
        else:
            await self._connection().publish(reply, word)

    async def ask(self, subject: str, payload: bytes, reply: str) -> None:
        """Publish with a reply subject of one's own, without waiting."""
        await self._connection().publish(subject, payload, reply=reply)

    def _connection(self) -> Link:
        if self._link is None:
            raise BusUnavailable(f"no connection to {logs.mask(self.url)}: {self.last_error or 'connecting'}")
        return self._link

    # --- connections ---------------------------------------------------------------------------------

    async def _open(self) -> Link:
        seed_file = self._settings.seed_file(self.user)
        check_seed(seed_file)
        urls = [url.strip() for url in self.url.split(",")]
        link = await Link.open(
            urls,
            self.user,
            name=self.name,
            seed_file=seed_file,
            ca=self._settings.tls_ca,
            ping_interval=self._settings.ping_interval,
        )
        try:
            tried: set[Subscription] = set()
            while waiting := self._subscriptions - tried:  # some may be added meanwhile
                for subscription in waiting:
                    tried.add(subscription)
                    try:
                        subscription.live = await link.subscribe(subscription.subject, subscription.callback)
                    except PermissionDenied as error:
                        _log.error("subscription refused", reason=str(error))
        except BaseException:
            await link.close()
            raise
        self._link = link
        self.connections += 1
        self.last_error = ""
        metrics.CONNECTED.labels(user=self.user).set(1)
        self._up.set()
        self._tell_subscriptions()
        return link

    async def _keep_connected(self, link: Link | None) -> None:
        core = self.user in {user.name for user in topology.CORE_USERS}
        backoff = Backoff(base=0.25, cap=CORE_RECONNECT_CAP if core else RECONNECT_CAP)
        again = link is not None
        while True:
            if link is None:
                try:
                    link = await self._open()
                except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may go well
                    if str(error) != self.last_error:
                        _log.warning("no connection to the broker", url=self.url, reason=str(error))
                    self.last_error = str(error)
                    await backoff.sleep()
                    continue
                _log.info("connected to the broker", url=logs.mask(self.url), user=self.user)
                if again:
                    metrics.RECONNECTS.labels(user=self.user).inc()
                again = True
            since = time.monotonic()
            await link.lost.wait()
            if time.monotonic() - since > STEADY:
                backoff.reset()
            await self._lost(link)
            link = None
            await backoff.sleep()  # also before the first attempt: a whole fleet lost it at this moment

    async def _lost(self, link: Link) -> None:
        self._link = None
        self._up.clear()
        self._not_stored.clear()
        self.last_error = link.cause
        metrics.CONNECTED.labels(user=self.user).set(0)
        _log.warning("connection to the broker lost", url=logs.mask(self.url), reason=link.cause)
        self._tell_subscriptions()
        await link.close()

    def _tell_subscriptions(self) -> None:
        for subscription in list(self._subscriptions):
            if subscription.on_link is not None:
                subscription.on_link()

    async def drop(self, subscription: Subscription) -> None:
        """Forget a subscription; see `Subscription.close`."""
        self._subscriptions.discard(subscription)
        if self._link is not None and subscription.live is not None:
            await self._link.unsubscribe(subscription.live)

    async def start(self, *, wait: bool) -> None:
        """See `connect`."""
        link = None
        check_seed(self._settings.seed_file(self.user))
        if not wait:
            try:
                link = await self._open()
            except PermissionDenied as error:
                raise UserError(
                    str(error), "give this user its permissions: `atlhyper bus credentials`", 4
                ) from error
            except BusUnavailable as error:
                raise _not_connected(self.url, self.user, str(error)) from error
        self._keeper = asyncio.create_task(self._keep_connected(link), name=f"bus of {self.user}")

    async def close(self) -> None:
        """End the connection; every call in flight raises BusUnavailable. Never raises."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait(
                [self._keeper]
            )  # not `await`: that would take our own cancellation for its end
        link, self._link = self._link, None
        self._up.clear()
        self.last_error = "closed"
        metrics.CONNECTED.labels(user=self.user).set(0)
        if link is not None:
            await link.close()


@asynccontextmanager
async def connect(settings: BusSettings, user: str, *, name: str, wait: bool = False) -> AsyncIterator[Bus]:
    """A Bus that connects again for ever, with jitter.

    The first connection: with `wait=False` it is there on entry, else UserError with the cause within 5 s.
    With `wait=True` (services) it is made in the background, each new cause of failure logged once; see
    `wait_connected`. Either raises UserError for a seed file that is missing or unsafe.
    """
    bus = Bus(settings, user, name)
    try:
        await bus.start(wait=wait)
        yield bus
    finally:
        await bus.close()


def _answer(message: Msg) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(message.data)
    except msgspec.DecodeError as error:
        raise BusError(f"the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise BusError("the answer is no JSON object")
    if problem := answer.get("error"):
        code, text = int(problem.get("err_code", 0)), str(problem.get("description", ""))
        if problem.get("code") in (429, 503):
            raise BusUnavailable(f"JetStream: {text} ({code})")
        raise ApiError(code, text)
    return answer


def _not_stored(error: BusError) -> str:
    if isinstance(error, StreamMissing):
        return str(error)
    # A stream whose disk was full stays silent when there is room again, until the broker is restarted.
    return (
        f"the broker does not store what it is sent: {error}; if its disk is full, make room and restart it"
    )


def _not_connected(url: str, user: str, cause: str) -> UserError:
    address = logs.mask(url)
    if "authorization violation" in cause.lower():
        return UserError(
            f"the broker at {address} does not know the credential of user {user!r}",
            "`atlhyper bus credentials KIND ID` issues an agent's; NATS_CREDENTIALS names the file to use",
            exit_code=4,
        )
    return UserError(
        f"no connection to the broker at {address}: {cause}",
        "start it with `atlhyper up`, or set NATS_URL to where it is",
        EXIT_TEMPORARY,
    )
