"""Every variable of the agent is changed once, and the effect is seen on the bus or at the API server."""

import asyncio
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncGenerator

import pytest

from schemas import registry
from schemas.frames import Phase
from schemas.kubernetes import KINDS
from schemas.presence import CollectionState, Heartbeat
from services.agent.capability import Refused
from services.agent.kubernetes.factory import kubernetes_capability
from services.agent.kubernetes.repository.resources import KubernetesResources
from services.agent.kubernetes.sdk.interfaces import Access, Invalid
from services.agent.scheduler.heartbeats import HeartbeatScheduler
from services.agent.settings import AgentSettings
from services.agent.store.rows import Spooled
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.errors import UserError
from services.runtime.settings import variables
from tests.agent.acting import command
from tests.agent.fixtures import Heard, RunAgent
from tests.contract.samples import MESSAGES, TIME

COVERED = {
    "AGENT_CLUSTER_ID", "AGENT_MASTER_URL", "AGENT_KUBECONFIG", "AGENT_READ_ONLY", "AGENT_NAMESPACES",
    "AGENT_RESOURCES", "AGENT_SECRETS", "AGENT_SNAPSHOT_INTERVAL", "AGENT_SNAPSHOT_FULL_INTERVAL",
    "AGENT_HEARTBEAT_INTERVAL", "AGENT_EVENT_FLUSH_INTERVAL", "AGENT_TIMEOUT_HTTP_CLIENT",
    "AGENT_TIMEOUT_SNAPSHOT_COLLECT", "AGENT_TIMEOUT_WATCH", "AGENT_TIMEOUT_HEARTBEAT",
    "AGENT_METRICS_LISTEN",
    "AGENT_LABELS", "AGENT_DYNAMIC",
    "AGENT_STATE", "AGENT_SPOOL_BYTES", "AGENT_TIMEOUT_CONFIRM",  # in test_events.py
    "AGENT_COMMAND_POLL_INTERVAL", "AGENT_TIMEOUT_COMMAND_POLL",  # in test_commands_agent.py
    "AGENT_LOG_SESSIONS",  # in tests/api/test_logs_readers.py
}  # fmt: skip


def test_none_is_forgotten() -> None:
    """Each variable of the settings model has a test below, or where its comment says."""
    named = {names[0] for names in variables(AgentSettings).values() if names[0].startswith("AGENT_")}
    assert named == COVERED


async def test_identity_and_place(run_agent: RunAgent, control_plane: ControlPlane) -> None:
    """CLUSTER_ID is the subject, KUBECONFIG the cluster, MASTER_URL the broker: it wins over NATS_URL."""
    uid = control_plane.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig), NATS_URL="nats://127.0.0.1:1"
    ) as heard:
        beat = await heard.until(lambda h: h.heartbeats and h.heartbeats[-1])
        begin = await heard.until(lambda h: h.phases(Phase.BEGIN))
    assert beat.instance == begin[0].instance == uid
    assert beat.platform == "v1.36.3"


