"""Pods that write logs, and an agent and an api that read them; `tests/conftest.py` loads this module.

No container runs: kwok shows a file as a container's log, by the very code of the kubelet. What a test writes
into that file is what has to arrive.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from schemas.ids import kubernetes
from services.agent import app as agent_app
from services.agent.settings import AgentSettings
from services.api.app import create_app
from services.api.http.server import bind, serve
from services.api.logs.readers import LogReaders
from services.api.watch.hub import Hub
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.bus import broker as embedded
from services.runtime.bus import client as bus_client
from services.runtime.bus import credentials
from services.runtime.bus.client import Bus
from services.runtime.health import Health
from services.runtime.settings import load
from tests.api.fixtures import Fleet
from tests.bus.fixtures import RunningBroker
from tests.cluster.throwaway import Throwaway
from tests.tokens import AUTHORIZED
from tests.waiting import until

PODS = 250
CONTAINERS = ("app", "sidecar")


@dataclass(frozen=True)
class LogFile:
    """The log of one container, in the format of the container runtime interface."""

    path: Path
    previous: Path

    def write(
        self, *lines: bytes | str, at: datetime | None = None, tag: str = "F", stream: str = "stdout"
    ) -> None:
        """Append lines, all with one time; `tag` P: they are pieces of one that goes on."""
        stamp = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        _append(self.path, stamp, lines, tag, stream)

    def write_previous(self, *lines: bytes | str) -> None:
        """What the run before this one has written."""
        stamp = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        _append(self.previous, stamp, lines, "F", "stdout")


def _append(path: Path, stamp: str, lines: Iterable[bytes | str], tag: str, stream: str) -> None:
    head = f"{stamp} {stream} {tag} ".encode()
    with path.open("ab") as handle:
        for line in lines:
            handle.write(head + (line.encode() if isinstance(line, str) else line) + b"\n")


@dataclass(frozen=True)
class LogPod:
    """A pod that runs, as far as anybody can tell."""

    namespace: str
    name: str
    folder: Path

    def log(self, container: str = "app") -> LogFile:
        return LogFile(self.folder / container / "log", self.folder / container / "previous")


class LogPlane:
    """A control plane whose pods `log-<n>` have logs of their own; each is used once."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self._folder = folder
        self._numbers = itertools.count()
        self._namespaces = itertools.count()

    def prepare(self) -> None:
        """Tell kwok which files are whose."""
        documents = []
        for number in range(PODS):
            logs = []
            for container in CONTAINERS:
                folder = self._folder / f"log-{number}" / container
                folder.mkdir(parents=True)
                (folder / "log").touch()
                (folder / "previous").touch()
                logs.append(
                    {
                        "containers": [container],
                        "logsFile": str(folder / "log"),
                        "previousLogsFile": str(folder / "previous"),
                        "follow": True,
                    }
                )
            documents.append(
                {
                    "apiVersion": "kwok.x-k8s.io/v1alpha1",
                    "kind": "ClusterLogs",
                    "metadata": {"name": f"log-{number}"},
                    "spec": {"selector": {"matchNames": [f"log-{number}"]}, "logs": logs},
                }
            )
        config = self.plane.layout.kwok_config
        self.plane.stop_component("kwok")
        config.write_text(yaml.safe_dump_all(documents, sort_keys=False) + "---\n" + config.read_text())
        self.plane.start_component("kwok")

    def namespace(self) -> str:
        name = f"logs-{next(self._namespaces)}"
        self.plane.kubectl("create", "namespace", name)
        self.plane.kubectl(
            "wait", "--for=create", "--timeout=20s", f"--namespace={name}", "serviceaccount/default"
        )
        return name

    def pods(
        self,
        namespace: str,
        count: int,
        labels: dict[str, str] | None = None,
        containers: Sequence[str] = ("app",),
        **spec: Any,
    ) -> list[LogPod]:
        """Pods that are Ready."""
        pods = self.names(namespace, count)
        self.create(pods, labels, containers, **spec)
        names = [f"pod/{pod.name}" for pod in pods]
        self.plane.kubectl(
            "-n", namespace, "wait", "--for=condition=Ready", "--timeout=50s", *names, timeout=60
        )
        return pods

    async def reads(self, *pods: LogPod) -> None:
        """Wait until kwok has these logs open: who wants none of what was there is given what comes now."""
        open_files = Path(f"/proc/{self.plane.pid('kwok')}/fd")

        def held() -> set[Path]:
            with suppress(FileNotFoundError):  # one was closed meanwhile
                return {file.readlink() for file in open_files.iterdir()}
            return set()

        await until(lambda: {pod.log().path.resolve() for pod in pods} <= held())

    async def ready(self, count: int = 1, app: str = "web", **more: Any) -> tuple[str, list[LogPod]]:
        """Pods with the label `app` that are Ready, by their names; before them their own namespace."""
        namespace = await asyncio.to_thread(self.namespace)
        pods = await asyncio.to_thread(lambda: self.pods(namespace, count, {"app": app}, **more))
        return namespace, sorted(pods, key=lambda pod: pod.name)

    def names(self, namespace: str, count: int) -> list[LogPod]:
        """Pods that are not there yet."""
        return [
            LogPod(namespace, f"log-{number}", self._folder / f"log-{number}")
            for number in itertools.islice(self._numbers, count)
        ]

    def create(
        self,
        pods: list[LogPod],
        labels: dict[str, str] | None = None,
        containers: Sequence[str] = ("app",),
        **spec: Any,
    ) -> None:
        """Have them, whether or not they start."""
        items = [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": pod.name, "namespace": pod.namespace, "labels": labels or {}},
                "spec": {"containers": [{"name": name, "image": "none"} for name in containers], **spec},
            }
            for pod in pods
        ]
        document = {"apiVersion": "v1", "kind": "List", "items": items}
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(document))


