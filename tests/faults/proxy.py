"""A TCP proxy that stands in a link and breaks it. What passes is not looked at, so TLS passes."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from tests.ports import free_port

CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST in place of FIN."""


class Link(StrEnum):
    """What the link does."""

    OPEN = "open"
    CUT = "cut"
    """Connections are closed, new ones refused."""
    HALF_OPEN = "half-open"
    """Nothing passes, nothing is closed, new connections are accepted and get no answer. The connections of
    that time stay dead when the link is mended: their ends have to notice by themselves."""
    STALLED = "stalled"
    """Nothing passes; what was held back arrives when the link is mended."""


class _Connection:
    """One client's connection and the server's behind it."""

    def __init__(self, proxy: "Proxy", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writers = [writer]
        self.dead = False

    async def run(self) -> None:
        """Until either end closes."""
        await self._proxy.passing()
        if self.dead:
            await asyncio.Event().wait()
        try:
            reader, writer = await asyncio.open_connection(self._proxy.host, self._proxy.port)
        except OSError:
            self.close()  # as a refused connection looks behind a proxy
            return
        self._writers.append(writer)
        pumps = [
            asyncio.create_task(self._pump(self._reader, writer)),
            asyncio.create_task(self._pump(reader, self._writers[0])),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._proxy.slow(len(data))
                await self._proxy.passing()
                if self.dead:
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
                self._proxy.bytes += len(data)
            if self.dead:
                await asyncio.Event().wait()

    def close(self, *, reset: bool = False) -> None:
        """End both halves."""
        for writer in self._writers:
            if reset and (raw := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if reset:
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """`async with Proxy.to("127.0.0.1", 4222, seed) as proxy: proxy.listen_port; await proxy.cut()`.

    Every decision of its own (the jitter of delays) comes from the seed.
    """

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self.host = host
        self.port = port
        """Where the server is; may be changed, for connections made from then on."""
        self.listen_port = 0
        self.state = Link.OPEN
        self.bytes = 0
        """Passed so far, both ways."""
        self.accepted = 0
        """Connections so far."""
        self._random = random.Random(seed)
        self._delay = 0.0
        self._bandwidth = 0.0
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._open = asyncio.Event()
        self._open.set()

    @classmethod
    @asynccontextmanager
    async def to(cls, host: str, port: int, seed: int = 0) -> AsyncIterator["Proxy"]:
        """A listening proxy."""
        proxy = cls(host, port, seed)
        await proxy._listen()
        try:
            yield proxy
        finally:
            await proxy._stop()

    # --- faults --------------------------------------------------------------------------------------

    async def cut(self) -> None:
        """Close every connection and refuse new ones, until `mend`."""
        self.state = Link.CUT
        await self._refuse()
        await self._drop()

    async def reset(self) -> None:
        """Reset every connection once; new ones are welcome."""
        await self._drop(reset=True)

    def half_open(self) -> None:
        """Let nothing pass and close nothing; what is open now, and until `mend`, is dead for good."""
        self.state = Link.HALF_OPEN
        self._open.clear()
        for connection in self._connections:
            connection.dead = True

    def stall(self) -> None:
        """Hold everything back until `mend`."""
        self.state = Link.STALLED
        self._open.clear()

    def delay(self, seconds: float, bandwidth: float = 0.0) -> None:
        """Slow down: seconds for each chunk (times 0.5 to 1.5), and bytes per second; 0 for none."""
        self._delay, self._bandwidth = seconds, bandwidth

    async def mend(self) -> None:
        """As it was; the connections of a half-open time stay dead."""
        self.delay(0.0)
        self.state = Link.OPEN
        self._open.set()
        await self._listen()

    # --- for connections -----------------------------------------------------------------------------

    async def passing(self) -> None:
        """Until something may pass."""
        await self._open.wait()

    async def slow(self, size: int) -> None:
        """Wait as long as the link takes for a chunk."""
        seconds = self._delay * self._random.uniform(0.5, 1.5)
        seconds += size / self._bandwidth if self._bandwidth else 0.0
        if seconds:
            await asyncio.sleep(seconds)

    # --- inside --------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._server is None:
            self.listen_port = self.listen_port or free_port()  # nobody else takes it while the link is cut
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.listen_port, reuse_address=True
            )

    async def _refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        connection.dead = self.state is Link.HALF_OPEN
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.run()
        except asyncio.CancelledError:
            pass  # asyncio's server would log it as a failure of ours
        finally:
            self._connections.pop(connection, None)

    async def _drop(self, *, reset: bool = False) -> None:
        dropped = list(self._connections.items())
        for connection, task in dropped:
            connection.close(reset=reset)
            task.cancel()
        await asyncio.gather(*(task for _, task in dropped), return_exceptions=True)

    async def _stop(self) -> None:
        await self._refuse()
        await self._drop()
