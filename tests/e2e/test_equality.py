"""What the REST API shows is what the API server has: 5,000 pods, every kind, and every change."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.stage import populated_cluster
from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from services.cli.cluster.control_plane import ControlPlane
from tests.cluster.stored import store_namespaces
from tests.e2e.objects import one_of_each
from tests.e2e.system import System

PODS = 5000
NODES = 50
MANY = 10_000

pytestmark = [pytest.mark.timeout(1800), pytest.mark.cluster]


@pytest.fixture(scope="module")
def big_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with many pods that all run."""
    with populated_cluster(tmp_path_factory.mktemp("big"), NODES, PODS) as plane:
        yield plane


@pytest.fixture(scope="module")
def big_system(big_cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything, attached to it."""
    with System(tmp_path_factory.mktemp("home"), big_cluster.kubeconfig, "big") as system:
        yield system


def expected(plane: ControlPlane, kind: Kind) -> dict[tuple[str, str], Any]:
    """What the projection makes of `kubectl get -o json`."""
    listed = json.loads(plane.kubectl("get", kind.plural, "-A", "-o", "json", timeout=120))["items"]
    objects: dict[tuple[str, str], Any] = {}
    for item in listed:
        if kind.resource == "secrets":  # kubectl prints values, so the number of keys must be counted here
            keys = len(item.pop("data", None) or {})
            item["metadata"].pop("annotations", None)
            item.update({"keys": keys} if keys else {})
        projection = kind.decode(json.dumps(item).encode())
        body = msgspec.json.decode(kind.encode(projection))
        objects[item["metadata"].get("namespace", ""), item["metadata"]["name"]] = body
    return objects


def shown(system: System, kind: Kind) -> dict[tuple[str, str], Any]:
    """What REST shows."""
    rows = system.rows(kind.resource, view="full")
    return {(row["namespace"], row["name"]): row["object"] for row in rows}


def difference(system: System, plane: ControlPlane, kind: Kind) -> str:
    """Where the two differ; empty if they don't."""
    wanted, found = expected(plane, kind), shown(system, kind)
    if kind.resource == "events":  # rows outlive the object: those still present are compared
        found = {key: value for key, value in found.items() if key in wanted}
    missing, surplus = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    changed = [key for key in wanted.keys() & found.keys() if wanted[key] != found[key]]
    if not (missing or surplus or changed):
        return ""
    sample = next(iter(changed), None)
    detail = f"{sample}: {wanted[sample]} is shown as {found[sample]}" if sample else ""
    lists = f"missing {sorted(missing)[:3]}, surplus {sorted(surplus)[:3]}"
    return f"{kind.resource}: {lists}, {len(changed)} differ {detail}"


def test_every_kind_is_equal(big_system: System, big_cluster: ControlPlane) -> None:
    """For every kind, rows of REST and projections of `kubectl get -o json` are the same, field by field."""
    deadline = time.monotonic() + 300
    open_kinds = list(KINDS.values())
    told: dict[str, str] = {}
    while open_kinds and time.monotonic() < deadline:
        told = {kind.resource: difference(big_system, big_cluster, kind) for kind in open_kinds}
        open_kinds = [kind for kind in open_kinds if told[kind.resource]]
        time.sleep(1)
    assert not open_kinds, [told[kind.resource] for kind in open_kinds]
    assert len(shown(big_system, KINDS["pods"])) >= PODS
    assert len(shown(big_system, KINDS["nodes"])) == NODES


def test_every_change_of_every_kind_follows(big_system: System, big_cluster: ControlPlane) -> None:
    """One object of each kind is created, changed and deleted, and REST follows."""
    namespace = "each-kind"
    big_cluster.kubectl("create", "namespace", namespace)
    objects = one_of_each(namespace)
    assert objects.keys() == KINDS.keys()

    def row(resource: str) -> dict[str, Any] | None:
        metadata = objects[resource]["metadata"]
        where = metadata.get("namespace") or "_"
        if resource == "events":
            found = big_system.get("/events", cluster="big", namespace=where, reason="Each")["items"]
            return found[0] if found else None
        path = f"/clusters/big/{resource}/{where}/{metadata['name']}"
        response = big_system.http.get(f"{big_system.api_url}/api/v1{path}")
        return response.json() if response.status_code == 200 else None

    for resource, document in objects.items():
        big_cluster.kubectl("create", "-f", "-", "--validate=ignore", stdin=json.dumps(document))
        big_system.until(lambda resource=resource: row(resource))
    for resource, document in objects.items():
        change = {"count": 7} if resource == "events" else {"metadata": {"labels": {"changed": "yes"}}}
        patch = [document["kind"].lower(), document["metadata"]["name"], "-p", json.dumps(change)]
        big_cluster.kubectl("patch", "-n", namespace, *patch)
        if resource == "events":
            big_system.until(lambda: (row("events") or {}).get("count") == 7)
        else:
            big_system.until(
                lambda resource=resource: (
                    (row(resource) or {"object": {"metadata": {}}})["object"]["metadata"]
                    .get("labels", {})
                    .get("changed")
                )
            )
    for resource, document in reversed(objects.items()):
        name = document["metadata"]["name"]
        kind = document["kind"].lower()
        big_cluster.kubectl(
            "delete", kind, name, "-n", namespace, "--wait=false", "--now", "--ignore-not-found"
        )
        if resource != "events":
            big_system.until(lambda resource=resource: row(resource) is None)
    assert row("events"), "an Event's row outlives the object"


def test_summary_counts_what_is_there(big_system: System) -> None:
    """The cluster's summary has all nodes, pods and workloads in their states."""

    def shown_whole() -> dict[str, Any] | None:
        found: dict[str, Any] = big_system.get("/clusters/big")
        pods = (found["summary"] or {}).get("pods", {})
        return found if found["state"] == "live" and pods.get("Running", 0) >= PODS else None

    cluster = big_system.until(shown_whole)
    assert cluster["state"] == "live"
    assert cluster["summary"]["nodes"]["Ready"] >= NODES
    assert cluster["summary"]["pods"]["Running"] >= PODS
    assert cluster["summary"]["workloads"]["deployments"]["ready"] >= PODS
    assert cluster["summary"]["events"]["Normal"] > 0


def test_many_namespaces(big_system: System, big_cluster: ControlPlane) -> None:
    """10,000 more of them, all at once: all are shown, and what is in the last one."""
    store_namespaces(big_cluster, range(MANY))
    big_cluster.kubectl("create", "configmap", "new", "-n", f"team-{MANY - 1}")
    path = f"{big_system.api_url}/api/v1/clusters/big/configmaps/team-{MANY - 1}/new"
    big_system.until(lambda: big_system.http.get(path).status_code == 200)
    namespaces = KINDS["namespaces"]
    big_system.until(lambda: not difference(big_system, big_cluster, namespaces), 60)
    assert len(shown(big_system, namespaces)) > MANY


def test_ctrl_c_ends_everything(big_cluster: ControlPlane, big_system: System) -> None:
    """Ctrl-C ends with 0, leaves no process behind, and the data stays."""
    pids = [pid for pid in _numbers(big_system.state) if Path(f"/proc/{pid}").exists()]
    assert big_system.stop() == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert (big_system.home / "atlhyper.db").exists()


def _numbers(state: Any) -> list[int]:
    """The pids in up.json."""
    return [int(pid) for pid in state["processes"].values()]
