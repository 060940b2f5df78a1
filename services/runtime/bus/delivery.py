"""From bare message to checked delivery."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from nats.aio.msg import Msg

from schemas import binding, registry, subjects
from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.registry import EventType
from schemas.subjects import Core, Down, Up
from schemas.topology import Stream

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARAMETER = re.compile(r"\\\{\w+\\\}")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the stream handed it out."""

    subject: str
    headers: Mapping[str, str]
    data: bytes
    reply: str
    """Where it is acknowledged."""
    sequence: int
    """In the stream."""
    consumer_sequence: int
    """1 for the first message this consumer was given, then one more each time."""
    attempt: int
    """1 for the first delivery."""
    time: datetime
    """When the stream took it, by the broker's clock; aware, UTC."""
    pending: int
    """Messages that follow it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that keeps the contract: subject and source agree, type and body are known."""

    subject: Up | Core | Down
    envelope: Envelope
    body: Any
    """Decoded; an instance of `event_type.model`."""
    event_type: EventType[Any]
    message: Message

    @property
    def stream_sequence(self) -> int:
        return self.message.sequence

    @property
    def stream_time(self) -> datetime:
        """When the stream took it, by the broker's clock; aware, UTC."""
        return self.message.time


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that breaks the contract, as far as it could be read."""

    reason: str
    stream: str
    message: Message
    subject: Up | Core | Down | None
    """None when not even the subject can be read."""
    envelope: Envelope | None


def message(raw: Msg) -> Message:
    """Read the delivery's own data, which is in its reply subject (`$JS.ACK.…`, both forms)."""
    tokens = raw.reply.split(".")
    # v1: $JS.ACK.<stream>.<consumer>.<attempt>.<stream seq>.<consumer seq>.<time>.<pending>
    # v2: two more in front of the stream (domain, account), possibly one behind
    first = 4 if len(tokens) == 9 else 6
    attempt, sequence, consumer_sequence, nanoseconds, pending = map(int, tokens[first : first + 5])
    return Message(
        subject=raw.subject,
        headers=raw.headers or {},
        data=raw.data,
        reply=raw.reply,
        sequence=sequence,
        consumer_sequence=consumer_sequence,
        attempt=attempt,
        time=_EPOCH + timedelta(microseconds=nanoseconds // 1000),
        pending=pending,
    )


def read(message: Message, stream: Stream) -> Delivery | Rejected:
    """Check a message against the contract. Never raises for its content."""
    subject: Up | Core | Down | None = None
    envelope: Envelope | None = None
    try:
        subject = _parse(message.subject)
        envelope = binding.decode(message.headers, message.data)
        expected = None if isinstance(subject, Down) else subject.source
        if expected is not None and envelope.source != expected:
            raise ContractError(f"source {envelope.source[:120]!r} on a subject of {expected!r}")
        event_type = registry.lookup(envelope.type)
        if event_type.stream is not stream or not _pattern(event_type.channel).fullmatch(message.subject):
            raise ContractError(f"type {envelope.type!r} does not belong on {message.subject!r}")
        return Delivery(subject, envelope, event_type.decode(envelope.data), event_type, message)
    except ContractError as error:
        return Rejected(str(error), stream.name, message, subject, envelope)


_parse = lru_cache(maxsize=8192)(subjects.parse)


@lru_cache(maxsize=256)
def _pattern(channel: str) -> re.Pattern[str]:
    """What a channel's address matches: `{parameter}` stands for one token."""
    return re.compile(_PARAMETER.sub(r"[^.]+", re.escape(channel)))
