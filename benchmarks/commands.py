"""A command from POST to a readable result, beside `kubectl scale` and a bare PATCH of the same object.

All three change the replicas of the same Deployment in turn, so that each meets the same machine. What is
written to disk on the way (by the database and by the agent's journal) waits for the disk: what one fsync
takes is measured in the same run.
"""

import asyncio
import os
import time
from pathlib import Path

import msgspec

from benchmarks import agent, commanded, kube, simulated, stage
from benchmarks.measure import Figure, quantile
from benchmarks.processes import Core, Rest, core
from benchmarks.scene import Scene
from schemas.ids import kubernetes, uuid7
from services.cli.cluster.build import ensure_binaries

NAMESPACE = "bench-commands"
PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
MARGIN = 25.0
"""ms above `kubectl scale`."""
WARM_UP = 3
"""Rounds that are not counted."""
SYNCS = 100
IN_FLIGHT = 32
"""Of those that are asked for as fast as they are taken."""
SYNC_DEADLINE = 120.0
_BURST_IMAGE = "registry.example/app"


async def measure(scene: Scene) -> list[Figure]:
    """Each database in turn."""
    figures = []
    async with kube.connect(scene.kubeconfig) as api:
        await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for name in scene.databases.names:
            folder = scene.folder / name
            folder.mkdir()
            figures += await _one_agent(scene, api, name, folder)
            figures.append(await _many_agents(scene, name, folder / "many"))
        await api.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
    return figures


# --- one after the other -------------------------------------------------------------------------------


async def _one_agent(scene: Scene, api: kube.Api, database: str, folder: Path) -> list[Figure]:
    async with (
        stage.broker(folder) as broker,
        core(folder, broker.url, scene.databases.url(database, folder)) as services,
        agent.running(
            scene.kubeconfig, folder, broker, heartbeat="15s", digest="30s", AGENT_READ_ONLY="false"
        ),
    ):
        figures = await _in_turn(scene, api, services.rest, database, fsync(folder, SYNCS))
        rate = await _burst(scene, api, services, database)
    return [
        *figures,
        Figure(
            f"commands through one agent, {database}",
            "commands/s",
            [rate],
            note=f"update_image of one Deployment each, {scene.sizes.command_burst}, {IN_FLIGHT} at a time",
        ),
    ]


async def _in_turn(scene: Scene, api: kube.Api, rest: Rest, database: str, sync: list[float]) -> list[Figure]:
    done: list[float] = []
    readable: list[float] = []
    by_kubectl: list[float] = []
    by_patch: list[float] = []
    kubectl = str(ensure_binaries(["kubectl"])["kubectl"])
    # One for each database: what the last command left must not be what the next one asks for.
    name = f"scaled-{database.lower()}"
    await _create(api, name)
    watch = _Watch(name)
    version = (await api.call("GET", PATH))["metadata"]["resourceVersion"]
    async with stage.beside([watch.run(api, version)]):
        for number in range(WARM_UP + scene.sizes.commands):
            counted = number >= WARM_UP
            replicas = 3 * number + 1  # no two in a row are the same
            started = time.perf_counter()
            await _scale(rest, name, replicas % 4)
            ended = time.perf_counter()
            changed = await watch.changed()
            began = time.perf_counter()
            await _kubectl(kubectl, scene.kubeconfig, name, (replicas + 1) % 4)
            middle = time.perf_counter()
            await watch.changed()
            patched = time.perf_counter()
            await api.patch(f"{PATH}/{name}", {"spec": {"replicas": (replicas + 2) % 4}})
            finished = time.perf_counter()
            await watch.changed()
            if counted:
                done.append((changed - started) * 1000)
                readable.append((ended - started) * 1000)
                by_kubectl.append((middle - began) * 1000)
                by_patch.append((finished - patched) * 1000)
    note = f"fsync of 4 KiB here: {quantile(sync, 50):.2f} ms (p99 {quantile(sync, 99):.2f} ms)"
    return [
        Figure(
            f"command scale: POST → result readable, {database}",
            "ms",
            readable,
            "kubectl scale",
            by_kubectl,
            bar=quantile(by_kubectl, 50) + MARGIN,
            note=f"the bar is kubectl's p50 + {MARGIN:.0f} ms; {note}",
        ),
        Figure(
            f"command scale: POST → done in the API server, {database}",
            "ms",
            done,
            "bare PATCH",
            by_patch,
            note="ours by a watch of the object, so with its way to us",
        ),
    ]


class _Spec(msgspec.Struct):
    replicas: int = 0


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    generation: int = 0
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _Line(msgspec.Struct):
    type: str
    object: _Object


