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
from tests.waiting import until


async def test_alike(fleet: Fleet, bus: Connect) -> None:
    """A broker says what time it is there; on one host nothing is told."""
    master, measured = await bus("master"), ClockSkew()

    async def known() -> bool:
        asked = time.monotonic()
        info = await master.api(f"$JS.API.STREAM.INFO.{COMMANDS.name}")
        await measured.measure(fleet.db, parse_time(info["ts"]), asked, time.monotonic())
        return measured.ahead is not None

    await until(known)
    assert measured.ahead == 0


@pytest.mark.parametrize("hours", [1, -1])
async def test_apart(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Told as far as it is certain: a slow answer changes nothing, nor says that the clocks are alike; clocks
    that are right again are.
    """
    measured, off = ClockSkew(), timedelta(hours=hours)

    async def wrong(_: AsyncConnection) -> datetime:
        return datetime.now(UTC) - off

    monkeypatch.setattr(skew.clock, "now", wrong)

    async def measure(took: float) -> float | None:
        now = time.monotonic()
        await measured.measure(fleet.db, datetime.now(UTC), now - took, now)
        return measured.ahead

    assert await measure(3 * SURE) is None
    assert await measure(0.0) == pytest.approx(3600 * hours, abs=1)
    assert await measure(3 * SURE) == pytest.approx(3600 * hours, abs=1)
    off = timedelta(seconds=ALIKE / 2)
    assert await measure(0.0) == 0
