"""The gateway: how soon the bus has what an outage held up."""

import asyncio

import pytest

from schemas import subjects
from schemas.frames import Frame, Phase
from schemas.topology import SNAPSHOTS
from services.agent.gateway import bus as gateway_bus
from services.agent.gateway.bus import BusGateway
from services.runtime import backoff
from services.runtime.backoff import Backoff
from services.runtime.bus.client import StreamMissing
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.bus.messages import frame
from tests.waiting import until

A = AGENTS[0]
FRAME = Frame(epoch="e", sequence=1, phase=Phase.DATA)


@pytest.fixture
def long_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's back-off is where it is after many attempts, and each draw is its bound: a minute."""

    def worn(base: float, cap: float) -> Backoff:
        """Whatever the cap was."""
        worn = Backoff(base, cap=60.0)
        worn.attempts = 10
        return worn

    monkeypatch.setattr(backoff.random, "uniform", lambda _low, high: high)
    monkeypatch.setattr(gateway_bus, "Backoff", worn)


@pytest.mark.usefixtures("long_back_off")
async def test_frame_goes_out_as_soon_as_the_bus_is_back(own_broker: RunningBroker, bus: Connect) -> None:
    """What an outage held up waits for the connection, not for the back-off that grew meanwhile."""
    agent = await bus(A.durable)
    await own_broker.broker.stop()
    await until(lambda: not agent.connected)
    publishing = asyncio.create_task(BusGateway(agent, A).publish_frame(FRAME))
    await asyncio.sleep(0)  # its first attempt fails
    await own_broker.broker.start()
    await agent.wait_connected()
    await until(publishing.done, seconds=30)
    info = await (await bus("reader")).api(f"$JS.API.STREAM.INFO.{SNAPSHOTS.name}")
    assert info["state"]["messages"] == 1


@pytest.mark.usefixtures("long_back_off")
async def test_other_causes_keep_the_back_off_until_the_bus_is_another(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """A stream that is missing is asked for at the pace of the back-off; a new connection ends the pause."""
    agent, operator = await bus(A.durable), await bus("operator")
    await operator.api(f"$JS.API.STREAM.DELETE.{SNAPSHOTS.name}")
    publishing = asyncio.create_task(BusGateway(agent, A).publish_frame(FRAME))
    with pytest.raises(StreamMissing):  # behind the gateway's, on the same connection
        await agent.publish(subjects.snapshot(A), frame(A, 1))
    await own_broker.apply()
    with pytest.raises(TimeoutError):
        await until(publishing.done, seconds=1)
    await own_broker.broker.stop()
    await until(lambda: not agent.connected)
    await own_broker.broker.start()
    await agent.wait_connected()
    await until(publishing.done, seconds=30)
