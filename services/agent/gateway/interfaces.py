"""The master as the scheduler sees it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from schemas.commands import (
    Command,
    CommandCompleted,
    CommandProgressed,
    CommandReceived,
    CommandStarted,
    ResultPart,
)
from schemas.frames import Frame
from schemas.logs import LogsPublished, LogsRequested, LogsTaken
from schemas.presence import Heartbeat
from services.agent.store.rows import Spooled


class Unavailable(Exception):
    """The bus did not take it; the same call may be repeated. The text names the cause."""


class ReaderGone(Exception):
    """Nobody answers the calls of a session, and nobody will. The text says how that is known."""


class MasterGateway(Protocol):
    """What an agent tells the master, and hears from it."""

    @property
    def connections(self) -> int:
        """How many there have been to the bus: behind a new one, what was said before may be forgotten."""

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

    async def on_logs_requested(self, handler: Callable[[LogsRequested], Awaitable[None]]) -> None:
        """Call `handler` with each request for logs; the same one comes several times."""

    async def on_superseded(self, handler: Callable[[str, str, str], Awaitable[None]]) -> None:
        """Call `handler(epoch, by, instance)` when another agent's epoch `by` counts in place of `epoch`."""


class LogCalls(Protocol):
    """The apis that hold the readers of logs."""

    async def publish_logs(self, chunk: LogsPublished) -> LogsTaken:
        """Send one chunk, and the answer of whoever holds its session; waits while the reader is slow.

        Raises ReaderGone, and Unavailable when the same chunk is to be sent again.
        """


@dataclass(frozen=True, slots=True)
class Order:
    """A command as the bus hands it out; again and again until it is acknowledged."""

    command: Command
    body: bytes
    """The command's bytes, as they were signed."""
    extensions: Mapping[str, str]
    """Of its envelope."""
    subject_action: str
    """The action that its subject names."""
    stored_at: datetime
    """When the broker took it, by the core's clock."""
    reply: str
    """Where it is acknowledged."""
    timed: bool = True
    """Whether the core's time was known when it came; else the own clock says what is late."""


class Report(NamedTuple):
    """What an agent says of a command. The same report always has the same name: its message id is of it."""

    name: str
    """`received`, `started`, `progressed-<sequence>`, `part-<index>`, `completed`."""
    body: CommandReceived | CommandStarted | CommandProgressed | ResultPart | CommandCompleted
    at: datetime


class CommandGateway(Protocol):
    """Where commands come from, and where it is told what becomes of them."""

    async def take_commands(self, handle: Callable[[Sequence[Order]], Awaitable[None]]) -> None:
        """Call `handle` with what is there, for ever; what it neither acknowledges nor defers comes again."""

    async def acknowledge(self, order: Order) -> None:
        """It need not come again. An acknowledgement may be lost, and never raises."""

    async def defer(self, order: Order, seconds: float) -> None:
        """Let it come again after that time. Never raises."""

    async def publish_reports(self, command_id: str, reports: Sequence[Report], *, again: bool) -> bool:
        """Repeat them in their order until the bus has all. False: one was too large for it.

        `again`: the bus may have them already, and shall hand them out once more.
        """

    async def on_cancel(self, handler: Callable[[str, str], Awaitable[None]]) -> None:
        """Call `handler(command_id, reason)` when a command is to be ended; it may come several times."""

    async def on_results_confirmed(self, handler: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """Call `handler(command_ids)` when the master has committed these results."""

    def silence(self) -> str:
        """Why nothing was heard from where commands come from for long; empty while there was."""
