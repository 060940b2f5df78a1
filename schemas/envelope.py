"""The envelope of every message: a CloudEvent (CloudEvents 1.0.2) with our extensions."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from schemas.errors import ContractError
from schemas.ids import uuid7
from schemas.times import of_the_calendar

JSON = "application/json"

EXTENSIONS = (
    "sequence",
    "firstsequence",
    "epoch",
    "correlationid",
    "causationid",
    "expirytime",
    "signature",
    "journal",
    "clockahead",
    "traceparent",
)
"""The extension attributes we write. Others are kept when read: a newer sender may know more."""

_NAME = re.compile(r"[a-z0-9]{1,20}")
SEQUENCE_DIGITS = 16


def sequence_text(sequence: int) -> str:
    """The `sequence` extension: zero-padded, since its specification orders it as a string."""
    return f"{sequence:0{SEQUENCE_DIGITS}d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One CloudEvent. `data` is the body's bytes, `time` is aware, `id` never changes once made.

    `extensions` holds strings, as the NATS binding carries them.
    Raises ContractError when a required attribute is missing or malformed.
    """

    type: str
    source: str
    data: bytes
    id: str = field(default_factory=uuid7)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    datacontenttype: str = JSON
    dataschema: str | None = None
    subject: str | None = None
    extensions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("type", "source", "id"):
            if not getattr(self, name):
                raise ContractError(f"CloudEvent without {name!r}")
        if self.time.tzinfo is None:
            raise ContractError("CloudEvent 'time' has no time zone")
        try:
            of_the_calendar(self.time)
        except ValueError as error:
            raise ContractError(f"CloudEvent 'time': {error}") from None
        for name in self.extensions:
            if not _NAME.fullmatch(name):
                raise ContractError(f"CloudEvent extension {name!r} is not 1 to 20 of a-z and 0-9")

    @property
    def epoch(self) -> str | None:
        """The sender's epoch, where it counts in one."""
        return self.extensions.get("epoch")

    @property
    def sequence(self) -> int | None:
        """The sender's sequence number inside its epoch. Raises ContractError when it is not a number."""
        return self._number("sequence")

    @property
    def first_sequence(self) -> int | None:
        """The lowest sequence number that the sender still keeps: nothing below it will ever come.

        Raises ContractError when it is not a number.
        """
        return self._number("firstsequence")

    def _number(self, name: str) -> int | None:
        text = self.extensions.get(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > SEQUENCE_DIGITS:
            raise ContractError(
                f"CloudEvent {name!r} {text[:40]!r} is not a number of at most {SEQUENCE_DIGITS} digits"
            )
        return int(text)
