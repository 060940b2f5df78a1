"""The broker's disk is full: the master says so in ten seconds, and goes on when the broker is restarted."""

import resource
import sys
from pathlib import Path

import pytest

from tests.bus.fixtures import RunningBroker
from tests.master.agent import BusAgent
from tests.master.conftest import Fleet, MasterProcess
from tests.waiting import until

TOLD = 10.0
"""Seconds."""


@pytest.mark.alone
@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of another process")
async def test_a_full_disk_of_the_broker_is_told(
    own_broker: RunningBroker, master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """Its heartbeat is not stored though the connection is well: readiness says why and what to do."""

    async def told() -> bool:
        return "make room and restart" in await master.trouble()

    async def well() -> bool:
        return not await master.trouble()

    await until(well)
    await agent.send(agent.source.begin("e1"), agent.source.put("p1"), agent.source.synced())
    await fleet.until_rows(agent.source)
    pid = own_broker.broker.pid
    assert pid is not None
    blocks = Path(own_broker.home / "nats" / "data").rglob("*HEARTBEATS/msgs/*.blk")
    limit = max(block.stat().st_size for block in blocks)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, -1))

    await until(told, TOLD)
    assert own_broker.broker.pid == pid, "the broker itself ended"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (-1, -1))
    await own_broker.broker.stop()
    await own_broker.start()
    await until(well)
    await until(lambda: agent.bus.connected)
    await agent.send(agent.source.put("p2"))
    await fleet.until_rows(agent.source)
