"""What an agent of some version says to its master, recorded: `recorded/agent-<version>.json.gz`.

    git archive <commit> | tar -x -C /tmp/old
    python -m tests.contract.recording /tmp/old

runs the agent of that checkout as a process, between a control plane with the demo workload and a broker of
this version, and keeps every message it publishes: subject, headers, bytes. Meanwhile objects of the
namespace `demo` come, change and go. Beside the messages stands what kubectl lists at the end.
Record the agent of each released version before its successor changes what is sent.
"""

import asyncio
import base64
import gzip
import json
import os
import signal
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import nats
from nats.aio.msg import Msg

from schemas import binding, registry, subjects
from schemas.frames import Frame, Phase, Put
from schemas.kubernetes.event import KubernetesEvent
from services.cli.cluster.control_plane import ControlPlane
from tests.bus.fixtures import AGENTS, RunningBroker
from tests.waiting import until

FOLDER = Path(__file__).parent / "recorded"
TARGET = AGENTS[0]
"""Whose id the recorded agent has: brokers of tests know it."""
_LISTED = ("pods", "deployments", "configmaps", "services", "jobs", "nodes", "namespaces")
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it went over the bus."""

    subject: str
    headers: dict[str, str]
    data: bytes

    def body(self) -> Any:
        """What it says, as this version reads it."""
        envelope = binding.decode(self.headers, self.data)
        return registry.lookup(envelope.type).decode(envelope.data)


@dataclass
class Recording:
    """The messages of one agent in their order, and what was in its cluster in the end."""

    version: str = ""
    messages: list[Message] = field(default_factory=list)
    listed: dict[str, list[list[str]]] = field(default_factory=dict)
    """What kubectl listed, by resource: namespace, name and uid of each object."""

    @classmethod
    def load(cls, path: Path) -> Self:
        raw = json.loads(gzip.decompress(path.read_bytes()))
        messages = [
            Message(item["subject"], item["headers"], base64.b64decode(item["data"]))
            for item in raw["messages"]
        ]
        return cls(raw["version"], messages, raw["listed"])

    def save(self, path: Path) -> None:
        messages = [
            {"subject": item.subject, "headers": item.headers, "data": base64.b64encode(item.data).decode()}
            for item in self.messages
        ]
        raw = {"version": self.version, "listed": self.listed, "messages": messages}
        path.write_bytes(gzip.compress(json.dumps(raw, indent=1).encode(), 9, mtime=0))

    def of(self, channel: str) -> list[Message]:
        """The messages on one channel of its subjects."""
        found = []
        for message in self.messages:
            parsed = subjects.parse(message.subject)
            if isinstance(parsed, subjects.Up) and parsed.channel == channel:
                found.append(message)
        return found

    def held(self) -> dict[tuple[str, str, str], tuple[str, bytes]]:
        """Uid and body of each object after the last frame, read as plainly as possible."""
        held: dict[tuple[str, str, str], tuple[str, bytes]] = {}
        for frame in map(Message.body, self.of("snapshot")):
            assert isinstance(frame, Frame)
            for item in frame.items:
                key = (item.resource, item.namespace, item.name)
                if isinstance(item, Put):
                    assert item.part is None, "an object in parts: this reader knows none"
                    held[key] = (item.uid, bytes(item.body))
                else:
                    held.pop(key, None)
        return held

    def counts(self) -> dict[str, int]:
        """The highest count of each Event, by uid."""
        counts: dict[str, int] = defaultdict(int)
        for event in map(Message.body, self.of("event")):
            assert isinstance(event, KubernetesEvent)
            counts[event.metadata.uid] = max(counts[event.metadata.uid], event.occurrences)
        return dict(counts)

    def _phases(self) -> list[Phase]:
        return [frame.phase for frame in map(Message.body, self.of("snapshot"))]


async def record(source: Path, folder: Path) -> Recording:
    """Run the agent of a checkout and write down what it publishes."""
    recording = Recording()
    broker = RunningBroker(folder / "broker")
    with ControlPlane(folder / "cluster") as cluster:
        cluster.add_nodes(3)
        cluster.run_demo_workload()
        await broker.start()
        await broker.apply()
        seed = broker.settings().seed_file("reader")
        reader = await nats.connect(broker.url, nkeys_seed=str(seed))

        async def hear(message: Msg) -> None:
            recording.messages.append(Message(message.subject, dict(message.headers or {}), message.data))

        await reader.subscribe(subjects.up(TARGET), cb=hear)
        await reader.flush()
        agent = await _start(source, broker, cluster)
        try:
            await until(lambda: Phase.DIGEST in recording._phases(), _PATIENCE)
            await asyncio.to_thread(_change, cluster)
            await until(lambda: _says_all(recording, cluster), _PATIENCE)
            count = len(recording._phases())
            await until(lambda: Phase.DIGEST in recording._phases()[count:], _PATIENCE)
            recording.listed = _list(cluster)
        finally:
            agent.send_signal(signal.SIGTERM)
            await asyncio.wait_for(agent.wait(), _PATIENCE)
        await reader.close()
        await broker.broker.stop()
    recording.version = recording.of("heartbeat")[0].body().version
    return recording


async def _start(source: Path, broker: RunningBroker, cluster: ControlPlane) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "agent", "kubernetes"),
        cwd=source,
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "ATLHYPER_HOME": str(broker.home),
            "AGENT_CLUSTER_ID": TARGET.id,
            "AGENT_MASTER_URL": broker.url,
            "AGENT_KUBECONFIG": str(cluster.kubeconfig),
            "AGENT_METRICS_LISTEN": "127.0.0.1:0",
            "AGENT_SNAPSHOT_INTERVAL": "3s",
            "AGENT_HEARTBEAT_INTERVAL": "2s",
        },
    )


def _change(cluster: ControlPlane) -> None:
    """Objects come, change and go, and an Event is repeated."""
    demo = "--namespace=demo"
    cluster.kubectl("create", "configmap", "recorded", demo, "--from-literal=a=1")
    cluster.kubectl("create", "configmap", "short-lived", demo, "--from-literal=a=1")
    cluster.kubectl("scale", "deployment/payments", demo, "--replicas=3")
    cluster.kubectl("annotate", "configmap/recorded", demo, "says=Größe ✓")
    cluster.kubectl("delete", "configmap/short-lived", demo)
    cluster.kubectl("wait", "--for=jsonpath={.status.replicas}=3", "deployment/payments", demo)


def _list(cluster: ControlPlane) -> dict[str, list[list[str]]]:
    listed: dict[str, list[list[str]]] = {}
    for resource in _LISTED:
        answer = json.loads(cluster.kubectl("get", resource, "-A", "-o", "json"))
        metas = [item["metadata"] for item in answer["items"]]
        listed[resource] = sorted([meta.get("namespace", ""), meta["name"], meta["uid"]] for meta in metas)
    return listed


async def _says_all(recording: Recording, cluster: ControlPlane) -> bool:
    """Whether the agent has said what the cluster holds."""
    listed = await asyncio.to_thread(_list, cluster)
    held = recording.held()
    return all(
        listed[resource]
        == sorted([key[1], key[2], uid] for key, (uid, _) in held.items() if key[0] == resource)
        for resource in _LISTED
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="recording-") as temporary:
        made = asyncio.run(record(Path(sys.argv[1]), Path(temporary)))
    path = FOLDER / f"agent-{made.version}.json.gz"
    FOLDER.mkdir(exist_ok=True)
    made.save(path)
    print(f"{path}: {len(made.messages)} messages, {len(made.held())} objects, {len(made.counts())} Events")
