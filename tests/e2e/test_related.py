"""The graph of every object of a real cluster is what kubectl says it is."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.kubernetes import KINDS
from services.cli.cluster.control_plane import ControlPlane
from tests.e2e import related_oracle
from tests.e2e.related_oracle import Edge, Objects
from tests.e2e.system import System

pytestmark = [pytest.mark.timeout(1200), pytest.mark.cluster]

RESOURCES = {kind.kind: kind.resource for kind in KINDS.values()}
MORE = """
apiVersion: v1
kind: Pod
metadata: {name: linked, namespace: demo, labels: {app: linked, tier: db}}
spec:
  imagePullSecrets: [{name: no-such-secret}]
  volumes:
    - {name: settings, configMap: {name: shop-settings}}
    - {name: scratch, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce],
       storageClassName: none, resources: {requests: {storage: 1Gi}}}}}}
    - {name: all, projected: {sources: [{secret: {name: shop-database}}, {configMap: {name: no-such-map}}]}}
  initContainers:
    - name: first
      image: example.com/first:1
      env: [{name: A, valueFrom: {secretKeyRef: {name: shop-database, key: username}}}]
  containers:
    - name: main
      image: example.com/main:1
      env: [{name: A, valueFrom: {configMapKeyRef: {name: shop-settings, key: currency}}}]
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: expressed, namespace: demo}
spec:
  replicas: 1
  selector:
    matchExpressions:
      - {key: layer, operator: In, values: [cache, queue]}
      - {key: canary, operator: DoesNotExist}
  template:
    metadata: {labels: {layer: cache}}
    spec: {containers: [{name: main, image: example.com/cache:1}]}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: by-hand
  namespace: demo
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: example.com/hand:1}]}
---
apiVersion: v1
kind: Service
metadata: {name: no-selector, namespace: demo}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: fallback, namespace: demo}
spec:
  defaultBackend: {service: {name: database, port: {number: 5432}}}
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  rules:
    - http:
        paths:
          - {path: /gone, pathType: Prefix, backend: {service: {name: no-such-service, port: {number: 80}}}}
---
apiVersion: v1
kind: Event
metadata: {name: not-collected, namespace: demo}
involvedObject: {apiVersion: policy/v1, kind: PodDisruptionBudget, name: shop, namespace: demo}
type: Normal
reason: NoPods
message: No matching pods found
source: {component: controllermanager}
""" + "".join(
    f"""---
apiVersion: v1
kind: Event
metadata: {{name: many-{number}, namespace: demo}}
involvedObject: {{apiVersion: v1, kind: Pod, name: database-0, namespace: demo}}
type: Warning
reason: Unhealthy
message: probe {number} failed
lastTimestamp: "2026-11-01T00:00:{number:02}Z"
source: {{component: kubelet}}
"""
    for number in range(12)
)
AGAIN = 300.0
"""Seconds in which a comparison that the cluster has disturbed is made once more; each takes about 20."""

OF_EACH = 10
"""Events that are shown of an object that is not the root."""


@pytest.fixture(scope="module")
def system(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything, attached to a cluster with something of every kind."""
    control_plane.run_demo_workload()
    control_plane.kubectl("create", "-f", "-", stdin=MORE)
    control_plane.kubectl("create", "job", "report-now", "--from=cronjob/report", "--namespace=demo")
    control_plane.kubectl(
        *("wait", "--namespace=demo", "--for=condition=Complete", "job/by-hand", "job/report-now"),
        "--timeout=180s",
        timeout=190,
    )
    with System(tmp_path_factory.mktemp("home"), control_plane.kubeconfig, "graphs") as running:
        yield running
    # Whoever wants the demo workload next would take a namespace that is about to go for one that is there.
    control_plane.kubectl("delete", "namespace", "demo", "--timeout=240s", timeout=250)


def listed(plane: ControlPlane) -> Objects:
    """What there is in the cluster."""
    every = ",".join(kind.plural for kind in KINDS.values())  # in one go: little changes meanwhile
    found: dict[str, list[dict[str, Any]]] = {}
    for item in json.loads(plane.kubectl("get", every, "-A", "-o", "json"))["items"]:
        found.setdefault(RESOURCES[item["kind"]], []).append(item)
    return related_oracle.ids(found)


