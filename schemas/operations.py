"""Operations: one intent, carried out by a command on each of many agents, a few at a time."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from schemas.commands import CommandObject, TargetReference
from schemas.presence import Message
from schemas.times import Time


class OperationState(StrEnum):
    """Where an operation stands."""

    RUNNING = "running"
    PAUSED = "paused"
    """By a person, or since too many of its commands have failed; nothing new begins until it is resumed."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Every target has had its turn, and not all have succeeded."""
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether it is the last one."""
        return self not in (OperationState.RUNNING, OperationState.PAUSED)


class Strategy(Message):
    """How fast an operation goes, and when it stops by itself."""

    max_unavailable: int = Field(default=1, ge=1)
    """Commands under way at one time: the next one is accepted after the end of one of them."""
    max_failures: int = Field(default=0, ge=0)
    """Commands that may end otherwise than `succeeded`; one more pauses the operation."""
    timeout: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """Seconds that each command has, from its acceptance to its end."""


class Operation(Message):
    """One operation as it was accepted."""

    id: str
    action: str
    object: CommandObject = CommandObject()
    params: dict[str, Any] = {}
    dry_run: bool = False
    targets: list[TargetReference]
    """In the order in which they are taken."""
    strategy: Strategy = Strategy()
    created_at: Time
    actor: str = ""
