"""The projections, one sample each."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.kubernetes import KINDS, selectable_fields
from schemas.kubernetes.base import common_meta, summary
from schemas.kubernetes.kind import Kind, Selectable
from schemas.kubernetes.network import Ingress
from tests.unit.kubernetes.samples import SAMPLES

PATHS = {
    "pods": "/api/v1/pods",
    "nodes": "/api/v1/nodes",
    "deployments": "/apis/apps/v1/deployments",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "replicasets": "/apis/apps/v1/replicasets",
    "services": "/api/v1/services",
    "ingresses": "/apis/networking.k8s.io/v1/ingresses",
    "configmaps": "/api/v1/configmaps",
    "secrets": "/api/v1/secrets",
    "namespaces": "/api/v1/namespaces",
    "events": "/api/v1/events",
    "jobs": "/apis/batch/v1/jobs",
    "cronjobs": "/apis/batch/v1/cronjobs",
    "persistentvolumes": "/api/v1/persistentvolumes",
    "persistentvolumeclaims": "/api/v1/persistentvolumeclaims",
    "horizontalpodautoscalers": "/apis/autoscaling/v2/horizontalpodautoscalers",
}
CLUSTER_SCOPED = {"nodes", "namespaces", "persistentvolumes"}

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def as_json(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def body(kind: Kind) -> bytes:
    return json.dumps(SAMPLES[kind.resource].object).encode()


def test_the_kinds_are_those_of_the_contract_in_its_order() -> None:
    """KINDS holds exactly the agreed resources, and each has a sample here."""
    assert list(KINDS) == list(PATHS)
    assert SAMPLES.keys() == KINDS.keys()


@pytest.mark.parametrize(
    ("projection", "value"),
    [
        ({"a": {"b": "x"}}, "x"),
        ({"a": {"b": ""}, "c": [{"d": "y"}]}, "y"),
        ({"a": {"b": 7}}, "7"),
        ({"a": {"b": 0}}, "0"),
        ({"a": {"b": True}}, "true"),
        ({"a": {"b": False}}, "false"),
        ({"a": "no object", "c": []}, "none"),
        ({"a": None}, "none"),
        ({}, "none"),
    ],
)
def test_what_a_field_selector_compares(projection: dict[str, Any], value: str) -> None:
    """The first path that leads to something, as text; where none does, what stands for its absence."""
    assert Selectable("f", ("a.b", "c.0.d"), absent="none").value(projection) == value


def test_what_every_resource_is_selected_by() -> None:
    """A resource that no kind declares has name and namespace, as in the API server."""
    assert list(selectable_fields("widgets.example.com")) == ["metadata.name", "metadata.namespace"]
    assert "status.phase" in selectable_fields("pods")


@every_kind
def test_path(kind: Kind) -> None:
    """Each kind knows its collection, in all namespaces and in one."""
    assert kind.path() == PATHS[kind.resource]
    assert kind.namespaced == (kind.resource not in CLUSTER_SCOPED)
    prefix, _, plural = PATHS[kind.resource].rpartition("/")
    assert kind.path("shop") == f"{prefix}/namespaces/shop/{plural}"


@every_kind
def test_columns_and_tally(kind: Kind) -> None:
    """A list shows what `kubectl get -o wide` shows, as flat JSON; summaries count by the same words."""
    obj = kind.decode(body(kind))
    sample = SAMPLES[kind.resource]
    assert as_json(obj.columns()) == sample.columns
    assert list(obj.columns()) == list(sample.columns)
    assert tuple(obj.tally()) == sample.tally


@every_kind
def test_round_trip(kind: Kind) -> None:
    """What is encoded decodes to the same object, and the same object encodes to the same bytes."""
    obj = kind.decode(body(kind))
    encoded = kind.encode(obj)
    again = kind.decode(encoded)
    assert again == obj
    assert kind.encode(again) == encoded
    assert b"managedFields" not in encoded


@every_kind
@pytest.mark.parametrize("text", ["{}", '{"metadata":{}}', '{"metadata":{"name":"x"},"other":{"a":[1]}}'])
def test_almost_nothing_is_enough(kind: Kind, text: str) -> None:
    """Missing metadata and parts, and unknown fields, are no error; columns and tally still answer."""
    obj = kind.decode(text.encode())
    as_json(obj.columns())
    obj.tally()
    shown = summary(common_meta(kind.kind, obj), obj)
    assert set(shown) >= {"kind", "name", "namespace", "uid", "node", "owner", "created_at"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each field and list item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


@every_kind
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_nulls_are_read_as_absence(kind: Kind, data: st.DataObject) -> None:
    """A null in any place of any kind is tolerated."""
    value = json.loads(body(kind))
    for path in data.draw(st.lists(st.sampled_from(places(value)), min_size=1, max_size=4)):
        at: Any = value
        for key in path[:-1]:
            at = at[key] if at is not None else None
        if at is not None:
            at[path[-1]] = None
    obj = kind.decode(json.dumps(value).encode())
    as_json(obj.columns())
    assert kind.encode(kind.decode(kind.encode(obj))) == kind.encode(obj)


def test_the_owner_is_the_controller() -> None:
    """Of several owners the managing one counts; node and labels are the columns of a join."""
    pod = common_meta("Pod", KINDS["pods"].decode(body(KINDS["pods"])))
    assert (pod.owner_kind, pod.owner_name, pod.node) == ("ReplicaSet", "web", "node-1")
    event = common_meta("Event", KINDS["events"].decode(body(KINDS["events"])))
    assert (event.pod, event.node) == ("web-1", "node-1")


def test_an_ingress_names_its_services() -> None:
    """The services behind rules and default backend, each once."""
    value = SAMPLES["ingresses"].object
    spec = value["spec"] | {"defaultBackend": {"service": {"name": "fallback"}}}
    assert Ingress.decode(json.dumps(value | {"spec": spec}).encode()).services() == ["fallback", "web"]


def test_kubelet_heartbeats_change_nothing() -> None:
    """A node's body does not follow the heartbeat times of its conditions."""
    kind = KINDS["nodes"]
    later = body(kind).replace(b"07:10:00Z", b"07:15:00Z")
    assert later != body(kind)
    assert kind.encode(kind.decode(later)) == kind.encode(kind.decode(body(kind)))


