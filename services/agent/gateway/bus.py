"""The master's gateway over the bus."""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

from schemas import binding, registry, subjects
from schemas.control import Resync, Superseded
from schemas.deadletter import DeadLetter
from schemas.envelope import Envelope, sequence_text
from schemas.errors import ContractError
from schemas.frames import Frame
from schemas.ids import Target
from schemas.presence import Heartbeat
from services.agent.capability import Observed
from services.agent.gateway.interfaces import Unavailable
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus.client import Bus, BusError, MessageTooLarge

_log = logs.get_logger(__name__)

COMPRESS_ABOVE = 4096
"""Bytes of a frame from which on it travels as gzip."""


class BusGateway:
    """MasterGateway of one agent."""

    def __init__(self, bus: Bus, target: Target) -> None:
        self._bus = bus
        self._target = target
        self._source = subjects.agent_source(target)
        self.dropped = 0
        """Events that no stream can take, since the agent started."""

    async def beat(self, heartbeat: Heartbeat) -> None:
        envelope = registry.HEARTBEAT_SENT.envelope(heartbeat, source=self._source)
        try:
            await self._bus.publish(subjects.heartbeat(self._target), envelope)
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

    async def publish_events(self, events: list[Observed], epoch: str, sequence: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number, observed in enumerate(events, sequence):
                envelope = Envelope(
                    type=registry.EVENT_OBSERVED.name,
                    source=self._source,
                    data=observed.body,
                    extensions={"epoch": epoch, "sequence": sequence_text(number)},
                )
                subject = subjects.event(self._target, observed.about.namespace, observed.about.name)
                group.create_task(self._publish_event(subject, envelope))

    async def _publish_event(self, subject: str, envelope: Envelope) -> None:
        """One event; one that is too large for the bus must not hold up those behind it."""
        try:
            await self._publish(subject, envelope)
        except MessageTooLarge as error:
            self.dropped += 1
            _log.error("event left out", subject=subject, reason=str(error))

    async def _publish(self, subject: str, envelope: Envelope, *, compress: bool = False) -> None:
        """Repeat one message under its id until the stream has it; each new cause is told once."""
        backoff, told = Backoff(base=0.2, cap=10.0), ""
        while True:
            try:
                await self._bus.publish(subject, envelope, compress=compress)
            except MessageTooLarge:
                raise  # it would be too large the next time as well
            except BusError as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("the bus does not take it, trying again", subject=subject, reason=told)
                await backoff.sleep()
            else:
                if told:
                    _log.info("the bus has taken it", subject=subject, attempts=backoff.attempts + 1)
                return

    async def on_resync(self, handler: Callable[[str, str], Awaitable[None]]) -> None:
        async def receive(message: Resync) -> None:
            await handler(message.epoch, message.reason)

        await self._listen(registry.RESYNC_REQUESTED, "resync", receive)

    async def on_superseded(self, handler: Callable[[str], Awaitable[None]]) -> None:
        async def receive(message: Superseded) -> None:
            await handler(message.epoch)

        await self._listen(registry.EPOCH_SUPERSEDED, "superseded", receive)

    async def _listen(
        self, event_type: registry.EventType[Any], what: str, receive: Callable[[Any], Awaitable[None]]
    ) -> None:
        async def handle(subject: str, envelope: Envelope) -> None:
            try:
                if envelope.type != event_type.name:
                    raise ContractError(f"event type {envelope.type!r} does not belong here")
                await receive(event_type.decode(envelope.data))
            except ContractError as error:
                await self._reject(subject, envelope, str(error))

        await self._bus.subscribe(subjects.control(self._target, what), handle)

    async def _reject(self, subject: str, envelope: Envelope, reason: str) -> None:
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
