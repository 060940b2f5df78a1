"""Telling agents and apis what they may miss: over core NATS, not stored."""

from typing import TypeVar

import msgspec
from pydantic import BaseModel

from schemas import subjects
from schemas.registry import EventType
from services.runtime import logs
from services.runtime.bus.client import Bus, BusError, BusUnavailable

_log = logs.get_logger(__name__)

_TIMEOUT = 5.0
"""Seconds until the broker has it."""

Body = TypeVar("Body", bound=BaseModel | msgspec.Struct)


class Teller:
    """The master's voice. What stays in its way is logged once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._trouble = ""

    async def tell(
        self, subject: str, event_type: EventType[Body], body: Body, timeout: float = _TIMEOUT
    ) -> bool:
        """Whether it was sent. Never raises: what it follows from is committed already."""
        source = subjects.service_source("master", self._bus.name)
        try:
            await self._bus.send(subject, event_type.envelope(body, source=source), timeout=timeout)
        except BusUnavailable:
            return False  # the bus itself tells of that
        except BusError as error:
            if str(error) != self._trouble:
                _log.error("could not be told", subject=subject, reason=str(error))
            self._trouble = str(error)
            return False
        self._trouble = ""
        return True
