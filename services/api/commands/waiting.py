"""Waiting for the end of commands: woken by a hint of the bus, and looking now and then without one."""

import asyncio
import time
from collections.abc import Sequence

from schemas import registry, subjects
from schemas.commands import CommandState
from schemas.control import CommandsChanged
from schemas.envelope import Envelope
from schemas.errors import ContractError
from services.api.http.limits import Seats
from services.persistence import queries
from services.persistence.database.engine import Database
from services.runtime import logs
from services.runtime.bus.client import Bus, BusError, BusUnavailable
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

MAX_WAIT = 60.0
"""Seconds that a request may wait."""
POLL = 1.0
"""Seconds between two looks without a hint: what a lost one costs."""
_PATIENCE = 1.0
"""Seconds until the broker has a hint."""


class CommandNews:
    """What an api says and hears of commands; `heard` is a handler for `Bus.subscribe`."""

    def __init__(self, database: Database, bus: Bus | None = None, waiters: int = 200) -> None:
        self.seats = Seats(waiters)
        self._database = database
        self._bus = bus
        self._waiting: dict[str, tuple[asyncio.Event, int]] = {}
        """By command: what wakes those who wait, and how many they are."""
        self._closing = False
        self._trouble = ""

    def close(self) -> None:
        """Whoever waits is answered now."""
        self._closing = True
        for event, _ in self._waiting.values():
            event.set()

    async def tell(self, ids: Sequence[str]) -> None:
        """Commands were accepted, or are to end. Never raises: a master looks by itself as well."""
        if self._bus is None:
            return
        source = subjects.service_source("api", self._bus.name)
        envelope = registry.COMMANDS_CHANGED.envelope(CommandsChanged(command_ids=list(ids)), source=source)
        try:
            await self._bus.send(subjects.COMMANDS_CHANGED, envelope, timeout=_PATIENCE)
        except BusUnavailable:
            return  # the bus itself tells of that
        except BusError as error:
            if str(error) != self._trouble:
                _log.error("masters could not be told of a command", reason=str(error))
            self._trouble = str(error)
        else:
            self._trouble = ""

    async def heard(self, _subject: str, envelope: Envelope) -> None:
        """Raises ContractError."""
        if envelope.type != registry.COMMANDS_CHANGED.name:
            raise ContractError(f"{envelope.type!r} does not speak of commands")
        told: CommandsChanged = registry.COMMANDS_CHANGED.decode(envelope.data)
        for command_id in self._waiting.keys() & set(told.ended):
            self._waiting[command_id][0].set()

    async def ended(self, id: str, seconds: float) -> bool:
        """Wait for the end of a command at most so long; whether it has ended. Raises DatabaseUnavailable."""
        deadline = time.monotonic() + seconds
        event, count = self._waiting.get(id) or (asyncio.Event(), 0)
        self._waiting[id] = event, count + 1
        try:
            while True:
                async with self._database.read() as session:
                    state = await queries.command_state(session, id)
                if state is None or CommandState(state).terminal:
                    return True
                left = deadline - time.monotonic()
                if left <= 0 or self._closing:
                    return False
                if await set_within(event, min(left, POLL)) and not self._closing:
                    return True  # a master that says so has committed it
        finally:
            event, count = self._waiting[id]
            if count > 1:
                self._waiting[id] = event, count - 1
            else:
                del self._waiting[id]
