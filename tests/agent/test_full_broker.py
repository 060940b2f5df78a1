"""The broker's disk is full: told within ten seconds, by readiness and heartbeat, and nothing is lost."""

import asyncio
import resource
import sys
from pathlib import Path

import httpx
import pytest

from schemas import topology
from schemas.presence import CollectionState
from services.cli.cluster.control_plane import ControlPlane
from tests.agent.fixtures import Heard, RunAgent
from tests.bus.fixtures import Connect, RunningBroker
from tests.waiting import until

TOLD = 10.0
"""Seconds."""


@pytest.fixture
def broker(own_broker: RunningBroker) -> RunningBroker:
    """The agent's broker, which this test may fill and restart."""
    return own_broker


def trouble(heard: Heard) -> str:
    """What the last heartbeat complains of."""
    return heard.heartbeats[-1].health.last_error if heard.heartbeats else "no heartbeat yet"


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of another process")
async def test_a_full_disk_of_the_broker_is_told_and_nothing_is_lost(
    run_agent: RunAgent,
    broker: RunningBroker,
    bus: Connect,
    control_plane: ControlPlane,
    namespace: str,
    unused_tcp_port: int,
) -> None:
    """A stream that cannot grow takes nothing, while the connection and other streams are well.

    Room alone does not revive it: the broker is restarted, as is said, and every frame is stored once.
    """

    async def create(name: str) -> None:
        await asyncio.to_thread(control_plane.kubectl, "create", "configmap", name, "-n", namespace)

    async def readiness() -> str:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.get(f"http://127.0.0.1:{unused_tcp_port}/readyz")
            return "" if answer.status_code == 200 else answer.text

    async def ready() -> bool:
        return not await readiness()

    async def stored() -> int:
        answer = await core.api(f"$JS.API.STREAM.INFO.{topology.SNAPSHOTS.name}")
        return int(answer["state"]["messages"])

    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_HEARTBEAT_INTERVAL="500ms",
        AGENT_METRICS_LISTEN=f"127.0.0.1:{unused_tcp_port}",
    ) as heard:
        core = await bus("reader")
        await heard.until(
            lambda h: (
                h.heartbeats
                and {item.state for item in h.heartbeats[-1].collection} == {CollectionState.SYNCED}
                and not trouble(h)
            )
        )
        await until(ready)
        pid = broker.broker.pid
        assert pid is not None
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest_file(broker, "SNAPSHOTS"), -1))
        await create("during")
        await heard.until(lambda h: "make room and restart" in trouble(h), TOLD)
        assert "make room and restart" in await readiness()
        assert broker.broker.pid == pid, "the broker itself ended"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (-1, -1))
        await broker.broker.stop()
        await broker.broker.start()
        beats = len(heard.heartbeats)
        await heard.until(lambda h: len(h.heartbeats) > beats)  # or the reader may come back too late for it
        await create("after")
        both = {(namespace, "during"), (namespace, "after")}
        await heard.until(lambda h: both <= set(h.objects("configmaps")))
        await heard.until(lambda h: not trouble(h))
        await until(ready)

        async def all_stored() -> bool:
            last = {frame.epoch: frame.sequence for frame in heard.frames}  # the reader may have missed one
            return await stored() == sum(last.values())

        await until(all_stored)


def largest_file(broker: RunningBroker, stream: str) -> int:
    """Bytes of the largest file of a stream's messages."""
    blocks = Path(broker.home / "nats" / "data").rglob(f"*{stream}/msgs/*.blk")
    return max(block.stat().st_size for block in blocks)
