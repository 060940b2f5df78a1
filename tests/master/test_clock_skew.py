"""By how much the broker's clock and the database's differ."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.topology import COMMANDS
from services.master.commands import skew
from services.master.commands.skew import ALIKE, SURE, ClockSkew
from services.runtime.bus.topology import parse_time
from tests.bus.fixtures import Connect
from tests.master.conftest import Fleet


async def test_alike(fleet: Fleet, bus: Connect) -> None:
    """A broker says what time it is there; on one host nothing is told."""
    asked = time.monotonic()
    info = await (await bus("master")).api(f"$JS.API.STREAM.INFO.{COMMANDS.name}")
    measured = ClockSkew()
    await measured.measure(fleet.db, parse_time(info["ts"]), asked, time.monotonic())
    assert measured.ahead == 0


@pytest.mark.parametrize("hours", [1, -1])
async def test_apart(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Told as far as it is certain: a slow answer changes nothing, and clocks that are right again are."""
    measured, off = ClockSkew(), timedelta(hours=hours)

    async def wrong(_: AsyncConnection) -> datetime:
        return datetime.now(UTC) - off

    monkeypatch.setattr(skew.clock, "now", wrong)

    async def measure(took: float) -> float:
        now = time.monotonic()
        await measured.measure(fleet.db, datetime.now(UTC), now - took, now)
        return measured.ahead

    assert await measure(3 * SURE) == 0
    assert abs(await measure(0.0) - 3600 * hours) < 1
    assert abs(await measure(3 * SURE) - 3600 * hours) < 1
    off = timedelta(seconds=ALIKE / 2)
    assert await measure(0.0) == 0
