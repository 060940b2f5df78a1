"""A change in the API server until it is visible over REST, beside a bare watch of the same objects.

Both count from the moment the change is sent to the API server, so both include its write. The bare watch is
one HTTP response read line by line; what it leaves out is everything of ours.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from benchmarks import agent, kube, stage
from benchmarks.measure import Figure
from benchmarks.processes import Rest, core
from benchmarks.scene import Scene
from benchmarks.stream import Stream
from benchmarks.visible import PAUSE, Probe

NAMESPACE = "bench-changes"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
OBJECTS = 25
"""Changed in turn; the list that shows them must be cheap to ask for."""
BAR = 250.0
"""ms"""
WARM_UP = 3.0
"""Seconds of changes that are not counted."""


@dataclass(slots=True)
class Changes:
    """When each version was sent and when the watch had it; `time.perf_counter` seconds, by version."""

    sent: dict[int, float] = field(default_factory=dict)
    watched: dict[int, float] = field(default_factory=dict)

    def watch_latencies(self) -> list[float]:
        """ms from sending to the watch, of those that both have."""
        return [(self.watched[version] - at) * 1000 for version, at in self.sent.items()]


async def measure(scene: Scene) -> list[Figure]:
    """Each database in turn; on each first by asking, then (where there is one) by the stream of changes."""
    figures = []
    async with kube.connect(scene.kubeconfig) as api:
        await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for number in range(OBJECTS):
            body = {"metadata": {"name": f"object-{number}"}, "data": {"key": "value"}}
            await api.call("POST", PATH, body)
        for name in scene.databases.names:
            folder = scene.folder / name
            folder.mkdir()
            async with (
                stage.broker(folder) as broker,
                core(folder, broker.url, scene.databases.url(name, folder)) as services,
                # Intervals as users have them: digests and heartbeats are part of the load, no more.
                agent.running(scene.kubeconfig, folder, broker, heartbeat="15s", digest="30s"),
            ):
                figures.append(await _by_asking(scene, api, services.rest, name))
                if (stream := await _by_stream(scene, api, services.rest, name)) is not None:
                    figures.append(stream)
        await api.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
    return figures


async def _by_asking(scene: Scene, api: kube.Api, rest: Rest, database: str) -> Figure:
    path = f"/clusters/{stage.CLUSTER_ID}/configmaps"
    probe = Probe(rest, path, namespace=NAMESPACE, view="full")
    async with stage.beside([probe.run()]):
        changes = await _change(scene, api, probe.expect)
        await probe.drained()
    cycle = scene.sizes.change_seconds / max(1, probe.looks) * 1000
    note = f"asked for every {cycle:.0f} ms (pause {PAUSE * 1000:.0f} ms): each value is late by up to that"
    return _figure(scene, f"GET, {database}", [s * 1000 for s in probe.seconds], changes, note)


async def _by_stream(scene: Scene, api: kube.Api, rest: Rest, database: str) -> Figure | None:
    stream = Stream(rest, stage.CLUSTER_ID, "configmaps", NAMESPACE)
    if not await stream.exists():
        return None
    async with stage.beside([stream.run()]):
        await stream.open()
        changes = await _change(scene, api, stream.expect)
        await stream.drained()
    return _figure(scene, f"watch, {database}", [s * 1000 for s in stream.seconds], changes, "")


def _figure(scene: Scene, how: str, ours: list[float], changes: Changes, note: str) -> Figure:
    return Figure(
        f"change → visible over REST by {how}, {scene.sizes.change_rate}/s",
        "ms",
        ours,
        "bare watch",
        changes.watch_latencies(),
        percentile=99,
        bar=BAR,
        published="Go AtlHyper 4.6–9.9 s, Karmada p99 989 ms",
        note=f"from sending the change{'; ' + note if note else ''}",
    )


async def _change(scene: Scene, api: kube.Api, expect: Any) -> Changes:
    """Change objects at the rate, watch them barely, and tell `expect(name, version, sent)` of each."""
    changes = Changes()
    version = (await api.call("GET", PATH))["metadata"]["resourceVersion"]
    clock = asyncio.get_running_loop().time
    total = int((WARM_UP + scene.sizes.change_seconds) * scene.sizes.change_rate)
    async with stage.beside([_watch(api, version, changes)]):
        started = clock()
        async with asyncio.TaskGroup() as group:
            for number in range(total):
                due = started + number / scene.sizes.change_rate
                await asyncio.sleep(max(0.0, due - clock()))
                counted = due - started >= WARM_UP
                group.create_task(_send(api, number, changes, expect if counted else None))
        async with asyncio.timeout(30):
            while changes.sent.keys() - changes.watched.keys():  # noqa: ASYNC110 - the end of a run
                await asyncio.sleep(0.05)
    return changes


async def _send(api: kube.Api, number: int, changes: Changes, expect: Any) -> None:
    name = f"object-{number % OBJECTS}"
    sent = time.perf_counter()
    answer = await api.patch(f"{PATH}/{name}", {"metadata": {"labels": {"change": str(number)}}})
    if expect is not None:
        version = int(answer["metadata"]["resourceVersion"])
        changes.sent[version] = sent
        expect(name, version, sent)


class _Metadata(msgspec.Struct):
    resourceVersion: str = "0"  # noqa: N815 - the API server's name


class _Object(msgspec.Struct):
    metadata: _Metadata


class _Line(msgspec.Struct):
    type: str
    object: _Object


async def _watch(api: kube.Api, version: str, changes: Changes) -> None:
    decoder = msgspec.json.Decoder(_Line)
    async for line in api.watch(PATH, version):
        now = time.perf_counter()
        changes.watched[int(decoder.decode(line).object.metadata.resourceVersion)] = now
