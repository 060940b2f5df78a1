"""Messages for the tests of the bus, and what several of them need."""

from datetime import UTC, datetime

from schemas import registry, subjects
from schemas.envelope import Envelope
from schemas.frames import Frame, Phase
from schemas.ids import Target
from schemas.presence import Health, Heartbeat
from services.runtime.bus.consumer import Cursor


def heartbeat(target: Target) -> Envelope:
    """A heartbeat of that agent."""
    body = Heartbeat(version="1", interval=15, health=Health(healthy=True, start_time=datetime.now(UTC)))
    return registry.HEARTBEAT_SENT.envelope(body, source=subjects.agent_source(target))


def frame(target: Target, sequence: int, epoch: str = "e") -> Envelope:
    """An empty data frame of that agent."""
    body = Frame(epoch=epoch, sequence=sequence, phase=Phase.DATA)
    return registry.FRAME_PUBLISHED.envelope(body, source=subjects.agent_source(target), epoch=epoch)


class MemoryCursors:
    """A CursorStore in memory."""

    def __init__(self) -> None:
        self.cursors: dict[str, Cursor] = {}

    async def load(self, name: str, stream: str) -> Cursor | None:
        cursor = self.cursors.get(name)
        return cursor if cursor is not None and cursor.stream == stream else None

    async def save(self, cursor: Cursor) -> None:
        self.cursors[cursor.name] = cursor
