"""A command by REST on the whole system: a real API server has noted it once, and its result is read."""

import json
import os
import random
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import topology
from schemas.kubernetes.redaction import REDACTED
from services.cli.cluster.control_plane import ControlPlane
from services.cli.cluster.nodes import node_manifest
from tests.cluster import audited
from tests.e2e.system import System
from tests.processes import pause

pytestmark = [pytest.mark.timeout(900), pytest.mark.cluster]


@pytest.fixture(scope="module")
def system(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything, attached to the control plane, with writes allowed."""
    home = tmp_path_factory.mktemp("commands")
    with System(home, control_plane.kubeconfig, "commanded", AGENT_READ_ONLY="false") as running:
        running.until(lambda: running.get("/agents/kubernetes/commanded")["state"] == "live")
        yield running


def post(system: System, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
    """Status and answer of POST /commands, which waits for the end."""
    answer = system.http.post(
        f"{system.api_url}/api/v1/commands",
        params={"wait": "60s"},
        json={"cluster_id": system.cluster_id, **body},
        headers={"Idempotency-Key": key},
    )
    found: dict[str, Any] = answer.json()
    return answer.status_code, found


def changes(plane: ControlPlane, audit_id: str) -> list[dict[str, Any]]:
    """What the API server has noted of one command."""
    return [entry for entry in audited.changes(plane) if entry["auditID"] == audit_id]


def test_scale_is_one_patch_with_a_result(
    system: System, control_plane: ControlPlane, namespace: str
) -> None:
    """POST → the API server notes exactly one change, under the command's id, by the agent → the result is
    read by GET. The same request again is the same command, and changes nothing more.
    """
    kubectl = ("-n", namespace)
    control_plane.kubectl(*kubectl, "create", "deployment", "web", "--image=example.com/web:1")
    body = {"action": "scale", "resource": "deployments", "namespace": namespace, "name": "web"}
    key = str(uuid.uuid4())
    for status in (200, 200):
        answer, command = post(system, {**body, "params": {"replicas": 3}}, key)
        assert (answer, command["state"]) == (status, "succeeded"), command
        assert command["success"] is True
        assert command["error"] is None
        found = system.get(f"/commands/{command['id']}")
        assert (found["id"], found["state"], found["data"]) == (command["id"], "succeeded", command["data"])
        (change,) = changes(control_plane, command["id"])
        assert change["objectRef"]["resource"] == "deployments"
        assert change["objectRef"]["name"] == "web"
        assert change["responseStatus"]["code"] == 200
        assert change["userAgent"].startswith("atlhyper")
    replicas = control_plane.kubectl(*kubectl, "get", "deployment", "web", "-o", "jsonpath={.spec.replicas}")
    assert replicas == "3"


def config_maps(labels: dict[str, str]) -> list[dict[str, Any]]:
    """Such as fill several messages, also packed: noise, with characters of one to four bytes and such as
    JSON escapes; each has a secret too.
    """
    noise = "".join(random.Random(7).choices('0123456789abcdef \n"\\äß漢🙂', k=500_000))
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"large-{number}", "labels": labels},
            "data": {"noise": noise[number * 10_000 :], "password": f"canary-{number}"},
        }
        for number in range(6)
    ]


def test_a_large_result_is_whole(system: System, control_plane: ControlPlane, namespace: str) -> None:
    """Objects of several times what a message holds come through the agent, the bus and the database as
    kubectl reads them, but for what is secret.
    """
    selector = "size=large"
    made = {"apiVersion": "v1", "kind": "List", "items": config_maps({"size": "large"})}
    control_plane.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(made))
    listed = control_plane.kubectl("-n", namespace, "get", "configmaps", "-l", selector, "-o", "json")
    expected = json.loads(listed)["items"]
    assert len(expected) == 6
    for item in expected:
        item["data"]["password"] = REDACTED
    params = {"verb": "list", "resource": "configmaps", "namespace": namespace, "label_selector": selector}
    _, command = post(system, {"action": "dynamic", "params": params}, str(uuid.uuid4()))
    assert command["state"] == "succeeded", command["error"]
    data = system.get(f"/commands/{command['id']}")["data"]
    equal = data["items"] == expected
    assert equal  # not as one expression: how texts of megabytes differ takes minutes to say
    assert data["continue"] == ""
    assert len(json.dumps(data, ensure_ascii=False).encode()) > 3 * topology.MAX_PAYLOAD


def test_what_was_not_done_says_why(system: System, control_plane: ControlPlane, namespace: str) -> None:
    """A command for an object that is not there fails as `not_found`, and changes nothing."""
    body = {"action": "restart", "resource": "deployments", "namespace": namespace, "name": "nobody"}
    _, command = post(system, body, str(uuid.uuid4()))
    assert (command["state"], command["error"]["code"]) == ("failed", "not_found"), command
    assert changes(control_plane, command["id"]) == []


@pytest.fixture
def held_node(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A node whose only pod may not be evicted."""
    name = f"held-{uuid.uuid4().hex[:6]}"
    labels = {"app": name}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "held", "namespace": namespace, "labels": labels},
        "spec": {"nodeName": name, "containers": [{"name": "app", "image": "example.com/app:1"}]},
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "held", "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
    }
    for manifest in (budget, node_manifest(name), pod):
        control_plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    for condition, what in (
        ("condition=Ready", "pod/held"),
        ("jsonpath={.status.currentHealthy}=1", "pdb/held"),
    ):
        waiting = (f"--for={condition}", "--timeout=120s", what)
        control_plane.kubectl("-n", namespace, "wait", *waiting, timeout=130)
    yield name
    control_plane.kubectl("delete", "node", name)


