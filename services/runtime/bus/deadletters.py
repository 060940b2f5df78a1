"""Putting what could not be read on the dead letters, whole."""

from datetime import datetime

from schemas import registry, subjects
from schemas.deadletter import DeadLetter
from services.runtime.bus.client import Bus, MessageTooLarge
from services.runtime.bus.delivery import Rejected

_KEPT = 256 * 1024
"""Bytes that are kept of a payload which is too large to be carried inside another message."""


class DeadLetters:
    """Where a core service puts what it cannot read."""

    def __init__(self, bus: Bus, service: str) -> None:
        self._bus = bus
        self._service = service
        self._subject = subjects.service_dead(service)
        self._source = subjects.service_source(service, bus.name)

    async def put(self, rejected: Rejected, created: datetime) -> None:
        """Publish one; `created` is when its stream was made. Repeating it stores it once.

        Raises the errors of `Bus.publish`.
        """
        try:
            await self._publish(rejected, created, len(rejected.message.data))
        except MessageTooLarge:
            await self._publish(rejected, created, _KEPT)

    async def _publish(self, rejected: Rejected, created: datetime, kept: int) -> None:
        message, reason = rejected.message, rejected.reason
        if kept < len(message.data):
            reason += f" (only the first {kept} of {len(message.data)} bytes are kept here)"
        letter = DeadLetter.model_construct(
            reason=reason,
            consumer=self._service,
            subject=message.subject,
            stream=rejected.stream,
            stream_sequence=message.sequence,
            received_at=message.time,
            headers=dict(message.headers),
            body=message.data[:kept],
        )
        # The stream's own creation time: after a new start its sequences begin at 1 again.
        message_id = f"dead-{rejected.stream}-{message.sequence}-{created.timestamp():.6f}"
        envelope = registry.MESSAGE_REJECTED.envelope(letter, source=self._source)
        await self._bus.publish(self._subject, envelope, compress=True, message_id=message_id)
