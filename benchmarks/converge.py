"""After kill -9 of the broker: until what changed meanwhile is visible, for every agent."""

import asyncio
import os
import signal
import time
from contextlib import suppress

from benchmarks import simulated, stage
from benchmarks.databases import SQLITE
from benchmarks.measure import Figure
from benchmarks.processes import Rest, core
from benchmarks.scene import Scene
from benchmarks.simulated import NAMESPACE, PODS, SimulatedAgent
from schemas.ids import kubernetes
from services.runtime.bus.broker import BrokerExited
from services.runtime.bus.client import Bus

OBJECTS = 50
CHANGES = 3
"""Of each agent during the outage."""
BAR = 10.0
"""Seconds within which work resumes (promise 8)."""
DEADLINE = 90.0
SWEEP = 0.1
"""Seconds between two looks at those that are not there yet."""


async def measure(scene: Scene) -> list[Figure]:
    """Rounds of outage and return."""
    sizes = scene.sizes
    targets = [kubernetes(f"outage-{number:03}") for number in range(sizes.outage_agents)]
    visible: list[float] = []
    connected: list[float] = []
    folder = scene.folder
    async with (
        stage.broker(folder, targets) as broker,
        core(folder, broker.url, scene.databases.url(SQLITE, folder)) as services,
        simulated.connections(broker, folder, targets) as buses,
    ):
        agents = await simulated.start(buses, targets, OBJECTS)
        await simulated.synced(services.rest, targets, DEADLINE)
        for number in range(sizes.outage_rounds):
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            with suppress(BrokerExited):
                await broker.run()
            async with asyncio.TaskGroup() as group:
                changing = [group.create_task(_change(agent)) for agent in agents]
                await asyncio.sleep(sizes.outage_seconds)
                await broker.start()
                listening = time.perf_counter()
                back = group.create_task(_connected(buses, listening))
                seen = group.create_task(_visible(services.rest, agents, changing, listening))
            connected.append(back.result())
            visible.append(seen.result())
            stage.say(f"  round {number + 1}: {visible[-1]:.1f} s, all connected after {connected[-1]:.1f} s")
    resyncs = sum(agent.resyncs for agent in agents)
    return [
        Figure(
            f"broker restart to everything visible, {len(agents)} simulated agents, SQLite",
            "s",
            visible,
            "all agents connected again",
            connected,
            bar=BAR,
            note=f"kill -9, {sizes.outage_seconds:.0f} s away, {CHANGES} changes of each agent; counted "
            f"from the moment it listens again; {resyncs} resyncs; looked for every {SWEEP * 1000:.0f} ms",
        )
    ]


async def _change(agent: SimulatedAgent) -> int:
    """Changes of several pods at one time; the version of the last one, once the bus has all."""
    return (await asyncio.gather(*(agent.change(number) for number in range(CHANGES))))[-1]


async def _connected(buses: list[Bus], since: float) -> float:
    async with asyncio.timeout(DEADLINE):
        for bus in buses:
            await bus.wait_connected()
    return time.perf_counter() - since


async def _visible(
    rest: Rest, agents: list[SimulatedAgent], changing: list[asyncio.Task[int]], since: float
) -> float:
    seen, missing = 0.0, list(zip(agents, changing, strict=True))
    async with asyncio.timeout(DEADLINE):
        while missing:
            left = []
            for agent, change in missing:
                # Nothing to look for before the bus has it.
                if not change.done() or await _version(rest, agent) < change.result():
                    left.append((agent, change))
            missing = left
            seen = time.perf_counter() - since
            await asyncio.sleep(SWEEP)
    return seen


async def _version(rest: Rest, agent: SimulatedAgent) -> int:
    found = await rest.get(f"/clusters/{agent.target.id}/{PODS}/{NAMESPACE}/pod-{CHANGES - 1}")
    return int(found["object"]["metadata"]["resourceVersion"]) if found else 0
