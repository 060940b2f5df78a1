"""The proxy breaks a link as it says: a harness whose faults are none proves nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy
from tests.waiting import Stopwatch

PATIENCE = 30.0


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says what it hears."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, proxy: Proxy) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.listen_port))

    async def says(self, text: bytes, within: float = PATIENCE) -> bytes:
        """The answer; empty when the connection has ended. Raises TimeoutError when there is none."""
        self._writer.write(text)
        async with asyncio.timeout(within):
            return await self._reader.read(1024)

    def close(self) -> None:
        self._writer.close()


async def test_what_passes_is_unchanged(echo: int) -> None:
    """An open link passes what it is given."""
    async with Proxy.to("127.0.0.1", echo) as proxy:
        client = await Client.of(proxy)
        assert await client.says(b"hello") == b"hello"
        assert (proxy.bytes, proxy.accepted) == (10, 1)
        client.close()


async def test_cut_closes_and_refuses_until_mended(echo: int) -> None:
    """A cut link closes its connections and refuses new ones; mended, it has the port it had."""
    async with Proxy.to("127.0.0.1", echo) as proxy:
        client = await Client.of(proxy)
        await client.says(b"hello")
        await proxy.cut()
        assert await client.says(b"") == b""
        with pytest.raises(ConnectionRefusedError):
            await Client.of(proxy)
        await proxy.mend()
        again = await Client.of(proxy)
        assert await again.says(b"again") == b"again"
        for each in (client, again):
            each.close()


async def test_reset_is_seen_as_a_reset(echo: int) -> None:
    """A reset ends a connection with an error, and new ones work at once."""
    async with Proxy.to("127.0.0.1", echo) as proxy:
        client = await Client.of(proxy)
        await client.says(b"hello")
        await proxy.reset()
        with pytest.raises(ConnectionResetError):
            await client.says(b"")
        again = await Client.of(proxy)
        assert await again.says(b"again") == b"again"
        again.close()


async def test_half_open_is_silent_and_its_connections_stay_dead(echo: int) -> None:
    """Nobody is told: old and new connections are open and silent, and stay so when the link is mended."""
    async with Proxy.to("127.0.0.1", echo) as proxy:
        old = await Client.of(proxy)
        await old.says(b"hello")
        proxy.half_open()
        with pytest.raises(TimeoutError):
            await old.says(b"?", within=0.2)
        new = await Client.of(proxy)
        with pytest.raises(TimeoutError):
            await new.says(b"?", within=0.2)
        await proxy.mend()
        for dead in (old, new):
            with pytest.raises(TimeoutError):
                await dead.says(b"?", within=0.2)
            dead.close()
        alive = await Client.of(proxy)
        assert await alive.says(b"hello") == b"hello"
        alive.close()


async def test_stalled_arrives_late_and_whole(echo: int) -> None:
    """What a stalled link holds back arrives when it is mended."""
    async with Proxy.to("127.0.0.1", echo) as proxy:
        client = await Client.of(proxy)
        await client.says(b"hello")
        proxy.stall()
        with pytest.raises(TimeoutError):
            await client.says(b"late", within=0.2)
        await proxy.mend()
        assert await client.says(b"") == b"late"
        client.close()


async def test_delay_delays(echo: int) -> None:
    """A slow link takes its time, and no more after it is mended."""
    loop = asyncio.get_running_loop()
    async with Proxy.to("127.0.0.1", echo) as proxy:
        client = await Client.of(proxy)
        proxy.delay(0.4)
        began = loop.time()
        async with Stopwatch() as watch:
            await client.says(b"hello")
        assert loop.time() - began >= 0.4
        assert watch.seconds < 2.0
        await proxy.mend()
        async with Stopwatch() as watch:
            await client.says(b"hello")
        assert watch.seconds < 0.2
        client.close()
