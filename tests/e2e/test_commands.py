"""A command by REST on the whole system: a real API server has noted it once, and its result is read."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from services.cli.cluster.control_plane import ControlPlane
from tests.e2e.system import System

pytestmark = [pytest.mark.timeout(180), pytest.mark.cluster]


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
        params={"wait": "20s"},
        json={"cluster_id": system.cluster_id, **body},
        headers={"Idempotency-Key": key},
    )
    found: dict[str, Any] = answer.json()
    return answer.status_code, found


def changes(plane: ControlPlane, audit_id: str) -> list[dict[str, Any]]:
    """What the API server has noted of one command."""
    entries = map(json.loads, plane.layout.audit_log.read_text().splitlines())
    return [entry for entry in entries if entry["auditID"] == audit_id]


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


def test_what_was_not_done_says_why(system: System, control_plane: ControlPlane, namespace: str) -> None:
    """A command for an object that is not there fails as `not_found`, and changes nothing."""
    body = {"action": "restart", "resource": "deployments", "namespace": namespace, "name": "nobody"}
    _, command = post(system, body, str(uuid.uuid4()))
    assert (command["state"], command["error"]["code"]) == ("failed", "not_found"), command
    assert changes(control_plane, command["id"]) == []
