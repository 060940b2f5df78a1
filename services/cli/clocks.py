"""What `atlhyper doctor` says of the clocks: the broker's, the database's, and this host's."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.topology import COMMANDS
from services.cli.context import bus_settings
from services.cli.findings import Finding
from services.persistence.database import clock
from services.persistence.database.engine import Database
from services.runtime.bus.client import Bus, BusError, connect
from services.runtime.bus.topology import parse_time
from services.runtime.errors import UserError
from services.runtime.settings import StoreSettings, load

APART = 5.0
"""Seconds between two clocks from which on it is told."""
_NEXT = (
    "let NTP set the clocks of both hosts (`timedatectl status` tells whether it does); until then times in "
    "answers do not fit together, and a command may expire that is not late"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One clock, compared with this host's."""

    name: str
    ahead: float
    """Seconds by which it is ahead of this host's."""
    within: float
    """Seconds by which that may be wrong: half of what the answer took."""


async def findings() -> AsyncIterator[Finding]:
    """One for each two clocks that differ, or one for all; none where only this host's can be read.

    A broker or a database that does not answer is told by its own check.
    """
    readings = [Reading("this host's clock", 0.0, 0.0)]
    for read in (_broker, _database):
        try:
            if (reading := await read()) is not None:
                readings.append(reading)
        except (BusError, UserError):
            continue
    for finding in judged(readings):
        yield finding


def judged(readings: list[Reading]) -> list[Finding]:
    """What follows from them; the first is this host's."""
    own, *others = readings
    if not others:
        return []
    pairs = [(one, other) for index, one in enumerate(others) for other in others[index + 1 :]]
    apart = [(one, other) for one, other in pairs if _apart(one, other)]
    apart += [(one, own) for one in others if _apart(one, own)]
    if not apart:
        names = ", ".join(reading.name for reading in readings)
        most = max(abs(one.ahead - other.ahead) for one in readings for other in readings)
        return [Finding("ok", "clocks", f"{names}: at most {most:.1f} s apart")]
    return [Finding("warn", "clocks", _text(one, other), _NEXT) for one, other in apart]


def _apart(one: Reading, other: Reading) -> bool:
    """Whether that is certain: what the answers took may be all the difference."""
    return abs(one.ahead - other.ahead) > APART + one.within + other.within


def _text(one: Reading, other: Reading) -> str:
    ahead = one.ahead - other.ahead
    return f"{one.name} is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} {other.name}"


async def _broker() -> Reading | None:
    async with connect(bus_settings(), "reader", name="atlhyper doctor") as bus:
        return await _compared("the broker's clock", lambda: _broker_time(bus))


async def _broker_time(bus: Bus) -> datetime | None:
    info = await bus.api(f"$JS.API.STREAM.INFO.{COMMANDS.name}")
    return parse_time(info["ts"]) if "ts" in info else None  # since nats-server 2.10


async def _database() -> Reading | None:
    """None for SQLite, which has no clock but that of whoever asks."""
    async with Database(load(StoreSettings).database_url) as database:
        if database.is_sqlite:
            return None
        async with database.read() as connection:
            return await _compared("the database's clock", lambda: clock.now(connection))


async def _compared(name: str, ask: Callable[[], Awaitable[datetime | None]]) -> Reading | None:
    before = time.monotonic()
    there = await ask()
    took = time.monotonic() - before
    if there is None:
        return None
    return Reading(name, (there - datetime.now(UTC)).total_seconds() + took / 2, took / 2)
