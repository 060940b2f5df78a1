"""Memory of the real agent process with a large cluster."""

import asyncio
import os
import re
import sys
from pathlib import Path

from benchmarks import stage
from benchmarks.measure import Figure
from schemas import registry, subjects, topology
from schemas.envelope import Envelope
from schemas.ids import kubernetes

DEADLINE = 120.0
SETTLE = 20.0
"""Seconds after everything is collected: watches, a digest and heartbeats included."""


async def measure(kubeconfig: Path, home: Path, pods: int) -> Figure:
    """Start the agent as users do, wait until it has collected everything, read its peak."""
    target = kubernetes(stage.CLUSTER_ID)
    async with stage.broker(home) as broker, stage.connect(broker, home, topology.READER.name) as reader:
        complete = asyncio.Event()

        async def look(_subject: str, envelope: Envelope) -> None:
            beat = registry.HEARTBEAT_SENT.decode(envelope.data)
            if beat.collection and all(item.state == "synced" for item in beat.collection):
                complete.set()

        await reader.subscribe(subjects.heartbeat(target), look)
        environment = {
            **os.environ,
            "ATLHYPER_HOME": str(home),
            "AGENT_CLUSTER_ID": stage.CLUSTER_ID,
            "AGENT_KUBECONFIG": str(kubeconfig),
            "AGENT_MASTER_URL": broker.url,
            "AGENT_HEARTBEAT_INTERVAL": "2s",
            "AGENT_SNAPSHOT_INTERVAL": "5s",
        }
        command = [sys.executable, "-m", "services", "agent", "kubernetes"]
        log = (home / "agent.log").open("wb")
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
        try:
            await asyncio.wait_for(complete.wait(), DEADLINE)
            await asyncio.sleep(SETTLE)
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 15)
            log.close()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak, "this system does not tell the peak memory of a process"
    return Figure(
        f"agent memory, peak RSS with {pods} pods",
        "MiB",
        [int(peak[1]) / 1024],
        "none",
        bar=120,
        published="Go AtlHyper 167 MB peak, event-exporter 76 MB, kwatch 81 MiB heap",
    )
