"""What objects declare of others: nothing that a link is made of is lost on the way into the read model."""

import json
from typing import Any

import pytest

from schemas.kubernetes import KINDS
from schemas.kubernetes.links import NOTHING, Link, Reference, Relation, declared

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u1", "controller": True}
META = {"name": "web-1-a", "namespace": "shop", "labels": {"app": "web"}}
POD = {
    "metadata": META | {"ownerReferences": [{"kind": "Other", "name": "o", "uid": "u0"}, OWNER]},
    "spec": {
        "nodeName": "node-1",
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "keys", "secret": {"secretName": "keys"}},
            {
                "name": "all",
                "projected": {"sources": [{"secret": {"name": "a"}}, {"configMap": {"name": "b"}}]},
            },
        ],
        "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "first"}}]}],
        "containers": [
            {
                "name": "c",
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "b"}}},
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "c"}}},
                ],
            }
        ],
        "ephemeralContainers": [{"name": "e", "envFrom": [{"configMapRef": {"name": "debug"}}]}],
    },
}
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}
SELECTOR = {
    "matchLabels": {"app": "web"},
    "matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}],
}
CLAIM = {
    "kind": "PersistentVolumeClaim",
    "apiVersion": "v1",
    "namespace": "shop",
    "name": "data",
    "uid": "u2",
}
SAMPLES: dict[str, dict[str, Any]] = {
    "pods": POD,
    "services": {"metadata": META, "spec": {"selector": {"app": "web"}, "type": "ClusterIP"}},
    "ingresses": {
        "metadata": META,
        "spec": {
            "defaultBackend": {"resource": {"apiGroup": "x.example", "kind": "Bucket", "name": "static"}},
            "rules": [{"http": {"paths": [{"path": "/", "backend": BACKEND}]}}],
            "tls": [{"secretName": "tls"}],
        },
    },
    "persistentvolumeclaims": {"metadata": META, "spec": {"volumeName": "disk"}},
    "persistentvolumes": {"metadata": {"name": "disk"}, "spec": {"claimRef": CLAIM}},
    "horizontalpodautoscalers": {
        "metadata": META,
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    },
    "events": {
        "metadata": META,
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "u"},
    },
    **{
        resource: {"metadata": META | {"ownerReferences": [OWNER]}, "spec": {"selector": SELECTOR}}
        for resource in ("deployments", "replicasets", "statefulsets", "daemonsets", "jobs")
    },
}


@pytest.mark.parametrize("resource", SAMPLES)
def test_a_projection_keeps_what_links_are_made_of(resource: str) -> None:
    """The links of what is stored are those of what the API server has."""
    kind = KINDS[resource]
    original = json.dumps(SAMPLES[resource]).encode()
    stored = kind.encode(kind.decode(original))
    assert declared(resource, stored) == declared(resource, original) != NOTHING


def test_what_a_pod_declares() -> None:
    """Its managing owner, its node, and all that it mounts and uses, each once."""
    found = declared("pods", json.dumps(POD).encode())

    def to(relation: Relation, kind: str, name: str) -> Link:
        return Link(relation, Reference(kind, "", "" if kind == "Node" else "shop", name))

    assert found.links == (
        Link(Relation.OWNS, Reference("ReplicaSet", "apps", "shop", "web-1", "u1"), outward=False),
        to(Relation.RUNS_ON, "Node", "node-1"),
        to(Relation.MOUNTS, "PersistentVolumeClaim", "data"),
        to(Relation.MOUNTS, "PersistentVolumeClaim", "web-1-a-scratch"),
        to(Relation.MOUNTS, "ConfigMap", "settings"),
        to(Relation.MOUNTS, "Secret", "keys"),
        to(Relation.MOUNTS, "Secret", "a"),
        to(Relation.MOUNTS, "ConfigMap", "b"),
        to(Relation.USES, "Secret", "keys"),
        to(Relation.USES, "ConfigMap", "settings"),
        to(Relation.USES, "Secret", "first"),
        to(Relation.USES, "ConfigMap", "debug"),
        to(Relation.USES, "Secret", "pull"),
    )
    assert (found.labels, found.selector) == ({"app": "web"}, None)


def test_directions_are_fixed() -> None:
    """A volume's claim binds the volume, whichever of the two says so."""
    claim, volume = (
        declared(resource, json.dumps(SAMPLES[resource]).encode()).links[-1]
        for resource in ("persistentvolumeclaims", "persistentvolumes")
    )
    assert claim == Link(Relation.BINDS, Reference("PersistentVolume", "", "", "disk"))
    assert volume == Link(
        Relation.BINDS, Reference("PersistentVolumeClaim", "", "shop", "data", "u2"), outward=False
    )


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        ("services", b'{"spec":{}}'),
        ("services", b'{"spec":{"selector":{"app":"web"},"type":"ExternalName"}}'),
        ("deployments", b'{"spec":{"selector":null}}'),
        ("pods", b'{"metadata":null,"spec":{"volumes":null,"containers":[{"env":null}]}}'),
        ("pods", b"null"),
        ("pods", b'{"spec":"x"}'),
        ("pods", b"\xff"),
        ("pods", b"[" * 100_000),
        ("widgets.example.com", b'{"metadata":{"ownerReferences":[{"kind":"","name":""}]}}'),
        ("horizontalpodautoscalers", b'{"spec":{}}'),
        ("events", b'{"involvedObject":{"kind":"Pod"}}'),
    ],
)
def test_nothing_is_declared(resource: str, body: bytes) -> None:
    """Where there is nothing, or nothing that can be read, there is no link and no error."""
    assert declared(resource, body) == NOTHING


def test_an_owner_of_any_kind() -> None:
    """A resource without a projection declares its owner; an older agent's says no group."""
    owner = {"kind": "Rollout", "name": "web", "uid": "u"}
    for group, expected in (
        ({"apiVersion": "argoproj.io/v1"}, "argoproj.io"),
        ({}, None),
        ({"apiVersion": "v1"}, ""),
    ):
        body = {
            "metadata": {"namespace": "shop", "ownerReferences": [owner | group]},
            "spec": {"selector": 1},
        }
        (link,) = declared("widgets.example.com", json.dumps(body).encode()).links
        assert link.reference == Reference("Rollout", expected, "shop", "web", "u")
