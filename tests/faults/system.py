"""The whole system as processes of its own, with a proxy in each link."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp

from schemas import subjects
from schemas.ids import kubernetes
from services.cli.cluster.components import STORE
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.runtime.bus import broker as embedded
from services.runtime.bus import client, credentials, topology
from services.runtime.bus.errors import BusError
from services.runtime.errors import UserError
from services.runtime.settings import BusSettings
from services.runtime.tasks import to_its_end
from tests.cluster.throwaway import Throwaway
from tests.faults import shim
from tests.faults.apiserver import ApiServer, RotatedToken, kubeconfig_through
from tests.faults.audit import Audit
from tests.faults.disk import MIB, Disk
from tests.faults.proxy import Proxy
from tests.faults.recorder import Recorder
from tests.faults.supervised import SupervisedProcess
from tests.ports import free_port
from tests.postgres.server import Postgres
from tests.tokens import AUTHORIZED, admit

CLUSTER = "faulty"
API_SERVER = "agent–API server"
"""The link between them."""
START = 60.0
DISKS = {"broker": ("nats/data", 96 * MIB), "database": ("database", 48 * MIB), "agent": ("agent", 16 * MIB)}
"""Folders under the home, by who writes there, with bytes of a disk of their own."""

SHORT: dict[str, str] = {
    "NATS_PING_INTERVAL": "1s",
    "AGENT_SNAPSHOT_INTERVAL": "3s",
    "AGENT_SNAPSHOT_FULL_INTERVAL": "25s",
    "AGENT_HEARTBEAT_INTERVAL": "1s",
    "AGENT_TIMEOUT_HTTP_CLIENT": "5s",
    "AGENT_TIMEOUT_SNAPSHOT_COLLECT": "5s",
    "AGENT_TIMEOUT_HEARTBEAT": "2s",
    "AGENT_TIMEOUT_WATCH": "5s",
    "AGENT_TIMEOUT_CONFIRM": "3s",
    "AGENT_EVENT_FLUSH_INTERVAL": "200ms",
    "MASTER_HEARTBEAT_INTERVAL": "1s",
    "MASTER_LEASE": "2s",
    "MASTER_RESYNC_INTERVAL": "500ms",
    "MASTER_RESYNC_PATIENCE": "5s",
}
"""Time-outs for a run of a minute. Without them the defaults hold."""


class System:
    """`async with System(folder, seed, variables) as system:` everything runs, the agent is in sync."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        variables: Mapping[str, str] = SHORT,
        *,
        modules: Mapping[str, str] | None = None,
        replicas: int = 1,
        postgres: Postgres | None = None,
        disks: bool = False,
        shimmed: bool = False,
    ) -> None:
        """`modules`: what is run in place of `services`, by process (planted bugs). `replicas`: of master and
        api; the first ones have proxies in their links. Without `postgres` the database is SQLite.
        `disks`: each that writes has a small disk of its own; only root can have that. `shimmed`: disks of
        agent and database may fail, and clocks be wrong; see `shim`.
        """
        self.folder = folder
        self.home = folder / "home"
        self.recorder = Recorder()
        self.plane = Throwaway(folder / "control-plane", components=STORE, report=lambda _: None)
        self.apiserver = ApiServer(self.plane)
        self.token = RotatedToken(self.plane, folder)
        self.target = kubernetes(CLUSTER)
        self.disks = {name: Disk(self.home / where, size) for name, (where, size) in DISKS.items()}
        self.services: dict[str, SupervisedProcess] = {}
        self.health_urls: dict[str, str] = {}
        self.api_urls: list[str] = []
        self._seed = seed
        self._variables = dict(variables)
        self._modules = dict(modules or {})
        self._replicas = replicas
        self.postgres = postgres
        self._own_disks = disks
        self._shimmed = shimmed
        self._shim: Path | None = None
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # --- starting ------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self.home.mkdir(parents=True)
        for disk in self.disks.values():
            disk.folder.mkdir(parents=True)
            if self._own_disks:
                await self._stack.enter_async_context(disk)
        self._stack.push_async_callback(asyncio.to_thread, self.plane.__exit__, None, None, None)
        await to_its_end(asyncio.to_thread(self.plane.__enter__))  # a thread goes on, whoever waits for it
        await asyncio.to_thread(self.token.prepare)
        listen = f"127.0.0.1:{free_port()}"
        self.broker = embedded.Broker(embedded.BrokerSettings(home=self.home, nats_listen=listen))
        credentials.issue(self.home, self.target.durable)
        self._stack.push_async_callback(self.stop_broker)
        await self.start_broker()
        url = f"sqlite+aiosqlite:///{self.home / 'database' / 'atlhyper.db'}"
        if self.postgres is not None:
            url = await asyncio.to_thread(self.postgres.new_database, migrated=False)
        await migrate.upgrade(url)
        self.database = await self._stack.enter_async_context(Database(url))
        self.audit = Audit(self.database)
        await self.audit.install()
        await admit(url)

        if self._shimmed:
            self._shim = await asyncio.to_thread(shim.compiled, self.folder)
        broker_port = int(self.broker.url.rpartition(":")[2])
        kube_port = self.plane.layout.ports["kube-apiserver"]
        enter = self._stack.enter_async_context
        self.agent_broker = await enter(Proxy.to("127.0.0.1", broker_port, self._seed))
        self.agent_kube = await enter(Proxy.to("127.0.0.1", kube_port, self._seed + 1))
        self.master_broker = await enter(Proxy.to("127.0.0.1", broker_port, self._seed + 2))
        self.links = {
            "agent–broker": self.agent_broker,
            API_SERVER: self.agent_kube,
            "master–broker": self.master_broker,
        }
        self.database_url = url
        if self.postgres is not None:
            self.database_link = await enter(Proxy.to("127.0.0.1", self.postgres.port, self._seed + 3))
            self.links["services–PostgreSQL"] = self.database_link
            self.database_url = url.replace(f":{self.postgres.port}/", f":{self.database_link.listen_port}/")
        self._http = await enter(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)))
        self.settings = BusSettings(home=self.home, nats_url=self.broker.url)
        self.reader = await enter(client.connect(self.settings, "reader", name="harness", wait=True))
        await self.reader.subscribe(
            f"{subjects.up(self.target).removesuffix('>')}event.>", self.recorder.hear
        )

        self._make_services()
        for second in (False, True):  # the first ones get the leases
            for process in self.services.values():
                if process.name.endswith("-2") is second:
                    self._stack.push_async_callback(process.stop)
                    await process.start()
            await self.until_ready(second=second)

    def _make_services(self) -> None:
        kubeconfig = kubeconfig_through(
            self.plane, self.agent_kube.listen_port, self.folder / "kubeconfig", self.token.user
        )
        for number in range(1, self._replicas + 1):
            suffix = "" if number == 1 else f"-{number}"
            bus = _through(self.master_broker) if number == 1 else self.broker.url
            named = {"MASTER_INSTANCE": f"master{suffix}"} if self._replicas > 1 else {}
            self._add(f"master{suffix}", ["master"], "MASTER_METRICS_LISTEN", NATS_URL=bus, **named)
            self._add(f"api{suffix}", ["api"], "API_LISTEN", NATS_URL=self.broker.url)
            self.api_urls.append(self.health_urls[f"api{suffix}"])
        self._add(
            "agent",
            ["agent", "kubernetes"],
            "AGENT_METRICS_LISTEN",
            AGENT_MASTER_URL=_through(self.agent_broker),
            AGENT_CLUSTER_ID=CLUSTER,
            AGENT_KUBECONFIG=str(kubeconfig),
        )

    def _add(self, name: str, arguments: list[str], listen: str, **own: str) -> None:
        address = f"127.0.0.1:{free_port()}"
        env = {
            **os.environ,
            "ATLHYPER_HOME": str(self.home),
            "DATABASE_URL": self.database_url,
            **self._variables,
            listen: address,
            **own,
        }
        if self._shim is not None:
            disk = "agent" if name == "agent" else "database"
            env |= shim.variables(self._shim, self.disks[disk].folder, self.failing_disk(disk))
        module = self._modules.get(name, "services")
        self.services[name] = SupervisedProcess(name, [module, *arguments], env, self.folder / f"{name}.log")
        self.health_urls[name] = f"http://{address}"

    async def until_ready(self, *, second: bool) -> None:
        """Until every service says that it is, the second replicas only where they are meant."""
        async with asyncio.timeout(START):
            while any(second or not name.endswith("-2") for name in await self.unready()):
                await asyncio.sleep(0.1)

    # --- the broker ----------------------------------------------------------------------------------

    async def start_broker(self) -> None:
        """Start it, with its streams, as `atlhyper up` does."""
        async with asyncio.timeout(START):
            await self.broker.start()
            while True:
                try:
                    settings = BusSettings(home=self.home, nats_url=self.broker.url)
                    async with client.connect(settings, "operator", name="harness apply") as operator:
                        await topology.apply(operator)
                        return
                except (BusError, UserError):
                    await asyncio.sleep(0.1)

    async def stop_broker(self) -> None:
        """SIGTERM"""
        self.resume_broker()
        await self.broker.stop()

    async def kill_broker(self) -> None:
        """SIGKILL; returns when it is gone."""
        pid = self.broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(START):
            while self.broker.pid is not None:
                await asyncio.sleep(0.02)

    def pause_broker(self) -> None:
        """SIGSTOP"""
        if self.broker.pid is not None:
            os.kill(self.broker.pid, signal.SIGSTOP)

    def resume_broker(self) -> None:
        """SIGCONT"""
        if self.broker.pid is not None:
            os.kill(self.broker.pid, signal.SIGCONT)

    def delete_broker_store(self) -> None:
        """Everything the broker has kept; it must not run."""
        assert self.broker.pid is None
        # A disk of its own stays, and is empty.
        shutil.rmtree(credentials.folder(self.home) / "data", ignore_errors=self._own_disks)

    def failing_disk(self, disk: str) -> Path:
        """While this file is there the agent, or master and api, cannot write to that disk of theirs."""
        return self.folder / f"{disk}-disk-fails"

    async def rotate_token(self) -> None:
        """A new token for the agent; the old one ends."""
        await asyncio.to_thread(self.token.rotate)

    # --- what it says --------------------------------------------------------------------------------

    async def get(self, path: str, **parameters: Any) -> Any:
        """GET under /api/v1, of the first api that answers. Raises aiohttp.ClientError, TimeoutError."""
        for number, url in enumerate(self.api_urls, 1):
            try:
                async with self._ask("GET", url + "/api/v1" + path, params=parameters) as response:
                    response.raise_for_status()
                    return await response.json(content_type=None)
            except aiohttp.ClientConnectionError:
                if number == len(self.api_urls):
                    raise
        return None

    async def call(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        """Any request under /api/v1 to the first api: the status and what is in the body.

        `request` is what aiohttp takes. Raises aiohttp.ClientError, TimeoutError.
        """
        async with self._ask(method, self.api_urls[0] + "/api/v1" + path, **request) as response:
            return response.status, await response.json(content_type=None)

    def _ask(
        self, method: str, url: str, **request: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._http is not None
        headers = {**AUTHORIZED, **request.pop("headers", {})}
        return self._http.request(method, url, headers=headers, **request)

    async def rows(self, resource: str) -> list[dict[str, Any]]:
        """Every row of one resource, whole, page by page."""
        rows: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = await self.get(f"/clusters/{CLUSTER}/{resource}", view="full", limit=5000, **token)
            rows += page["items"]
            if not page["continue"]:
                return rows
            token = {"continue": page["continue"]}

    async def unready(self) -> dict[str, str]:
        """What each service's /readyz complains of, by service; empty when all are ready."""
        found: dict[str, str] = {}
        assert self._http is not None
        for name, url in self.health_urls.items():
            try:
                async with self._http.get(f"{url}/readyz") as response:
                    if response.status != 200:
                        found[name] = (await response.text())[:500]
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                found[name] = str(error)
        return found

    async def metrics(self, service: str) -> dict[str, float]:
        """A service's /metrics: name with labels → value."""
        async with self._ask("GET", f"{self.health_urls[service]}/metrics") as response:
            lines = (await response.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


def _through(proxy: Proxy) -> str:
    return f"nats://127.0.0.1:{proxy.listen_port}"
