"""A fleet on one machine: what the master costs in steady state, and the list of all agents.

The agents are simulated; broker, master, api and database are the real ones, and so are the connections:
one per agent, under its own credential.
"""

import asyncio
import time

from benchmarks import simulated, stage
from benchmarks.measure import Figure
from benchmarks.processes import Core, Shares, core, memory
from benchmarks.scene import Scene
from benchmarks.simulated import SimulatedAgent
from schemas.ids import kubernetes

BAR = 25.0
"""Percent of one core."""
ASKING = 2.0
"""Seconds between two requests for all agents."""
SETTLE = 5.0
SYNC_DEADLINE = 180.0


async def measure(scene: Scene) -> list[Figure]:
    """Each database in turn."""
    figures = []
    for name in scene.databases.names:
        folder = scene.folder / name
        folder.mkdir()
        targets = [kubernetes(f"fleet-{number:04}") for number in range(scene.sizes.fleet)]
        async with (
            stage.broker(folder, targets) as broker,
            core(folder, broker.url, scene.databases.url(name, folder)) as services,
            simulated.connections(broker, folder, targets) as buses,
        ):
            stage.say(f"  {len(targets)} simulated agents publish their state")
            agents = await simulated.start(buses, targets, scene.sizes.fleet_pods)
            await simulated.synced(services.rest, targets, SYNC_DEADLINE)
            assert broker.pid is not None
            figures += await _steady(scene, services, agents, broker.pid, name)
    return figures


async def _steady(
    scene: Scene, services: Core, agents: list[SimulatedAgent], broker: int, database: str
) -> list[Figure]:
    sizes = scene.sizes
    pids = {"master": services.master.pid, "broker": broker, "api": services.api.pid}
    async with stage.beside(agent.live() for agent in agents):
        await asyncio.sleep(SETTLE)
        quiet, _ = await _observe(services, pids, sizes.fleet_seconds)
        async with stage.beside(agent.churn(sizes.fleet_change_interval) for agent in agents):
            await asyncio.sleep(SETTLE)
            busy, answers = await _observe(services, pids, sizes.fleet_seconds)
    taken = memory(services.master.pid)
    resyncs = sum(agent.resyncs for agent in agents)
    fleet = f"{len(agents):,} simulated agents, {database}"
    note = (
        f"heartbeats 15 s, digests 30 s; {sizes.fleet_pods} pods and one connection each; {resyncs} resyncs"
    )
    rate = len(agents) / sizes.fleet_change_interval
    return [
        Figure(
            f"master, {fleet}: CPU in steady state",
            "% of a core",
            [quiet["master"]],
            bar=BAR,
            note=f"{note}; broker {quiet['broker']:.0f} %",
        ),
        Figure(
            f"master, {fleet}: CPU with {rate:.0f} changes/s of the fleet besides",
            "% of a core",
            [busy["master"]],
            note=f"broker {busy['broker']:.0f} %, api {busy['api']:.0f} %",
        ),
        Figure(
            f"master, {fleet}: memory",
            "MiB",
            [taken.pss],
            note=f"PSS now; peak RSS {taken.peak:.0f} MiB",
        ),
        Figure(f"GET /agents, {fleet}", "ms", answers, note="with the changes; api on the same two cores"),
    ]


async def _observe(
    services: Core, pids: dict[str, int], seconds: float
) -> tuple[dict[str, float], list[float]]:
    """CPU shares in percent, and ms of each request for all agents."""
    shares, answers = Shares(**pids), []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.perf_counter()
        await services.rest.agents()
        answers.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(ASKING)
    return shares.percent(), answers
