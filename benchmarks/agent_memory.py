"""Memory of the real agent process with a large cluster."""

import asyncio

from benchmarks import agent, stage
from benchmarks.measure import Figure
from benchmarks.processes import memory
from benchmarks.scene import Scene

SETTLE = 20.0
"""Seconds after everything is collected: watches, a digest and heartbeats included."""


async def measure(scene: Scene) -> list[Figure]:
    """Start the agent as users do, wait until it has collected everything, read its peak."""
    async with (
        stage.broker(scene.folder) as broker,
        agent.running(scene.kubeconfig, scene.folder, broker) as process,
    ):
        await asyncio.sleep(SETTLE)
        peak = memory(process.pid).peak
    return [
        Figure(
            f"agent memory, peak RSS with {scene.sizes.pods} pods",
            "MiB",
            [peak],
            bar=120,
            published="Go AtlHyper 167 MB peak, event-exporter 76 MB, kwatch 81 MiB heap",
        )
    ]
