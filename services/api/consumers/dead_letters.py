"""Keeps the dead letters: from their stream, which forgets, into the database."""

from collections.abc import Sequence

from schemas import topology
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.dead_letters import ReceivedDeadLetter, store
from services.runtime.bus.client import Bus
from services.runtime.bus.consumer import AckPosition, Consumer, Cursor, Delivery, Retry


class DeadLetterKeeper:
    """A durable consumer that all replicas share; a letter is one row however often it is delivered."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._database = database
        position = AckPosition(topology.DEAD_LETTERS_DURABLE)
        stream = topology.DEAD_LETTERS
        self.consumer = Consumer(bus, stream, stream.subjects, position, self._keep, service="api")

    async def _keep(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> None:  # noqa: ARG002
        received = [
            ReceivedDeadLetter(
                id=_id(delivery),
                sender=delivery.envelope.source,
                received_at=delivery.stream_time,
                letter=delivery.body,
            )
            for delivery in deliveries
        ]
        try:
            await store(self._database, received)
        except DatabaseUnavailable as error:
            raise Retry(str(error)) from error


def _id(delivery: Delivery) -> str:
    """One id for one stored message: sequences start again in a stream that was made anew, times do not."""
    return f"{delivery.stream_sequence}-{int(delivery.stream_time.timestamp() * 1_000_000)}"
