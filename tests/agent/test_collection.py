"""Collection from a real API server: complete, redacted, and honest about what it can't have."""

import asyncio
import base64
import json
import secrets
import signal
from pathlib import Path

import msgspec
import pytest
import yaml

from schemas import registry, subjects
from schemas.control import Resync
from schemas.envelope import Envelope
from schemas.frames import Phase, content_hash
from schemas.kubernetes import KINDS
from schemas.presence import CollectionState
from schemas.topology import DEAD_LETTERS
from services.agent import app
from services.cli.cluster.control_plane import ControlPlane
from tests.agent.fixtures import Heard, RunAgent
from tests.bus.fixtures import Connect

STATE_KINDS = {resource for resource in KINDS if resource != "events"}


def kubeconfig_of(
    plane: ControlPlane, namespace: str, folder: Path, rules: list[dict[str, list[str]]]
) -> Path:
    """A kubeconfig of a service account that may do what `rules` say, cluster-wide."""
    name = f"agent-{secrets.token_hex(3)}"
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": rules}
    plane.kubectl("create", "serviceaccount", name, "-n", namespace)
    plane.kubectl("create", "-f", "-", stdin=json.dumps(role | {"metadata": {"name": name}}))
    account = f"{namespace}:{name}"
    plane.kubectl(
        "create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={account}"
    )
    token = plane.kubectl("create", "token", name, "-n", namespace, "--duration=1h").strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"] = [{"name": entry["name"], "user": {"token": token}} for entry in config["users"]]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


def state_of(heard: Heard, resource: str) -> tuple[str, str]:
    """State and reason of one resource in the last heartbeat."""
    beats = heard.heartbeats[-1:]
    return next(
        (
            (item.state, item.reason)
            for beat in beats
            for item in beat.collection
            if item.resource == resource
        ),
        ("", ""),
    )


async def test_a_forbidden_kind_costs_the_others_nothing(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Without the right to one kind, all others are complete, and it is shown with the server's words."""
    verbs = ["get", "list", "watch"]
    allowed = [
        {"apiGroups": [kind.group], "resources": [kind.plural], "verbs": verbs}
        for kind in KINDS.values()
        if kind.resource != "configmaps"
    ]
    kubeconfig = kubeconfig_of(control_plane, namespace, tmp_path, allowed)
    async with run_agent(AGENT_KUBECONFIG=str(kubeconfig)) as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS - {"configmaps"})
        await heard.until(lambda h: h.heartbeats and h.heartbeats[-1].capabilities)
        await heard.until(lambda h: state_of(h, "configmaps")[0] == CollectionState.FORBIDDEN)
        await heard.until(lambda h: state_of(h, "pods")[0] == CollectionState.SYNCED)
        beat = heard.heartbeats[-1]
    assert heard.heartbeats[-1].health.status == "stopping"
    assert 'configmaps is forbidden: User "system:serviceaccount' in state_of(heard, "configmaps")[1]
    observed = {name for name in beat.capabilities if name.startswith("observe:")}
    assert observed == {f"observe:{resource}" for resource in KINDS} - {"observe:configmaps"}
    assert beat.health.status == "degraded"
    assert "configmaps" in beat.health.last_error