@pytest.fixture(scope="session")
def log_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogPlane]:
    """One control plane for the run, whose pods have logs."""
    folder = tmp_path_factory.mktemp("log-plane")
    with Throwaway(folder / "plane") as started:
        plane = LogPlane(started, folder / "logs")
        plane.prepare()  # first, as the kwok before it would have the nodes' leases for 40 s
        started.add_nodes(2)
        yield plane


class LogSystem:
    """An api and an agent on a broker; each can be stopped and started."""

    def __init__(self, bus: Bus, fleet: Fleet, cluster: str, max_readers: int) -> None:
        self.cluster = cluster
        self.agent: asyncio.Task[None] | None = None
        self._bus = bus
        self._fleet = fleet
        self._max_readers = max_readers
        self._listen = "127.0.0.1:0"
        self.url = ""
        self.http = httpx.AsyncClient()

    async def start_api(self) -> None:
        """On the address that it had before."""
        self._listener = bind(self._listen, "API_LISTEN")
        host, port = self._listener.getsockname()
        self._listen, self.url = f"{host}:{port}", f"http://{host}:{port}"
        self.readers = LogReaders(self._bus, "test", self._max_readers)
        database = self._fleet.database
        app = create_app(database, Health("api"), Hub(database), log_readers=self.readers)
        self._serving = asyncio.create_task(serve(app, self._listener, self.readers.close))
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.AsyncClient(base_url=self.url, headers=AUTHORIZED, timeout=30, limits=limits)

    async def stop_api(self) -> None:
        await self.http.aclose()
        self._serving.cancel()
        await asyncio.wait([self._serving])
        self._listener.close()

    async def restart_api(self, meanwhile: Callable[[], object]) -> None:
        """Stop it, do something, start it."""
        await self.stop_api()
        meanwhile()
        await asyncio.sleep(0.5)
        await self.start_api()

    def start_agent(self) -> None:
        self.agent = asyncio.create_task(agent_app.run(load(AgentSettings)), name="agent")

    async def stop_agent(self) -> None:
        assert self.agent
        self.agent.cancel()
        await asyncio.gather(self.agent, return_exceptions=True)

    def path(self, *parts: str) -> str:
        return f"/api/v1/clusters/{self.cluster}/logs/" + "/".join(parts)

    async def get(self, *parts: str, **parameters: Any) -> httpx.Response:
        return await self.http.get(self.path(*parts), params=parameters)

    @asynccontextmanager
    async def follow(self, *parts: str, **parameters: Any) -> AsyncIterator["Reader"]:
        """Read in the background."""
        params = {"follow": True, **parameters}
        async with self.http.stream("GET", self.path(*parts), params=params, timeout=None) as response:
            assert response.status_code == 200, await response.aread()
            reader = Reader(response)
            task = asyncio.create_task(reader.read())
            try:
                yield reader
            finally:
                task.cancel()
                await asyncio.wait([task])


class Reader:
    """What one reader has been sent."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.data = bytearray()
        self.ended = False
        self.broken: httpx.HTTPError | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def read(self) -> None:
        try:
            async for piece in self.response.aiter_raw():
                self.data += piece
                await self.flowing.wait()
        except httpx.HTTPError as error:
            self.broken = error
        self.ended = True

    @property
    def lines(self) -> list[bytes]:
        """Whole lines."""
        return bytes(self.data).split(b"\n")[:-1]

    async def until(self, condition: Any, seconds: float = 40.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition(self):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(
                f"not within {seconds}s: {len(self.lines)} lines, {self.lines[-3:]}"
            ) from None


@asynccontextmanager
async def log_system(
    broker: RunningBroker,
    plane: LogPlane,
    fleet: Fleet,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    max_readers: int = 100,
) -> AsyncIterator[LogSystem]:
    """See LogSystem."""
    target = kubernetes(cluster)
    credentials.issue(broker.home, target.durable)
    embedded.reload(broker.home)
    for name, value in {
        "ATLHYPER_HOME": str(broker.home),
        "AGENT_CLUSTER_ID": cluster,
        "AGENT_MASTER_URL": broker.url,
        "AGENT_METRICS_LISTEN": "127.0.0.1:0",
        "AGENT_KUBECONFIG": str(plane.plane.kubeconfig),
    }.items():
        monkeypatch.setenv(name, value)
    await fleet.beats()
    await fleet.heartbeat(cluster)
    async with AsyncExitStack() as stack:
        connect = bus_client.connect
        async with connect(broker.settings(), target.durable, name="probe", wait=True) as probe:
            async with asyncio.timeout(20):  # a reload is a signal, and returns before the broker has done it
                await probe.wait_connected()
        bus = await stack.enter_async_context(connect(broker.settings(), "api", name="api"))
        system = LogSystem(bus, fleet, cluster, max_readers)
        await system.start_api()
        system.start_agent()
        try:
            yield system
        finally:
            await system.stop_agent()
            await system.stop_api()


@pytest.fixture
async def log_reading(
    broker: RunningBroker,
    log_plane: LogPlane,
    fleet: Fleet,
    cluster_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[LogSystem]:
    """An api and an agent for `log_plane`, on the shared broker."""
    async with log_system(broker, log_plane, fleet, cluster_id, monkeypatch) as system:
        yield system
