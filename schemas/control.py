"""What core says to an agent outside of commands: not stored, repeated until the effect is seen."""

from schemas.presence import Message


class Resync(Message):
    """Begin a new epoch: the reader of this one misses something."""

    epoch: str
    """The epoch it is about; an agent in another one has already done it. Empty: whichever."""
    reason: str


class Superseded(Message):
    """A newer epoch of this id has begun; frames of this one are ignored."""

    epoch: str
    by: str
    """The epoch that won."""
