"""The others' changes to their rows while a large cluster arrives, beside the same without an arrival."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks import arriving, simulated, stage
from benchmarks.measure import Figure, quantile
from benchmarks.processes import Rest, core
from benchmarks.scene import Scene
from benchmarks.simulated import NAMESPACE, PODS, SimulatedAgent
from benchmarks.visible import PAUSE, Probe
from schemas.ids import Target, kubernetes

OBJECTS = 50
"""Of each of the others."""
INTERVAL = 1.0
"""Seconds between two changes of each."""
BAR = 250.0
"""ms, as for a change without an arrival."""
DEADLINE = 120.0

Samples = dict[Target, list[float]]
"""Seconds from change to row, by agent."""


async def measure(scene: Scene) -> list[Figure]:
    """Each database in turn."""
    sizes = scene.sizes
    others = [kubernetes(f"other-{number:02}") for number in range(sizes.others)]
    large = [kubernetes(f"large-{number}") for number in range(sizes.arrivals)]
    figures = []
    for name in scene.databases.names:
        folder = scene.folder / name
        folder.mkdir()
        async with (
            stage.broker(folder, [*others, *large]) as broker,
            core(folder, broker.url, scene.databases.url(name, folder)) as services,
            simulated.connections(broker, folder, others) as buses,
        ):
            rest = services.rest
            agents = await simulated.start(buses, others, OBJECTS)
            await simulated.synced(rest, others, DEADLINE)
            async with _changing(rest, agents) as quiet:
                await asyncio.sleep(sizes.others_seconds)
            arrivals = []
            async with _changing(rest, agents) as during:
                for target in large:
                    async with arriving.waiting(folder, broker.url, target, sizes.arrival_pods) as process:
                        started = time.perf_counter()
                        arriving.arrive(process)
                        await simulated.synced(rest, [target], DEADLINE)
                        arrivals.append(time.perf_counter() - started)
                    stage.say(f"  {target} is in sync after {arrivals[-1]:.1f} s")
        figures += _figures(scene, name, quiet, during, arrivals, {target.shard for target in large})
    return figures


def _figures(
    scene: Scene, database: str, quiet: Samples, during: Samples, arrivals: list[float], shards: set[int]
) -> list[Figure]:
    pods = f"{scene.sizes.arrival_pods:,} pods"
    note = f"simulated agents; asked for every {PAUSE * 1000:.0f} ms or a tenth of the wait"
    for where, same in (("in a shard of an arriving one", True), ("in other shards", False)):
        some = {target: values for target, values in during.items() if (target.shard in shards) is same}
        if values := [value for values in some.values() for value in values]:
            note += f"; the {len(some)} {where}: p99 {quantile(values, 99) * 1000:.0f} ms"
    return [
        Figure(
            f"change → row of {len(quiet)} agents while {pods} arrive, {database}",
            "ms",
            [value * 1000 for some in during.values() for value in some],
            "without an arrival",
            [value * 1000 for some in quiet.values() for value in some],
            percentile=99,
            bar=BAR,
            note=note,
        ),
        Figure(
            f"arrival of {pods}, to in sync, {database}", "s", arrivals, note="one simulated agent, by itself"
        ),
    ]


@asynccontextmanager
async def _changing(rest: Rest, agents: list[SimulatedAgent]) -> AsyncIterator[Samples]:
    """Each agent changes one pod an interval while the block runs; the samples are whole after it."""
    samples: Samples = {}
    probes = {
        agent.target: Probe(rest, f"/clusters/{agent.target.id}/{PODS}/{NAMESPACE}/pod-0") for agent in agents
    }
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(probe.run()) for probe in probes.values()]
        changing = [
            group.create_task(_change(agent, probes[agent.target], number * INTERVAL / len(agents)))
            for number, agent in enumerate(agents)
        ]
        yield samples
        for task in changing:
            task.cancel()
        await asyncio.wait(changing)
        for probe in probes.values():
            await probe.drained()
        for task in asking:
            task.cancel()
    samples |= {target: probe.seconds for target, probe in probes.items()}


async def _change(agent: SimulatedAgent, probe: Probe, delay: float) -> None:
    """One change an interval, evenly spread over the agents."""
    clock = asyncio.get_running_loop().time
    due = clock() + delay
    while True:
        await asyncio.sleep(due - clock())
        started = time.perf_counter()
        version = await asyncio.shield(asyncio.ensure_future(agent.change(0)))
        probe.expect("pod-0", version, started)
        due = max(due + INTERVAL, clock())
