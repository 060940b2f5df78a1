"""What could not be read, kept whole."""

from pydantic import Base64Bytes

from schemas.presence import Message
from schemas.times import Time


class DeadLetter(Message):
    """One message that a consumer could not read, with its original headers and bytes."""

    reason: str
    consumer: str
    """Who could not read it: `master`, `api`, `agent`."""
    subject: str
    """Where it came from."""
    stream: str = ""
    """Empty for a message of core NATS."""
    stream_sequence: int = 0
    received_at: Time | None = None
    """When the stream took it; None for a message of core NATS."""
    headers: dict[str, str] = {}
    body: Base64Bytes
    """The payload's bytes, in Base64."""
