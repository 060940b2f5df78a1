"""The master's gateway over the bus."""

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from schemas import binding, registry, subjects
from schemas.control import Confirmed, Resync, Superseded
from schemas.deadletter import DeadLetter
from schemas.envelope import Envelope, sequence_text
from schemas.errors import ContractError
from schemas.frames import Frame
from schemas.ids import Target
from schemas.logs import LogsRequested
from schemas.presence import Heartbeat
from services.agent.gateway.clock import CoreClock
from services.agent.gateway.interfaces import Unavailable
from services.agent.store.rows import Spooled
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus.client import Bus, BusError, MessageTooLarge

_log = logs.get_logger(__name__)

COMPRESS_ABOVE = 4096
"""Bytes of a frame, or of a report, from which on it travels as gzip."""


class Outgoing(NamedTuple):
    """One publish; `id` is its `Nats-Msg-Id`."""

    subject: str
    envelope: Envelope
    id: str
    compress: bool = False


class BusGateway:
    """MasterGateway of one agent."""

    def __init__(self, bus: Bus, target: Target) -> None:
        self._bus = bus
        self._target = target
        self._source = subjects.agent_source(target)
        self.clock = CoreClock()
        """By its commands: what comes over `ctl` has the time of whoever sent it, which may be wrong."""

    @property
    def connections(self) -> int:
        return self._bus.connections

    async def beat(self, heartbeat: Heartbeat) -> None:
        envelope = registry.HEARTBEAT_SENT.envelope(heartbeat, source=self._source)
        # The stream keeps one of each agent, and has to hold them when all announce at the same time.
        compress = heartbeat.actions is not None
        try:
            await self._bus.publish(subjects.heartbeat(self._target), envelope, compress=compress)
        except BusError as error:
            raise Unavailable(str(error)) from error

    async def publish_frame(self, frame: Frame) -> None:
        # The phase in a header: whoever looks for a digest need not unpack every frame.
        envelope = registry.FRAME_PUBLISHED.envelope(
            frame,
            source=self._source,
            subject=frame.phase,
            epoch=frame.epoch,
            sequence=sequence_text(frame.sequence),
        )
        # A small frame stays readable in `nats stream get`; a large one is worth packing.
        compress = len(envelope.data) > COMPRESS_ABOVE
        await self._publish(subjects.snapshot(self._target), envelope, compress=compress)

    async def publish_events(
        self, events: Sequence[Spooled], first: Callable[[str], int], *, again: bool
    ) -> list[Spooled]:
        # Without another message id the stream would drop, for its duplicate window, what the master is to
        # see once more. The envelope's id stays.
        suffix = f".{secrets.token_hex(4)}" if again else ""
        messages = [self._event_message(event, first(event.epoch), suffix) for event in events]
        too_large = await self.publish_in_order(messages)
        for index, error in too_large.items():
            _log.error("event left out", subject=messages[index].subject, reason=str(error))
        return [events[index] for index in too_large]

    def _event_message(self, event: Spooled, first: int, suffix: str) -> Outgoing:
        envelope = Envelope(
            type=registry.EVENT_OBSERVED.name,
            source=self._source,
            data=event.body,
            id=event.id,
            time=event.time,
            extensions={
                "epoch": event.epoch,
                "sequence": sequence_text(event.sequence),
                "firstsequence": sequence_text(min(first, event.sequence)),
            },
        )
        subject = subjects.event(self._target, event.about.namespace, event.about.name)
        return Outgoing(subject, envelope, event.id + suffix)

    async def _publish(self, subject: str, envelope: Envelope, *, compress: bool = False) -> None:
        """One message, until the stream has it. Raises MessageTooLarge."""
        message = Outgoing(subject, envelope, envelope.id, compress)
        for error in (await self.publish_in_order([message])).values():
            raise error

    async def publish_in_order(self, messages: Sequence[Outgoing]) -> dict[int, MessageTooLarge]:
        """Repeat each under its id until the streams have all; by index those that are too large.

        What failed is repeated together: each by itself, the pauses would change the order. Each new cause is
        told once.
        """
        backoff, told = Backoff(base=0.2, cap=10.0), ""
        too_large: dict[int, MessageTooLarge] = {}
        waiting = list(range(len(messages)))
        attempts = 0
        while True:
            attempts += 1
            outcomes = await asyncio.gather(*(self._offer(messages[index]) for index in waiting))
            failed: dict[int, BusError] = {}
            for index, error in zip(waiting, outcomes, strict=True):
                if isinstance(error, MessageTooLarge):
                    too_large[index] = error  # it would be the next time as well
                elif error is not None:
                    failed[index] = error
            if not failed:
                break
            waiting = list(failed)
            subject, reason = messages[waiting[0]].subject, str(failed[waiting[0]])
            if reason != told:
                told = reason
                _log.warning("the bus does not take it, trying again", subject=subject, reason=reason)
            await self._bus.pause(backoff)
        if told:
            _log.info("the bus has taken it", subject=messages[0].subject, attempts=attempts)
        return too_large

    async def _offer(self, message: Outgoing) -> BusError | None:
        try:
            await self._bus.publish(
                message.subject, message.envelope, compress=message.compress, message_id=message.id
            )
        except BusError as error:
            return error
        return None

    async def on_resync(self, handler: Callable[[str, str], Awaitable[None]]) -> None:
        async def receive(message: Resync) -> None:
            await handler(message.epoch, message.reason)

        await self.listen(registry.RESYNC_REQUESTED, "resync", receive)

    async def on_confirmed(self, handler: Callable[[str, int], Awaitable[None]]) -> None:
        async def receive(message: Confirmed) -> None:
            await handler(message.epoch, message.sequence)

        await self.listen(registry.EVENTS_CONFIRMED, "confirmed", receive)

    async def on_superseded(self, handler: Callable[[str, str, str], Awaitable[None]]) -> None:
        async def receive(message: Superseded) -> None:
            await handler(message.epoch, message.by, message.instance)

        await self.listen(registry.EPOCH_SUPERSEDED, "superseded", receive)

    async def on_logs_requested(self, handler: Callable[[LogsRequested], Awaitable[None]]) -> None:
        await self.listen(registry.LOGS_REQUESTED, "logs", handler)

    async def listen(
        self, event_type: registry.EventType[Any], what: str, receive: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Call `receive` with each body of that type on `ctl.<what>`."""

        async def handle(subject: str, envelope: Envelope) -> None:
            try:
                if envelope.type != event_type.name:
                    raise ContractError(f"event type {envelope.type!r} does not belong here")
                await receive(event_type.decode(envelope.data))
            except ContractError as error:
                await self.reject(subject, envelope, str(error))

        await self._bus.subscribe(subjects.control(self._target, what), handle)

    async def reject(self, subject: str, envelope: Envelope, reason: str) -> None:
        """Keep an event of the core's that we could not read, where people look for it.

        What is no CloudEvent at all is only logged and counted: another agent can have the broker's
        acknowledgement of its own message land here, and must not fill the dead letters that way.
        """
        _log.warning("message can't be read", subject=subject, reason=reason)
        headers, payload = binding.encode(envelope)
        letter = DeadLetter(
            reason=reason, consumer="agent", subject=subject, headers=headers, body=b64encode(payload)
        )
        dead = registry.AGENT_MESSAGE_REJECTED.envelope(letter, source=self._source)
        await self._publish(subjects.dead(self._target), dead)
