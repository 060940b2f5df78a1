"""A proxy between an agent and the real API server that passes everything on, until a test adds a fault."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import yaml
from aiohttp import web

from services.cli.cluster.control_plane import ControlPlane
from tests.waiting import until

Answer = Callable[[web.Request], web.Response]
Lines = Callable[[bytes], bytes]
_PASSED_ON = ("Authorization", "Accept", "Content-Type", "Audit-ID")
_HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding", "date"}
_LONGEST = 60.0
"""Seconds that it stays silent at most."""


class Cut(Exception):
    """Raised by what tampers with lines: the watch ends there."""


@dataclass
class Fault:
    """What is done to requests for one resource."""

    resource: str
    answer: Answer | None = None
    """Answers instead of the API server."""
    lines: Lines | None = None
    """Tampers with each line of a watch, also of one that has begun. Raises Cut to end it."""
    on_watch: bool | None = None
    """Only watches, or only what is none; None for both."""
    method: str = ""
    """Only requests of that method; empty for all."""
    lost: bool = False
    """The API server does what it is asked for, and its answer is lost: the connection breaks."""
    denied: Answer | None = None
    """The same, and this is answered."""
    hang: bool = False
    """The same, and nothing comes instead: it stays silent until whoever has asked gives up."""
    pause: float = 0.0
    """Seconds that the API server seems to think before it answers."""
    times: float = float("inf")
    done: int = field(default=0, init=False)

    def concerns(self, request: web.Request) -> bool:
        """Whether it is this fault's turn."""
        watch = request.query.get("watch") == "true" and "sendInitialEvents" not in request.query
        return (
            self.done < self.times
            and self.method in ("", request.method)
            and request.path.endswith(f"/{self.resource}")
            and self.on_watch in (None, watch)
        )


class FaultProxy:
    """`async with FaultProxy(plane, folder) as proxy:` → `proxy.kubeconfig` for the agent, `proxy.add(…)`."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.kubeconfig = folder / "proxied"
        self.faults: list[Fault] = []
        self.requests: list[web.Request] = []
        self._config = yaml.safe_load(plane.kubeconfig.read_text())
        cluster = self._config["clusters"][0]["cluster"]
        self._server = cluster["server"]
        self._flowing = asyncio.Event()
        self._flowing.set()

    def add(self, fault: Fault) -> Fault:
        """From now on."""
        self.faults.append(fault)
        return fault

    def freeze(self) -> None:
        """Nothing gets through any more, on connections old and new: as if the network had gone."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Everything gets through again, what was held included."""
        self._flowing.set()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._config["clusters"][0]["cluster"] = {
            "server": f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        }
        self.kubeconfig.write_text(yaml.safe_dump(self._config))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0.25)  # TLS connections end in the event loop

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        await self._flowing.wait()
        for fault in self.faults:
            if fault.answer and fault.concerns(request):
                fault.done += 1
                return fault.answer(request)
        await asyncio.sleep(sum(fault.pause for fault in self.faults if fault.concerns(request)))
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        async with self._session.request(
            request.method,
            self._server + request.path_qs,
            headers=headers | {"Accept-Encoding": "identity"},
            data=await request.read(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            for fault in self.faults:
                if (fault.lost or fault.hang or fault.denied) and fault.concerns(request):
                    fault.done += 1
                    await upstream.read()
                    if fault.denied:
                        return fault.denied(request)
                    if fault.hang:
                        await until(lambda: request.transport is None, _LONGEST)
                    elif request.transport is not None:
                        request.transport.abort()
                    raise asyncio.CancelledError  # nobody is there to be answered
            kept = {name: text for name, text in upstream.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            if request.query.get("watch") != "true":
                await response.write(await upstream.read())
                return response
            try:
                while line := await upstream.content.readline(max_line_length=2**25):
                    await self._flowing.wait()
                    await response.write(self._tampered(request, line))
                await self._flowing.wait()
            except Cut as cut:
                if cut.args:
                    await response.write(cut.args[0])
            except ConnectionError:
                pass  # the agent has gone
            return response

    def _tampered(self, request: web.Request, line: bytes) -> bytes:
        for fault in self.faults:
            if fault.lines and fault.concerns(request):
                fault.done += 1
                return fault.lines(line)
        return line
