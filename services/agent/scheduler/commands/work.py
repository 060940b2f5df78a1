"""One command in hand."""

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

from schemas.commands import Action, Command, Nature
from services.agent.store.journal_rows import Entry


class Phase(Enum):
    """How far it has come, as far as it matters for ending it."""

    WAITING = "waiting"
    """Nothing was done, and nothing will be when it is ended now."""
    EFFECT = "effect"
    """It may have an effect from now on, or may have had one before the agent was started."""


@dataclass(slots=True, eq=False)
class Work:
    """What the executor knows of it beside its entry in the journal."""

    command: Command
    action: Action
    entry: Entry
    phase: Phase = Phase.WAITING
    in_flight: bool = False
    """The effect was asked for, and nothing that came back says what became of it."""
    cut: bool = False
    """Time is up, or it is cancelled: nothing more is to be begun."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is to be ended on request."""
    reason: str = ""
    """Of the request."""
    taken: float = field(default_factory=time.monotonic)
    """When it came in hand, in monotonic seconds."""
    steps: int = 0
    """Reports of progress since it was begun last."""
    before: str = field(init=False, default="")
    """What a person should know where it was begun before the agent was started, by an earlier run of it."""

    def __post_init__(self) -> None:
        if self.entry.begun and not self.harmless:
            self.phase = Phase.EFFECT
            self.before = "; what an earlier run of the agent had done of it is not known here"

    @property
    def harmless(self) -> bool:
        """Whether it has no effect whatever happens."""
        return self.command.dry_run or self.action.nature_of(self.command.params) is Nature.READ

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice is as good as once."""
        return self.harmless or self.action.repeat_safe

    @property
    def about(self) -> Hashable | None:
        """What others may be about as well, and have to wait for; None: nobody has to."""
        object_ = self.command.object
        if self.harmless or not object_.name:
            return None
        return object_.resource, object_.namespace, object_.name

    def end(self, reason: str) -> bool:
        """Ask for its end; whether that is still possible."""
        if self.phase is Phase.EFFECT and not self.action.cancellable:
            return False
        self.reason = reason
        self.stop.set()
        return True
