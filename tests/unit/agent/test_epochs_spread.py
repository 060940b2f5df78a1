"""When epochs begin: a fleet that was started at one moment does not list at one moment for ever."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.frames import Frame, Phase, Scope
from services.agent.scheduler import snapshots
from services.agent.scheduler.snapshots import FULL_INTERVAL_JITTER, SnapshotScheduler

HOUR, EPOCHS = 3600.0, 50


class Bus:
    """A MasterGateway that takes every frame."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    async def publish_frame(self, frame: Frame) -> None:
        if frame.phase is Phase.BEGIN:
            self.begun.append(frame.epoch)


async def observe(_: Any) -> None:
    await asyncio.Event().wait()


async def test_full_intervals_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch lasts the full interval give or take a tenth, drawn anew, and then another one begins."""
    lasted: list[float] = []

    async def over(_: asyncio.Event, seconds: float) -> bool:
        lasted.append(seconds)
        if len(lasted) == EPOCHS:
            await asyncio.Event().wait()
        return False

    monkeypatch.setattr(snapshots, "set_within", over)
    capability: Any = SimpleNamespace(observe=observe, scope=lambda: Scope(resources=["pods"]))
    bus: Any = Bus()
    scheduler = SnapshotScheduler(
        capability, bus, instance="i", digest_interval=HOUR, full_interval=HOUR, events=dict
    )
    running = asyncio.create_task(scheduler.run())
    async with asyncio.timeout(30):
        while len(lasted) < EPOCHS:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(set(bus.begun)) == EPOCHS
    assert all(abs(seconds - HOUR) <= FULL_INTERVAL_JITTER * HOUR for seconds in lasted)
    assert max(lasted) - min(lasted) > HOUR / 20