def settled(system: System, plane: ControlPlane) -> Objects:
    """What there is, once REST shows the same and kubectl said so before and after."""

    def versions(objects: Objects) -> dict[str, str]:
        # A node says again and again that it lives.
        return {
            id_: item["metadata"]["resourceVersion"]
            for id_, item in objects.items()
            if not id_.startswith(("nodes/", "events/"))
        }

    def shown() -> dict[str, str]:
        resources = [resource for resource in KINDS if resource not in ("nodes", "events")]
        return {
            related_id(resource, row): row["object"]["metadata"]["resourceVersion"]
            for resource in resources
            for row in system.rows(resource, view="full")
        }

    deadline = time.monotonic() + 240
    while True:
        before = listed(plane)
        events = {f"events/{row['namespace']}/{row['uid']}" for row in system.rows("events")}
        seen = shown()
        after = listed(plane)
        events_there = {id_ for id_ in after if id_.startswith("events/")}
        if seen == versions(before) == versions(after) and events_there <= events:
            return after
        if time.monotonic() > deadline:
            moving = versions(before).items() ^ versions(after).items()
            lacking = seen.items() ^ versions(after).items()
            pytest.fail(
                f"the cluster does not come to rest: kubectl saw {sorted(moving)} change, REST and kubectl "
                f"differ by {sorted(lacking)}, REST lacks the Events {sorted(events_there - events)}"
            )


def related_id(resource: str, row: dict[str, Any]) -> str:
    return f"{resource}/{row['namespace'] or '_'}/{row['name']}"


def graph(system: System, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = system.get(f"/clusters/graphs/{id_}/related", limit=1000)
    return found


def shown_edges(found: dict[str, Any]) -> set[Edge]:
    edges = [(edge["from"], edge["relation"], edge["to"]) for edge in found["edges"]]
    assert len(set(edges)) == len(edges)
    return set(edges)


def test_the_graph_of_every_object_is_what_kubectl_says(system: System, control_plane: ControlPlane) -> None:
    """For each object, every edge that follows from `kubectl get -o json`, and no other; both ends have it.

    Whatever is missing is said to be, with the reason; everything else has its row. A cluster is never still
    for long (its CronJob starts a Job, an Event is forgotten): what differs only counts where kubectl says
    afterwards what it has said before.
    """
    deadline = time.monotonic() + AGAIN
    while True:
        objects = settled(system, control_plane)
        expected = related_oracle.edges(objects, RESOURCES)
        try:
            compare(system, objects, expected)
            return
        except (AssertionError, httpx.HTTPStatusError):
            after = listed(control_plane)
            moved = after.keys() != objects.keys() or related_oracle.edges(after, RESOURCES) != expected
            if not moved or time.monotonic() > deadline:
                raise


def compare(system: System, objects: Objects, expected: set[Edge]) -> None:
    """The graphs of all objects have the edges that are expected."""
    assert {relation for _, relation, _ in expected} == {
        *("owns", "runs-on", "selects", "routes-to", "binds", "mounts", "uses", "scales", "concerns")
    }
    touching: dict[str, set[Edge]] = {}
    for id_ in objects:
        found = graph(system, id_)
        assert (found["root"], found["nodes"][0]["id"]) == (id_, id_)
        edges = shown_edges(found)
        wanted = related_oracle.around(id_, expected, objects)
        assert {edge for edge in edges if edge in expected or not gone(edge, objects)} <= wanted, id_
        # Events of what an object owns are the newest few of each; all of its own are there.
        left_out = wanted - edges
        assert {relation for _, relation, _ in left_out} <= found["truncated"].keys() <= {"concerns"}, id_
        for about in {about for _, _, about in left_out}:
            assert about != id_
            assert len([edge for edge in edges if edge[1:] == ("concerns", about)]) >= OF_EACH
        if id_ == "statefulsets/demo/database":
            assert left_out
        touching[id_] = {edge for edge in edges if id_ in (edge[0], edge[2])}
        for node in found["nodes"]:
            assert node["missing"] == (node["id"] not in objects) or node["resource"] == "events", node
            assert bool(node["why"]) == node["missing"] == (node["row"] is None)
    for id_, edges in touching.items():
        for source, _, target in edges:
            other = target if source == id_ else source
            assert other not in touching or edges & touching[other]
            assert other not in touching or {edge for edge in edges if other in edge} <= touching[other]


def gone(edge: Edge, objects: Objects) -> bool:
    """An Event that its cluster has forgotten, or one about an object that is gone."""
    return edge[1] == "concerns" and (edge[0] not in objects or edge[2] not in objects)


def test_what_is_missing_says_why(system: System) -> None:
    """A service, a secret and a map that nobody made: named by others, and shown as that."""
    missing = {
        node["id"]: node["why"]
        for id_ in ("ingresses/demo/fallback", "pods/demo/linked")
        for node in graph(system, id_)["nodes"]
        if node["missing"]
    }
    assert missing == dict.fromkeys(
        (
            "services/demo/no-such-service",
            "secrets/demo/shop-tls",
            "secrets/demo/no-such-secret",
            "configmaps/demo/no-such-map",
        ),
        "there is no such object",
    )


def test_the_answer_is_the_same_again(system: System) -> None:
    """Ids, nodes and edges of two answers agree, in their order."""
    first, second = (graph(system, "deployments/demo/shop") for _ in range(2))
    assert [node["id"] for node in first["nodes"]] == [node["id"] for node in second["nodes"]]
    assert first["edges"] == second["edges"]