async def test_what_is_collected(run_agent: RunAgent, control_plane: ControlPlane, namespace: str) -> None:
    """NAMESPACES narrows, RESOURCES adds a GVR, SECRETS=off leaves them out, READ_ONLY is told."""
    control_plane.kubectl("create", "configmap", "here", "-n", namespace, "--from-literal=a=1")
    control_plane.kubectl("create", "secret", "generic", "hidden", "-n", namespace, "--from-literal=a=1")
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_RESOURCES="priorityclasses.v1.scheduling.k8s.io,serviceaccounts.v1,widgets.v1.example.com",
        AGENT_SECRETS="off",
        AGENT_READ_ONLY="false",
    ) as heard:
        await heard.until(lambda h: len(h.synced()) == len(KINDS) - 2 + 3)
        beat = await heard.until(
            lambda h: (
                h.heartbeats
                and len(h.heartbeats[-1].collection) == len(KINDS) + 3
                and CollectionState.ABSENT in {item.state for item in h.heartbeats[-1].collection}
                and h.heartbeats[-1]
            )
        )
    scope = heard.phases(Phase.BEGIN)[0].scope
    assert scope.namespaces == [namespace]
    assert {key[0] for key in heard.objects("configmaps")} == {namespace}
    assert (namespace, "here") in heard.objects("configmaps")
    assert {("", f"node-{number}") for number in (1, 2, 3)} <= heard.objects("nodes").keys()
    assert ("", "system-node-critical") in heard.objects("priorityclasses.scheduling.k8s.io")
    assert "secrets" not in scope.resources
    assert not heard.objects("secrets")
    assert (namespace, "default") in heard.objects("serviceaccounts")
    told = {item.resource: (item.state, item.reason) for item in beat.collection}
    assert told["secrets"] == (CollectionState.OFF, "AGENT_SECRETS is off")
    assert told["widgets.example.com"][0] == CollectionState.ABSENT
    assert "404" in told["widgets.example.com"][1]
    assert beat.read_only is False


async def test_labels(run_agent: RunAgent, control_plane: ControlPlane) -> None:
    """LABELS are in each heartbeat."""
    kubeconfig = str(control_plane.kubeconfig)
    async with run_agent(AGENT_KUBECONFIG=kubeconfig, AGENT_LABELS="env=prod,example.com/region=eu") as heard:
        beat = await heard.until(lambda h: h.heartbeats and h.heartbeats[-1])
    assert beat.labels == {"env": "prod", "example.com/region": "eu"}


async def test_dynamic(control_plane: ControlPlane) -> None:
    """DYNAMIC is all that the action of that name may ask for."""
    settings = AgentSettings(kubeconfig=str(control_plane.kubeconfig), dynamic=["get:pods"], read_only=False)
    async with kubernetes_capability(settings) as capability:
        await capability.actions.check(
            command("dynamic", verb="get", resource="pods", namespace="x", name="y")
        )
        with pytest.raises(Refused, match="AGENT_DYNAMIC"):
            await capability.actions.check(command("dynamic", verb="list", resource="pods"))


def most_digests(heard: Heard) -> int:
    """Of one epoch."""
    return max(Counter(frame.epoch for frame in heard.phases(Phase.DIGEST)).values(), default=0)


async def test_intervals(run_agent: RunAgent, control_plane: ControlPlane) -> None:
    """SNAPSHOT_INTERVAL spaces digests, FULL_INTERVAL begins epochs, HEARTBEAT_INTERVAL beats."""
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_SNAPSHOT_INTERVAL="400ms",
        AGENT_SNAPSHOT_FULL_INTERVAL="5s",
        AGENT_HEARTBEAT_INTERVAL="300ms",
    ) as heard:
        await heard.until(lambda h: len(h.phases(Phase.BEGIN)) >= 2 and len(h.heartbeats) >= 6)
        await heard.until(lambda h: most_digests(h) >= 4)
    epochs = [frame.epoch for frame in heard.phases(Phase.BEGIN)]
    assert len(set(epochs)) == len(epochs)
    assert heard.heartbeats[0].interval == 0.3


async def test_metrics_listen(run_agent: RunAgent, control_plane: ControlPlane, unused_tcp_port: int) -> None:
    """METRICS_LISTEN is where health and metrics are."""
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig), AGENT_METRICS_LISTEN=f"127.0.0.1:{unused_tcp_port}"
    ) as heard:
        await heard.until(lambda h: "pods" in h.synced())
        url = f"http://127.0.0.1:{unused_tcp_port}"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{url}/livez", timeout=30).read())
        assert text == b"ok\n"


