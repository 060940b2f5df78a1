"""`/livez`, `/readyz` and `/metrics` of a service.

Liveness looks at the event loop only: a service whose broker or database is away must be left running, or
its restarts add to the outage. What it waits for is told by readiness, check by check.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from services.runtime import logs
from services.runtime.errors import UserError
from services.runtime.listen import Listen, free_listen
from services.runtime.tasks import cancelled

_log = logs.get_logger(__name__)

Check = Callable[[], str | None]
"""None when well, otherwise why not; quick, without I/O."""

_TICK = 0.5
_LAG_LIMIT = 5.0
"""Seconds by which the event loop may be late before the process counts as stuck."""

LAG = Gauge("atlhyper_event_loop_lag_seconds", "How late the event loop last woke up")


class Health:
    """The named checks of one service, and the server that tells them."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._checks: dict[str, Check] = {}
        self._notes: dict[str, Callable[[], str]] = {}
        self._last_tick = 0.0

    def check(self, name: str, check: Check, note: Callable[[], str] | None = None) -> None:
        """Add a check; the service is ready when all of them are well. `note` is told beside `ok`."""
        self._checks[name] = check
        if note is not None:
            self._notes[name] = note

    def failing(self) -> dict[str, str]:
        """The checks that are not well, with the reason of each."""
        return {name: why for name, check in self._checks.items() if (why := check()) is not None}

    def text(self, *, verbose: bool) -> str:
        """The answer of `/readyz`: what is not well, with `verbose` what is, and the verdict."""
        failing = self.failing()
        lines = [
            f"[-] {name}: {failing[name]}" if name in failing else f"[+] {name} ok{self._note(name)}"
            for name in self._checks
            if name in failing or verbose
        ]
        return "\n".join([*lines, f"{self.service} is not ready" if failing else "ok"]) + "\n"

    def _note(self, name: str) -> str:
        return f": {self._notes[name]()}" if name in self._notes else ""

    @asynccontextmanager
    async def serve(self, listen: str, was_set: bool = False, *, name: str = "metrics") -> AsyncIterator[str]:
        """Serve on `listen` (`host:port`, loopback only); the address it got. See `free_listen`.

        `name` is the variable that holds the address, for error messages.
        """
        address = Listen.parse(free_listen(listen, was_set, name=name), name)
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        ticker = asyncio.create_task(self._tick(), name="event loop lag")
        try:
            site = web.TCPSite(runner, address.host, address.port)
            try:
                await site.start()
            except OSError as error:
                raise UserError(
                    f"{name}: cannot listen on {address}: {error.strerror}", f"set {name}"
                ) from error
            bound = Listen(address.host, runner.addresses[0][1])
            _log.info("health and metrics are served", service=self.service, address=str(bound))
            yield str(bound)
        finally:
            await cancelled(ticker)
            await runner.cleanup()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._last_tick = loop.time()
        while True:
            await asyncio.sleep(_TICK)
            now = loop.time()
            LAG.set(max(0.0, now - self._last_tick - _TICK))
            self._last_tick = now

    async def _livez(self, _request: web.Request) -> web.Response:
        late = asyncio.get_running_loop().time() - self._last_tick - _TICK
        if late > _LAG_LIMIT:
            return web.Response(status=503, text=f"event loop is {late:.1f}s late\n")
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        status = 503 if self.failing() else 200
        return web.Response(status=status, text=self.text(verbose="verbose" in request.query))

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
