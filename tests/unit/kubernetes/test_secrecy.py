"""Secret values never get into a projection: canaries in every place where one could lie."""

import json
from typing import Any

import pytest

from schemas.kubernetes import KINDS
from schemas.kubernetes.generic import generic_kind
from tests.unit.kubernetes.samples import SAMPLES, TEMPLATE, meta

CANARY = "c4nary-Zx81"
ANNOTATIONS = {
    "kubectl.kubernetes.io/last-applied-configuration": json.dumps({"stringData": {"x": CANARY}}),
    "example.com/api-token": CANARY,
    "example.com/dsn": f"postgres://shop:{CANARY}@db/shop",
    "example.com/config": json.dumps({"db": {"password": CANARY}, "clientSecret": CANARY}),
    "example.com/nested": json.dumps(json.dumps({"password": CANARY})),
    "example.com/yaml": f"db:\n  password: |\n    {CANARY}\n  host: db\n",
    "example.com/header": f"Authorization: Bearer {CANARY}",
}
CONTAINER = {
    "name": "main",
    "image": "app:1",
    "command": ["sh", "-c", f"export DB_PASSWORD={CANARY}; curl -u admin:{CANARY} http://x"],
    "args": [
        "--token",
        CANARY,
        f"--db-password={CANARY}",
        f"--url=https://u:{CANARY}@h/",
        "-u",
        f"me:{CANARY}",
    ],
    "env": [{"name": "HARMLESS", "value": CANARY}, {"name": "DB_PASSWORD", "value": CANARY}],
    "livenessProbe": {
        "exec": {"command": ["check", f"--password={CANARY}"]},
        "httpGet": {"port": "http", "httpHeaders": [{"name": "X-Token", "value": CANARY}]},
    },
    "lifecycle": {"postStart": {"exec": {"command": ["login", "--token", CANARY]}}},
}
POD_SPEC = {
    "containers": [CONTAINER],
    "initContainers": [CONTAINER],
    "ephemeralContainers": [CONTAINER],
    "volumes": [{"name": "v", "flexVolume": {"options": {"password": CANARY}}}],
}
MESSAGE = f"login failed: password={CANARY}"
CONDITIONS = [{"type": "Ready", "status": "False", "message": MESSAGE}]
STATE = {"waiting": {"reason": "x", "message": MESSAGE}, "terminated": {"message": MESSAGE}}
POD_STATUS = {
    "message": MESSAGE,
    "conditions": CONDITIONS,
    "containerStatuses": [{"name": "main", "state": STATE, "lastState": STATE}],
}
WORKLOAD = {"template": {"metadata": {"annotations": ANNOTATIONS}, "spec": POD_SPEC}}

PLANTED: dict[str, dict[str, Any]] = {
    "pods": {"spec": POD_SPEC, "status": POD_STATUS},
    "events": {"message": MESSAGE, "note": MESSAGE},
    "configmaps": {"data": {"a": CANARY}, "binaryData": {"b": CANARY}},
    "secrets": {"data": {"a": CANARY}, "stringData": {"a": CANARY}, "type": "Opaque"},
    "jobs": {"spec": WORKLOAD},
    "cronjobs": {"spec": {"jobTemplate": {"metadata": {"annotations": ANNOTATIONS}, "spec": WORKLOAD}}},
    "persistentvolumes": {
        "spec": {
            "csi": {"driver": "x", "volumeAttributes": {"password": CANARY}},
            "mountOptions": [f"password={CANARY}"],
        },
        "status": {"message": MESSAGE},
    },
    **{name: {"spec": WORKLOAD} for name in ("deployments", "statefulsets", "daemonsets", "replicasets")},
}


@pytest.mark.parametrize("resource", KINDS)
def test_no_canary_gets_into_a_projection(resource: str) -> None:
    """Wherever a value may lie in an object of that kind, it is not in what is sent or shown."""
    value = {**SAMPLES[resource].object, "status": {"conditions": CONDITIONS}, **PLANTED.get(resource, {})}
    value["metadata"] = meta("x", annotations=ANNOTATIONS)
    planted = json.dumps(value)
    assert CANARY in planted
    obj = KINDS[resource].decode(planted.encode())
    assert CANARY not in obj.encode().decode()
    assert CANARY not in repr(obj)
    assert CANARY not in repr(obj.columns())


def test_no_canary_gets_into_a_generic_object() -> None:
    """Of an object that is kept whole, secret-named values go, and so do literals of environments."""
    kind = generic_kind("example.com", "v1", "widgets", "Widget", namespaced=True)
    value = {
        "metadata": meta("x", annotations=ANNOTATIONS),
        "spec": {
            "dbPassword": CANARY,
            "auth": {"password": CANARY, "token": CANARY, "basicAuth": CANARY},
            "credentials": {"user": CANARY, "anything": {"deep": [CANARY]}},
            "tokens": [CANARY],
            "password": {"value": CANARY},
            "dsn": f"amqp://u:{CANARY}@h",
            "headers": [{"name": "Authorization", "value": CANARY}, {"name": "X-Api-Key", "value": CANARY}],
            "template": {"spec": POD_SPEC},
            "manifests": [{"kind": "Secret", "data": {"a": CANARY}, "stringData": {"b": CANARY}}],
            "values": f"replicas: 3\nadminPassword: {CANARY}\n",
        },
        "status": {"message": MESSAGE, "conditions": CONDITIONS},
    }
    encoded = kind.encode(kind.decode(json.dumps(value).encode()))
    assert CANARY not in encoded.decode()


def test_a_generic_object_keeps_its_references() -> None:
    """Names of secrets, flags about tokens and labels are no secrets."""
    kind = generic_kind("example.com", "v1", "widgets", "Widget", namespaced=True)
    value = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "x", "labels": {"token": "a"}},
        "spec": {
            "secretName": "db",
            "secretRef": {"name": "db", "key": "password"},
            "valueFrom": {"secretKeyRef": {"name": "db", "key": "password", "optional": False}},
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"secret": {"secretName": "db", "items": [{"key": "a", "path": "b"}]}}],
            "serviceAccountToken": {"audience": "vault", "expirationSeconds": 3600, "path": "token"},
            "automountServiceAccountToken": False,
            "auth": {"mode": "oidc", "enabled": True},
            "author": "somebody",
            "authority": "example.com",
            "maxTokens": 5,
            "template": TEMPLATE["spec"]["nodeSelector"],
        },
    }
    assert json.loads(kind.encode(kind.decode(json.dumps(value).encode()))) == value
