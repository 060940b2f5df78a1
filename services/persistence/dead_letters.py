"""The write side of dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.deadletter import DeadLetter
from services.persistence import tables
from services.persistence.database.dialects import insert_new
from services.persistence.database.engine import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedDeadLetter:
    """One dead letter from the stream; its `id` is the same when it is delivered again."""

    id: str
    received_at: datetime
    sender: str
    letter: DeadLetter


async def store(db: Database, received: Sequence[ReceivedDeadLetter]) -> None:
    """Keep a batch; one that is there already stays as it is. Raises DatabaseUnavailable."""
    rows = [
        {
            "id": item.id,
            "received_at": item.received_at,
            "sender": item.sender,
            "reason": item.letter.reason,
            "consumer": item.letter.consumer,
            "subject": item.letter.subject,
            "stream": item.letter.stream,
            "stream_sequence": item.letter.stream_sequence,
            "original_at": item.letter.received_at,
            "headers": item.letter.headers,
            "body": item.letter.body,
        }
        for item in received
    ]
    async with db.write() as connection:
        await insert_new(connection, tables.DeadLetter, rows)