class _Watch:
    """When each generation of the Deployment was first seen."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._generation = 0
        self._at = 0.0
        self._news = asyncio.Event()
        self._told = 0

    async def run(self, api: kube.Api, version: str) -> None:
        """Until cancelled; a watch that the server ends goes on where it was."""
        decoder = msgspec.json.Decoder(_Line)
        while True:
            async for line in api.watch(PATH, version):
                told = decoder.decode(line)
                if told.type == "ERROR":
                    raise RuntimeError(f"the watch of {PATH} failed: {line.decode()}")
                found = told.object.metadata
                version = found.resource_version or version
                if found.name == self._name and found.generation > self._generation:
                    self._generation, self._at = found.generation, time.perf_counter()
                    self._news.set()

    async def changed(self) -> float:
        """When the object was changed the next time; there is one change between two calls."""
        async with asyncio.timeout(30):
            await self._news.wait()
        self._news.clear()
        return self._at


async def _scale(rest: Rest, name: str, replicas: int) -> None:
    body = {
        "cluster_id": stage.CLUSTER_ID,
        "action": "scale",
        "object": {"resource": "deployments", "namespace": NAMESPACE, "name": name},
        "params": {"replicas": replicas},
    }
    await _ended(rest, (await rest.post("/commands", body, uuid7()))["id"])


async def _ended(rest: Rest, command_id: str) -> None:
    while True:
        command = await rest.get(f"/commands/{command_id}", wait="20s")
        assert command is not None
        if command["finished_at"] is not None:
            break
    if command["state"] != "succeeded":
        raise RuntimeError(f"command {command_id} {command['state']}: {command['error']}")


async def _kubectl(program: str, kubeconfig: Path, name: str, replicas: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(program, f"--kubeconfig={kubeconfig}", "-n", NAMESPACE, "scale"),
        *(f"deployment/{name}", f"--replicas={replicas}"),
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "KUBERC": "off"},
    )
    if code := await process.wait():
        raise RuntimeError(f"kubectl scale ended with {code}")


def fsync(folder: Path, times: int) -> list[float]:
    """ms of each fsync after 4 KiB were appended to a file there."""
    found = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(times):
            file.write(b"\0" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            found.append((time.perf_counter() - started) * 1000)
    return found


# --- as fast as they are taken -------------------------------------------------------------------------


async def _burst(scene: Scene, api: kube.Api, services: Core, database: str) -> float:
    """Commands a second through the real agent."""
    names = [f"burst-{database.lower()}-{number}" for number in range(min(100, scene.sizes.command_burst))]
    await kube.each(lambda number: _create(api, names[number]), range(len(names)))

    async def one(number: int) -> None:
        body = {
            "cluster_id": stage.CLUSTER_ID,
            "action": "update_image",
            "object": {
                "resource": "deployments",
                "namespace": NAMESPACE,
                "name": names[number % len(names)],
            },
            "params": {"images": {"main": f"{_BURST_IMAGE}:{number}"}},
        }
        await _ended(services.rest, (await services.rest.post("/commands", body, uuid7()))["id"])

    started = time.perf_counter()
    await kube.each(one, range(scene.sizes.command_burst))
    return scene.sizes.command_burst / (time.perf_counter() - started)


async def _many_agents(scene: Scene, database: str, folder: Path) -> Figure:
    """Through agents that only say that they have done it."""
    sizes = scene.sizes
    folder.mkdir()
    targets = [kubernetes(f"commanded-{number:03}") for number in range(sizes.command_agents)]
    async with (
        stage.broker(folder, targets) as broker,
        core(folder, broker.url, scene.databases.url(database, folder)) as services,
        simulated.connections(broker, folder, targets) as buses,
        stage.beside(commanded.run(bus, target) for bus, target in zip(buses, targets, strict=True)),
    ):
        await commanded.ready(services.rest, targets, SYNC_DEADLINE)

        async def one(number: int) -> None:
            target = targets[number % len(targets)]
            body = {
                "cluster_id": target.id,
                "action": "scale",
                "object": {"resource": "deployments", "namespace": "default", "name": "app"},
                "params": {"replicas": number},
            }
            await _ended(services.rest, (await services.rest.post("/commands", body, uuid7()))["id"])

        started = time.perf_counter()
        await kube.each(one, range(sizes.command_burst))
        seconds = time.perf_counter() - started
    return Figure(
        f"commands through {len(targets)} simulated agents, {database}",
        "commands/s",
        [sizes.command_burst / seconds],
        note=f"{sizes.command_burst}, {kube.CONNECTIONS} at a time; an agent says done at once, keeps no "
        "journal, and shares the two cores",
    )


async def _create(api: kube.Api, name: str) -> None:
    labels = {"app": name}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": f"{_BURST_IMAGE}:0"}]},
        },
    }
    await api.call("POST", PATH, {"metadata": {"name": name}, "spec": spec})