async def test_event_flush_interval(run_agent: RunAgent, control_plane: ControlPlane, namespace: str) -> None:
    """EVENT_FLUSH_INTERVAL is how long versions of one Event may wait for a newer one."""
    event = f"""
apiVersion: v1
kind: Event
metadata: {{name: again, namespace: {namespace}}}
involvedObject: {{kind: Pod, namespace: {namespace}, name: none}}
reason: Again
type: Warning
count: 1
"""

    def counts(heard: Heard) -> list[int]:
        return [event.count for event in heard.events if event.reason == "Again"]

    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_EVENT_FLUSH_INTERVAL="15s",  # for longer than kubectl needs
    ) as heard:
        await heard.until(lambda h: "pods" in h.synced())
        await asyncio.to_thread(control_plane.kubectl, "create", "-f", "-", stdin=event)
        for count in (2, 3):
            patch = f'{{"count": {count}}}'
            await asyncio.to_thread(
                control_plane.kubectl, "patch", "event", "again", "-n", namespace, "-p", patch
            )
        await heard.until(lambda h: 3 in counts(h))
    assert counts(heard) == [3]


async def test_timeout_http_client(run_agent: RunAgent, own_control_plane: ControlPlane) -> None:
    """TIMEOUT_HTTP_CLIENT bounds a request to an API server that says nothing, and the error says so."""
    own_control_plane.send_signal("kube-apiserver", signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(UserError, match="sent nothing for 1 s"):
            async with run_agent(
                AGENT_KUBECONFIG=str(own_control_plane.kubeconfig), AGENT_TIMEOUT_HTTP_CLIENT="1s"
            ) as heard:
                await heard.until(lambda h: h.frames)
    finally:
        own_control_plane.send_signal("kube-apiserver", signal.SIGCONT)
    assert time.monotonic() - started < 40  # the default is a minute
    health = heard.heartbeats[-1].health
    assert not health.healthy
    assert "sent nothing for 1 s" in health.last_error


class RecordingClient:
    """A KubernetesClient that notes the time limits it is given."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    async def get(self, path: str, query: object, *, accept: str = "", timeout: float | None = None) -> bytes:
        self.timeouts.append(timeout)
        return b'{"metadata": {"resourceVersion": "1"}, "items": []}'

    async def watch(
        self, path: str, query: object, *, accept: str = "", silence: float
    ) -> AsyncGenerator[bytes, None]:
        raise Invalid("422 lists are not streamed")
        yield b""

    async def may(self, access: Access) -> bool:
        return True

    async def close(self) -> None:
        return


async def test_timeout_snapshot_collect() -> None:
    """TIMEOUT_SNAPSHOT_COLLECT is the limit of each page of a list."""
    client = RecordingClient()
    settings = AgentSettings(timeout_snapshot_collect=7.0)
    resources = KubernetesResources(client, page_timeout=settings.timeout_snapshot_collect)
    assert [page.objects async for page in resources.pages(KINDS["pods"], "")] == [[]]
    assert client.timeouts == [7.0]


class HangingGateway:
    """A MasterGateway whose bus never answers."""

    connections = 1

    async def beat(self, heartbeat: Heartbeat) -> None:
        await asyncio.sleep(3600)

    async def publish_frame(self, frame: object) -> None:
        raise NotImplementedError

    async def publish_events(self, events: object, first: object, *, again: bool) -> list[Spooled]:
        raise NotImplementedError

    async def on_confirmed(self, handler: object) -> None:
        raise NotImplementedError

    async def on_resync(self, handler: object) -> None:
        raise NotImplementedError

    async def on_superseded(self, handler: object) -> None:
        raise NotImplementedError


async def test_timeout_heartbeat() -> None:
    """TIMEOUT_HEARTBEAT ends a heartbeat that is not taken, and the cause is kept."""
    beat = registry.HEARTBEAT_SENT.decode(MESSAGES[registry.HEARTBEAT_SENT.name][1].data)
    assert beat.health.start_time == TIME
    scheduler = HeartbeatScheduler(
        lambda: beat, lambda: None, lambda: 0, HangingGateway(), interval=15, timeout=0.2
    )
    await asyncio.wait_for(scheduler.beat(), 20)
    assert scheduler.last_error == "no answer within 0.2 s"
