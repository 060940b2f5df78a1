"""Where the benchmarks play: a control plane with many pods, and a broker."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from schemas import topology
from schemas.ids import Target, kubernetes
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.bus import client, credentials
from services.runtime.bus import topology as bus_topology
from services.runtime.bus.broker import Broker, BrokerSettings
from services.runtime.bus.client import Bus
from services.runtime.settings import BusSettings

CLUSTER_ID = "bench"
BENCH = kubernetes(CLUSTER_ID)
PODS_DEADLINE = 900.0


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def beside(work: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Coroutines that run while the block does; one that fails ends it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in work]
        yield
        for task in tasks:
            task.cancel()


@contextmanager
def populated_cluster(folder: Path, nodes: int, pods: int, settle: float = 5) -> Iterator[ControlPlane]:
    """A control plane whose pods all run, and have for `settle` seconds."""
    with ControlPlane(folder) as plane:
        say(f"adding {nodes} nodes and {pods} pods")
        plane.add_nodes(nodes)
        plane.kubectl("create", "-f", "-", stdin=json.dumps(_deployments(pods)))
        deadline = time.monotonic() + PODS_DEADLINE
        while (running := _running(plane)) < pods:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {running} of {pods} pods run after {PODS_DEADLINE:.0f} s")
            say(f"  {running} of {pods} pods run")
            time.sleep(5)
        time.sleep(settle)  # controllers and simulated kubelets still work on what has just been made
        yield plane


def _running(plane: ControlPlane) -> int:
    template = '{range .items[*]}{.status.readyReplicas}{"\\n"}{end}'
    counts = plane.kubectl("get", "deployments", "-n", "default", "-o", f"jsonpath={template}")
    return sum(int(count) for count in counts.split())


def _deployments(pods: int) -> dict[str, object]:
    """Deployments of 250 replicas: what a large cluster's pods look like, with the usual fields."""
    size = 250
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            _deployment(f"app-{index}", min(size, pods - start))
            for index, start in enumerate(range(0, pods, size))
        ],
    }


def _deployment(name: str, replicas: int) -> dict[str, object]:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "bench", "tier": "web"}
    container = {
        "name": "main",
        "image": "registry.example/app:1.2.3",
        "command": ["/app/serve"],
        "args": ["--port=8080", "--log-level=info"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "MODE", "value": "production"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {
                "metadata": {"labels": labels, "annotations": {"prometheus.io/scrape": "true"}},
                "spec": {"containers": [container]},
            },
        },
    }


@asynccontextmanager
async def broker(home: Path, targets: Iterable[Target] = (BENCH,)) -> AsyncIterator[Broker]:
    """An embedded broker with all streams and a credential for each agent."""
    settings = BrokerSettings(home=home, nats_listen="127.0.0.1:0")
    for user in (*(user.name for user in topology.CORE_USERS), *(target.durable for target in targets)):
        credentials.issue(home, user)
    async with Broker(settings) as running:
        async with connect(running, home, topology.OPERATOR.name) as operator:
            await bus_topology.apply(operator)
        yield running


@asynccontextmanager
async def connect(running: Broker, home: Path, user: str) -> AsyncIterator[Bus]:
    """A connection to it."""
    settings = BusSettings(home=home, nats_url=running.url)
    async with client.connect(settings, user, name="benchmark") as bus:
        yield bus
