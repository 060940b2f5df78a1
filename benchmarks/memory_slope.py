"""Memory of the real agent as its cluster grows: bytes for each further object, and what 150,000 would take.

The objects are pods that were created in a real API server and that nobody runs: no scheduler, no kubelets.
"""

import asyncio
import statistics
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks import agent, kube, stage
from benchmarks.measure import Figure
from benchmarks.pod import manifest
from benchmarks.processes import Memory, memory
from benchmarks.scene import Scene
from services.cli.cluster.components import STORE
from services.cli.cluster.control_plane import ControlPlane

LARGE = 150_000
"""Objects for which the line is drawn on."""
MIB = 1024 * 1024


async def measure(scene: Scene) -> list[Figure]:
    """A new agent process at each size."""
    sizes = scene.sizes.slope_objects
    plane = ControlPlane(scene.folder / "cluster", components=STORE)
    taken: list[Memory] = []
    await asyncio.to_thread(plane.__enter__)
    try:
        async with kube.connect(plane.kubeconfig) as api:
            for before, size in pairwise((0, *sizes)):
                stage.say(f"  creating pods up to {size:,}")
                await kube.each(partial(_create, api), range(before, size))
                taken.append(await _agent(scene, plane.kubeconfig, size))
    finally:
        await asyncio.to_thread(plane.__exit__, None, None, None)
    return _figures(sizes, taken)


def _figures(sizes: tuple[int, ...], taken: list[Memory]) -> list[Figure]:
    label = " / ".join(f"{size:,}" for size in sizes)
    slope, start = statistics.linear_regression(sizes, [each.peak for each in taken])
    settled = statistics.linear_regression(sizes, [each.pss for each in taken]).slope
    values = ", ".join(f"{each.peak:.0f}" for each in taken)
    return [
        Figure(
            f"agent memory for each further object, {label} pods",
            "bytes",
            [slope * MIB],
            note=f"slope of peak RSS ({values} MiB) by least squares; settled PSS {settled * MIB:.0f}; "
            f"real API server, pods that nobody runs",
        ),
        Figure(
            f"agent memory at {LARGE:,} pods, by that line",
            "MiB",
            [start + slope * LARGE],
            note="drawn on, not measured",
        ),
    ]


async def _create(api: kube.Api, number: int) -> None:
    await api.call("POST", "/api/v1/namespaces/default/pods", manifest(f"pod-{number:06}"))


async def _agent(scene: Scene, kubeconfig: Path, size: int) -> Memory:
    home = scene.folder / str(size)
    home.mkdir()
    async with stage.broker(home) as broker, agent.running(kubeconfig, home, broker) as process:
        await asyncio.sleep(scene.sizes.slope_settle)
        return memory(process.pid)