@pytest.mark.parametrize(
    ("conditions", "unschedulable", "state"),
    [
        ([{"type": "Ready", "status": "True"}], False, "Ready"),
        ([{"type": "Ready", "status": "Unknown"}], False, "NotReady"),
        ([], False, "Unknown"),
        ([{"type": "Ready", "status": "False"}], True, "NotReady,SchedulingDisabled"),
    ],
)
def test_node_states(conditions: list[dict[str, str]], unschedulable: bool, state: str) -> None:
    """STATUS of a node by the printer's rules."""
    node = {"spec": {"unschedulable": unschedulable}, "status": {"conditions": conditions}}
    assert KINDS["nodes"].decode(json.dumps(node).encode()).tally().state == state


@pytest.mark.parametrize(
    ("spec", "status", "state", "completions"),
    [
        ({}, {}, "Running", "0/1"),
        ({"parallelism": 3}, {"succeeded": 1}, "Running", "1/1 of 3"),
        ({"completions": 2}, {"conditions": [{"type": "Failed", "status": "True"}]}, "Failed", "0/2"),
        ({"completions": 2}, {"conditions": [{"type": "Suspended", "status": "True"}]}, "Suspended", "0/2"),
        (
            {"completions": 2},
            {"conditions": [{"type": "FailureTarget", "status": "True"}]},
            "FailureTarget",
            "0/2",
        ),
    ],
)
def test_job_states(spec: dict[str, Any], status: dict[str, Any], state: str, completions: str) -> None:
    """STATUS and COMPLETIONS of a job by the printer's rules."""
    job = KINDS["jobs"].decode(json.dumps({"spec": spec, "status": status}).encode())
    assert job.tally().state == state
    assert job.columns()["completions"] == completions


@pytest.mark.parametrize(
    ("spec", "external"),
    [
        ({"type": "ClusterIP"}, ""),
        ({"type": "NodePort", "externalIPs": ["192.0.2.1"]}, "192.0.2.1"),
        ({"type": "LoadBalancer"}, "<pending>"),
        ({"type": "ExternalName", "externalName": "db.example.com"}, "db.example.com"),
    ],
)
def test_external_addresses(spec: dict[str, Any], external: str) -> None:
    """EXTERNAL-IP of a service by its type."""
    assert KINDS["services"].decode(json.dumps({"spec": spec}).encode()).columns()["external_ip"] == external