def test_what_a_damaged_journal_held_is_unknown(system: System, held_node: str) -> None:
    """The agent dies in the middle of a drain, and its file is damaged: it starts all the same, sets the file
    aside and counts it, the drain ends as `unknown` long before its time is over, and others are done.
    """
    params = {"force": True, "ignore_daemon_sets": True}  # of others, who share the cluster
    body = {"action": "drain", "name": held_node, "params": params, "timeout": "10m"}
    accepted = system.http.post(
        f"{system.api_url}/api/v1/commands", json={"cluster_id": system.cluster_id, **body}
    )
    assert accepted.status_code == 202, accepted.text
    path = f"/commands/{accepted.json()['id']}"
    system.until(lambda: "is held" in ((system.get(path)["progress"] or {}).get("message") or ""))

    def began() -> str:
        """When the agent that the master has heard last was started."""
        return str(system.get(f"/agents/kubernetes/{system.cluster_id}")["health"]["start_time"])

    before = began()
    file = system.home / "agent" / f"kubernetes_{system.cluster_id}.db"
    agent = system.state["processes"]["agent"]
    pause(agent)  # it writes no more, and nobody starts it again before it is dead
    for each in (file, file.with_name(f"{file.name}-wal")):
        each.write_bytes(b"\xa5" * each.stat().st_size)
    os.kill(agent, signal.SIGKILL)
    ended = system.until(lambda: (found := system.get(path))["success"] is not None and found)
    assert (ended["state"], ended["error"]["code"]) == ("unknown", "journal_lost"), ended
    assert file.with_name(f"{file.name}.damaged").read_bytes().startswith(b"\xa5")
    told = system.http.get(f"http://{system.environment['AGENT_METRICS_LISTEN']}/metrics").text
    assert "atlhyper_agent_state_damaged_total 1.0" in told
    # What is sent before the master has heard of the new journal names the lost one, and is unknown too.
    system.until(lambda: began() != before)
    _, next_one = post(system, {"action": "uncordon", "name": held_node}, str(uuid.uuid4()))
    assert next_one["state"] == "succeeded", next_one
