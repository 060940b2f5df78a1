"""What core says outside of commands: not stored. To agents it is repeated until the effect is seen."""

from schemas.commands import CommandId
from schemas.presence import Message


class Resync(Message):
    """Begin a new epoch: the reader of this one misses something."""

    epoch: str
    """The epoch it is about; an agent in another one has already done it. Empty: whichever."""
    reason: str


class Superseded(Message):
    """Frames of this epoch are ignored: the id is served by another agent. Stand by until it is lost."""

    epoch: str
    by: str
    """The epoch that counts."""
    instance: str = ""
    """Where that one comes from; empty: not known. Another one than the loser's: the id belongs to it."""


class Confirmed(Message):
    """Events that are committed in the database: the agent may forget them."""

    epoch: str
    """Of the agent's spool."""
    sequence: int
    """All Events up to this one are committed."""


class Nudge(Message):
    """Rows of a shard have changed; a hint for those who would otherwise look now and then."""

    shard: int
    rev: int
    """The shard's revision after the change."""


class ResultsConfirmed(Message):
    """Results that are committed in the database: the agent may forget them."""

    command_ids: list[CommandId]


class CancelRequested(Message):
    """End this command, if it has not ended; repeated until it has."""

    command_id: CommandId
    reason: str = ""


class CommandsChanged(Message):
    """Commands have been accepted, or moved on; a hint for those who wait for it."""

    command_ids: list[CommandId]
    ended: list[CommandId] = []
    """Those of them that have ended."""
