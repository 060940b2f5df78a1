"""The master as the scheduler sees it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from schemas.frames import Frame
from schemas.presence import Heartbeat
from services.agent.store.rows import Spooled


class Unavailable(Exception):
    """The bus did not take it; the same call may be repeated. The text names the cause."""


class MasterGateway(Protocol):
    """What an agent tells the master, and hears from it."""

    async def beat(self, heartbeat: Heartbeat) -> None:
        """One sign of life, not repeated. Raises Unavailable."""

    async def publish_frame(self, frame: Frame) -> None:
        """One frame, repeated under one id until the bus has it."""

    async def publish_events(
        self, events: Sequence[Spooled], first: Callable[[str], int], *, again: bool
    ) -> list[Spooled]:
        """Observed events, repeated in their order until the bus has all; those that are too large for it.

        `first`: the lowest sequence of an epoch that is still kept. `again`: the bus may have them already,
        and shall hand them out once more.
        """

    async def on_resync(self, handler: Callable[[str, str], Awaitable[None]]) -> None:
        """Call `handler(epoch, reason)` whenever the master asks for a resync."""

    async def on_confirmed(self, handler: Callable[[str, int], Awaitable[None]]) -> None:
        """Call `handler(epoch, sequence)` when the master has committed the events of `epoch` up to it."""

    async def on_superseded(self, handler: Callable[[str, str, str], Awaitable[None]]) -> None:
        """Call `handler(epoch, by, instance)` when another agent's epoch `by` counts in place of `epoch`."""
