"""Fixtures with a real broker; `tests/conftest.py` loads this module as a plugin.

`broker` is shared by the run: it has all streams and the credentials of the agents `a` and `b`.
`own_broker` belongs to one test, which may kill it. `bus` opens connections to either.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from schemas import ids
from services.runtime.bus import broker as embedded
from services.runtime.bus import client, credentials, link, topology
from services.runtime.bus.client import Bus
from services.runtime.settings import BusSettings
from tests.ports import free_port

AGENTS = (ids.kubernetes("a"), ids.kubernetes("b"))

_names = itertools.count(1)


class RunningBroker:
    """An embedded broker with its credentials; `broker` is the process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        listen = f"127.0.0.1:{free_port()}"
        self.broker = embedded.Broker(embedded.BrokerSettings(home=home, nats_listen=listen))

    @property
    def url(self) -> str:
        return self.broker.url

    def settings(self) -> BusSettings:
        """Of a client of this broker."""
        return BusSettings(home=self.home, nats_url=self.url)

    async def start(self) -> None:
        for agent in AGENTS:
            credentials.issue(self.home, agent.durable)
        await self.broker.start()

    async def kill(self) -> None:
        """With -9; `start` brings it back, at its address and with its data."""
        pid = self.broker.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        await self.broker.stop()

    async def apply(self) -> None:
        async with client.connect(self.settings(), "operator", name="apply", wait=True) as operator:
            async with asyncio.timeout(30):
                await operator.wait_connected()
            await topology.apply(operator)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One broker for the run, with every stream. Streams of other tests' messages: look only for your own."""
    running = RunningBroker(tmp_path_factory.mktemp("broker"))

    async def start() -> None:
        await running.start()
        await running.apply()

    asyncio.run(start())
    yield running
    asyncio.run(running.broker.stop())


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    """A broker of this test's own, with every stream; it may be killed and started again."""
    running = RunningBroker(tmp_path / "own-broker")
    await running.start()
    await running.apply()
    yield running
    await running.broker.stop()


Connect = Callable[..., Awaitable[Bus]]


@pytest.fixture
def patient_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for two seconds is no broker that does not answer."""
    monkeypatch.setattr(link, "CONNECT_TIMEOUT", 20)


@pytest.fixture
def running_broker(request: pytest.FixtureRequest) -> RunningBroker:
    """`own_broker` where the test has one, else `broker`."""
    name = "own_broker" if "own_broker" in request.fixturenames else "broker"
    running = request.getfixturevalue(name)
    assert isinstance(running, RunningBroker)
    return running


@pytest.fixture
async def bus(running_broker: RunningBroker) -> AsyncIterator[Connect]:
    """`await bus("master")`: a connection as that user, to `running_broker`."""
    async with AsyncExitStack() as stack:

        async def connect(user: str, *, wait: bool = False) -> Bus:
            name = f"test-{next(_names)}"
            connection = client.connect(running_broker.settings(), user, name=name, wait=True)
            made = await stack.enter_async_context(connection)
            if not wait:  # in its own time: one attempt of the client lasts for two seconds
                async with asyncio.timeout(30):
                    await made.wait_connected()
            return made

        yield connect
