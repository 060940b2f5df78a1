"""Waiting for the end of commands: woken by a hint of the bus, and looking now and then without one."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

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


@dataclass(slots=True, eq=False)
class _Waiter:
    """One who waits for the end of a command."""

    look: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there may be something new."""
    ended: bool = False
    """A master has said so."""


class CommandNews:
    """What an api says and hears of commands; `heard` is a handler for `Bus.subscribe`."""

    def __init__(self, database: Database, bus: Bus | None = None, waiters: int = 200) -> None:
        self.seats = Seats(waiters)
        self._database = database
        self._bus = bus
        self._waiting: dict[str, list[_Waiter]] = {}
        """By command."""
        self._closing = False
        self._trouble = ""

    def close(self) -> None:
        """Whoever waits is answered now."""
        self._closing = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.look.set()

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
        known = "ended" in told.model_fields_set  # an older master does not say it: then it may be so
        for command_id in self._waiting.keys() & set(told.ended if known else told.command_ids):
            for waiter in self._waiting[command_id]:
                waiter.ended |= known
                waiter.look.set()

    async def ended(self, id: str, seconds: float) -> bool:
        """Wait for the end of a command at most so long; whether it has ended. Raises DatabaseUnavailable."""
        deadline = time.monotonic() + seconds
        waiter = _Waiter()
        waiters = self._waiting.setdefault(id, [])
        waiters.append(waiter)
        try:
            while True:
                waiter.look.clear()
                async with self._database.read() as connection:
                    state = await queries.command_state(connection, id)
                if state is None or CommandState(state).terminal:
                    return True
                left = deadline - time.monotonic()
                if left <= 0 or self._closing:
                    return False
                await set_within(waiter.look, min(left, POLL))
                if waiter.ended:
                    return True  # a master that says so has committed it
        finally:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[id]
