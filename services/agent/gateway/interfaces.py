"""The master as the scheduler sees it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from schemas.frames import Frame
from schemas.presence import Heartbeat
from services.agent.capability import Observed


class Unavailable(Exception):
    """The bus did not take it; the same call may be repeated. The text names the cause."""


class MasterGateway(Protocol):
    """What an agent tells the master, and hears from it."""

    async def beat(self, heartbeat: Heartbeat) -> None:
        """One sign of life, not repeated. Raises Unavailable."""

    async def publish_frame(self, frame: Frame) -> None:
        """One frame, repeated under one id until the bus has it."""

    async def publish_events(self, events: list[Observed], epoch: str, sequence: int) -> None:
        """Observed events, numbered from `sequence` on, until the bus has all; in whatever order."""

    async def on_resync(self, handler: Callable[[str, str], Awaitable[None]]) -> None:
        """Call `handler(epoch, reason)` whenever the master asks for a resync."""

    async def on_superseded(self, handler: Callable[[str], Awaitable[None]]) -> None:
        """Call `handler(epoch)` when the master has turned to a newer epoch of this id."""
