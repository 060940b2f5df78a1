"""Faults of clocks: a host's time of day is wrong by an hour."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from tests.faults import shim
from tests.faults.fault import Needs, Steps, Wrong, fault
from tests.faults.system import CLUSTER, System

HOUR = 3600
NEAR = timedelta(seconds=90)
"""Between what is now and `as_of`, which is some heartbeats old at most."""
READY = 30.0
"""Seconds that a service may take to be ready after its start."""
LOST = 75.0
"""Seconds until a silent agent is told as lost, at most."""


def _shifted(agent: int, services: int) -> Steps:
    """Agent, master and api run with these clocks, beginning and ending by a restart."""

    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        await _restart(system, {"agent": agent, "master": services, "api": services})
        try:
            await _fresh(system)
            silent = await _is_lost_when_silent(system)
            await _events_have_their_times(system)
            yield f"silence told in {silent:.1f} s"
        finally:
            await _restart(system, {"agent": 0, "master": 0, "api": 0})

    return steps


fault(
    "clocks-agent-ahead",
    "the agent's time of day an hour ahead, that of master and api an hour behind",
    Needs.SHIM,
)(_shifted(HOUR, -HOUR))
fault(
    "clocks-agent-behind",
    "the agent's time of day an hour behind, that of master and api an hour ahead",
    Needs.SHIM,
)(_shifted(-HOUR, HOUR))


async def _restart(system: System, clocks: dict[str, int]) -> None:
    """With these clocks, in seconds ahead."""
    await asyncio.gather(*(system.services[name].stop() for name in clocks))
    starts = (system.services[name].start(**{shim.CLOCK: str(shift)}) for name, shift in clocks.items())
    await asyncio.gather(*starts)
    try:
        async with asyncio.timeout(READY):
            while await system.unready():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Wrong(f"not ready with these clocks: {clocks}, {await system.unready()}") from None


async def _fresh(system: System) -> None:
    """The agent is live as soon as it is heard, and the answers are as of now."""
    await _until_state(system, "live")
    cluster = await system.get(f"/clusters/{CLUSTER}")
    pods = await system.get(f"/clusters/{CLUSTER}/pods", limit=1)
    for what, text in (("cluster", cluster["as_of"]), ("pods", pods["as_of"])):
        if text is None or abs(datetime.now(UTC) - datetime.fromisoformat(text)) > NEAR:
            raise Wrong(f"{what}: as of {text}, and it is {datetime.now(UTC)}")


async def _is_lost_when_silent(system: System) -> float:
    """The agent stands still until it is told as lost, and is live again afterwards; seconds of the first."""
    system.services["agent"].pause()
    try:
        seconds = await _until_state(system, "lost")
    finally:
        system.services["agent"].resume()
    await _until_state(system, "live")
    return seconds


async def _until_state(system: System, state: str) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (found := (await system.get(f"/clusters/{CLUSTER}"))["state"]) != state:
        if loop.time() - began > LOST:
            raise Wrong(f"the agent is {found} after {LOST:.0f} s, and should be {state}")
        await asyncio.sleep(0.1)
    return loop.time() - began


async def _events_have_their_times(system: System) -> None:
    """Those that the API server has given them, in the rows' own columns too."""
    compared = 0
    for row in await system.rows("events"):
        body = row["object"]
        for column, name in (("first_seen", "firstTimestamp"), ("last_seen", "lastTimestamp")):
            if name in body:  # the API server's own Events have another one
                compared += 1
                if datetime.fromisoformat(row[column]) != datetime.fromisoformat(body[name]):
                    raise Wrong(f"Event {row['name']}: {column} is {row[column]}, {name} {body[name]}")
    if not compared:
        raise Wrong("no Event was compared")