async def test_a_right_that_is_granted_later_needs_no_restart(
    run_agent: RunAgent,
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was forbidden is collected, and is among the capabilities."""
    monkeypatch.setattr(app, "ASKED_EACH", 1.0)
    pods = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    kubeconfig = kubeconfig_of(control_plane, namespace, tmp_path, pods)
    async with run_agent(AGENT_KUBECONFIG=str(kubeconfig), AGENT_HEARTBEAT_INTERVAL="500ms") as heard:
        await heard.until(lambda h: state_of(h, "configmaps")[0] == CollectionState.FORBIDDEN)
        await heard.until(lambda h: h.heartbeats[-1].capabilities == ["observe:pods"])
        everybody = f"--group=system:serviceaccounts:{namespace}"
        await asyncio.to_thread(
            control_plane.kubectl, "create", "clusterrolebinding", namespace, "--clusterrole=view", everybody
        )
        await heard.until(lambda h: "configmaps" in h.synced(), 90)
        await heard.until(lambda h: "observe:configmaps" in h.heartbeats[-1].capabilities)


async def test_every_change_follows(run_agent: RunAgent, control_plane: ControlPlane, namespace: str) -> None:
    """A created, changed and deleted object arrives as such; the digest is that of what a reader holds."""
    kubectl = control_plane.kubectl
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_SNAPSHOT_INTERVAL="500ms",
    ) as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        key = (namespace, "settings")
        await asyncio.to_thread(
            kubectl, "create", "configmap", "settings", "-n", namespace, "--from-literal=a=1"
        )
        created = await heard.until(lambda h: h.objects("configmaps").get(key))
        patch = '{"data": {"b": "twenty-two bytes long!"}}'
        await asyncio.to_thread(kubectl, "patch", "configmap", "settings", "-n", namespace, "-p", patch)
        await heard.until(lambda h: h.objects("configmaps")[key].body != created.body)
        changed = msgspec.json.decode(heard.objects("configmaps")[key].body)
        assert changed["data"] == {"a": 1, "b": 22}
        await asyncio.to_thread(kubectl, "delete", "configmap", "settings", "-n", namespace)
        await heard.until(lambda h: key not in h.objects("configmaps"))
        seen = len(heard.phases(Phase.DIGEST))
        await heard.until(lambda h: len(h.phases(Phase.DIGEST)) > seen + 1)
    sequences = [frame.sequence for frame in heard.frames]
    assert sequences == list(range(1, len(sequences) + 1))
    last = max(index for index, frame in enumerate(heard.frames) if frame.phase is Phase.DIGEST)
    digest = heard.frames[last].digest
    before = Heard(heard.target, heard.frames[:last])
    for resource in STATE_KINDS:
        hashes = [
            content_hash(resource, item.namespace, item.name, bytes(item.body))
            for item in before.objects(resource).values()
        ]
        assert (digest[resource].count, digest[resource].sum) == (len(hashes), sum(hashes)), resource


async def test_no_secret_leaves_the_cluster(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str
) -> None:
    """Canaries in every place where secrets lie are in nothing that was published."""
    canary = f"canary{secrets.token_hex(8)}"
    encoded = base64.b64encode(canary.encode()).decode()
    container = {
        "name": "main",
        "image": "registry.example/app:1",
        "command": ["app", f"--password={canary}", "--token", canary],
        "args": [f"postgres://user:{canary}@db/app"],
        "env": [{"name": "HARMLESS", "value": canary}, {"name": "PASSWORD", "value": canary}],
    }
    objects = [
        {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"key": encoded}},
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {"key": canary}},
        {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": "p", "annotations": {"example.com/api-token": canary}},
            "spec": {"containers": [container]},
        },
        {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
            "reason": "Leaky",
            "message": f"cannot reach https://user:{canary}@git.example/x password={canary}",
        },
    ]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=document)
    async with run_agent(AGENT_KUBECONFIG=str(control_plane.kubeconfig), AGENT_NAMESPACES=namespace) as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        await heard.until(lambda h: any(event.reason == "Leaky" for event in h.events))
        await asyncio.to_thread(control_plane.kubectl, "label", "secret", "s", "-n", namespace, "seen=again")
        await heard.until(lambda h: b"seen" in bytes(h.objects("secrets")[namespace, "s"].body))
    assert {"s", "c", "p"} <= {
        name for resource in ("secrets", "configmaps", "pods") for _, name in heard.objects(resource)
    }
    published = b"".join(heard.raw)
    assert canary.encode() not in published
    assert encoded.encode() not in published
    assert msgspec.json.decode(heard.objects("secrets")[namespace, "s"].body)["keys"] == 1


async def test_resync_begins_a_new_epoch(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, bus: Connect
) -> None:
    """A resync is obeyed once, one about another epoch is not; what can't be read is a dead letter."""
    master = await bus("master")
    reader = await bus("reader")
    letters: list[str] = []

    async def note(_subject: str, envelope: Envelope) -> None:
        letters.append(registry.AGENT_MESSAGE_REJECTED.decode(envelope.data).reason)

    async with run_agent(AGENT_KUBECONFIG=str(control_plane.kubeconfig), AGENT_NAMESPACES=namespace) as heard:
        heard_dead = subjects.dead(heard.target)
        assert heard_dead.startswith("atlhyper.up.")
        await reader.subscribe(heard_dead, note)
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        first = heard.frames[0].epoch
        subject = subjects.control(heard.target, "resync")
        source = subjects.service_source("master", "test")
        for epoch in ("another", first):
            message = Resync(epoch=epoch, reason="test")
            await master.send(subject, registry.RESYNC_REQUESTED.envelope(message, source=source))
            if epoch == "another":
                await asyncio.sleep(0.5)
                assert len(heard.phases(Phase.BEGIN)) == 1
        await heard.until(lambda h: len(h.phases(Phase.BEGIN)) == 2)
        await heard.until(lambda h: [f for f in h.phases(Phase.SYNCED) if f.epoch != first])
        await master.send(subject, Envelope(type="io.example.strange.v1", source=source, data=b"{}"))
        await heard.until(lambda _: letters)
    assert "does not belong here" in letters[0]
    assert DEAD_LETTERS.subjects[1] == "atlhyper.up.*.*.dead"


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_an_api_server_that_goes_away(
    run_agent: RunAgent, own_control_plane: ControlPlane, how: str
) -> None:
    """A killed or stopped API server is told with its reason, and collection goes on when it is back."""
    plane = own_control_plane
    async with run_agent(AGENT_KUBECONFIG=str(plane.kubeconfig), AGENT_HEARTBEAT_INTERVAL="300ms") as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        if how == "kill":
            await asyncio.to_thread(plane.send_signal, "kube-apiserver", signal.SIGKILL)
        else:
            await asyncio.to_thread(plane.stop_component, "kube-apiserver")
        await heard.until(
            lambda h: (
                state_of(h, "pods")[0] == CollectionState.FAILING
                and "can't be reached" in state_of(h, "pods")[1]
            )
        )
        await asyncio.to_thread(plane.start_component, "kube-apiserver")
        await asyncio.to_thread(plane.kubectl, "create", "configmap", "after", "-n", "default")
        await heard.until(lambda h: ("default", "after") in h.objects("configmaps"))
        await heard.until(lambda h: state_of(h, "pods")[0] == CollectionState.SYNCED)
    assert len(heard.phases(Phase.BEGIN)) == 1
