"""The real agent's process, and the moment from which it has collected everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import stage
from benchmarks.processes import Process
from schemas import registry, subjects, topology
from schemas.envelope import Envelope
from services.runtime.bus.broker import Broker

DEADLINE = 180.0


@asynccontextmanager
async def running(
    kubeconfig: Path, home: Path, broker: Broker, *, heartbeat: str = "2s", digest: str = "5s", **more: str
) -> AsyncIterator[Process]:
    """The agent as users start it; on entry all that it collects is synced, by its own heartbeat.

    `more`: further variables of its environment.
    """
    complete = asyncio.Event()

    async def look(_subject: str, envelope: Envelope) -> None:
        beat = registry.HEARTBEAT_SENT.decode(envelope.data)
        if beat.collection and all(item.state == "synced" for item in beat.collection):
            complete.set()

    variables = {
        "AGENT_CLUSTER_ID": stage.CLUSTER_ID,
        "AGENT_KUBECONFIG": str(kubeconfig),
        "AGENT_MASTER_URL": broker.url,
        "AGENT_METRICS_LISTEN": "127.0.0.1:0",
        "AGENT_HEARTBEAT_INTERVAL": heartbeat,
        "AGENT_SNAPSHOT_INTERVAL": digest,
        **more,
    }
    async with stage.connect(broker, home, topology.READER.name) as reader:
        await reader.subscribe(subjects.heartbeat(stage.BENCH), look)
        async with Process("agent kubernetes", home, variables) as agent:
            async with asyncio.timeout(DEADLINE):
                await complete.wait()
            yield agent
            agent.check()
