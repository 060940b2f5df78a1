"""A running pod as an agent sends it: the projection of what the API server has of one."""

import json
from functools import cache

from schemas.kubernetes import KINDS

_TIME = "2026-11-21T08:00:00Z"
_LABELS = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/part-of": "bench", "tier": "web"}
_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def manifest(name: str) -> dict[str, object]:
    """A pod to be created: the usual fields, one container."""
    container = {
        "name": "main",
        "image": "registry.example/app:1.2.3",
        "command": ["/app/serve"],
        "args": ["--port=8080", "--log-level=info"],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": "MODE", "value": "production"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http", "scheme": "HTTP"}},
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": _LABELS,
            "annotations": {"prometheus.io/scrape": "true"},
        },
        "spec": {"containers": [container], "nodeName": "node-1", "restartPolicy": "Always"},
    }


def pod(cluster: str, name: str, version: int) -> bytes:
    """The projection, about 1.6 kB; `version` is its resourceVersion."""
    body = _template().replace(b"@cluster@", cluster.encode()).replace(b"@name@", name.encode())
    return body.replace(b"@version@", str(version).encode())


@cache
def _template() -> bytes:
    found = json.loads(json.dumps(manifest("@name@")))
    found["metadata"] |= {
        "uid": "@cluster@-@name@",
        "resourceVersion": "@version@",
        "creationTimestamp": _TIME,
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-6bd8f595f9", "uid": "uid-owner"}
            | {"controller": True}
        ],
    }
    found["status"] = {
        "phase": "Running",
        "hostIP": "10.0.0.1",
        "podIP": "10.244.0.7",
        "startTime": _TIME,
        "qosClass": "Burstable",
        "conditions": [{"type": name, "status": "True", "lastTransitionTime": _TIME} for name in _CONDITIONS],
        "containerStatuses": [
            {
                "name": "main",
                "image": "registry.example/app:1.2.3",
                "imageID": "sha256:5d0da3dc976460b72c77d94c8a1ad043720b0416bfc16c52c45d4847e53fadb6",
                "containerID": "containerd://@cluster@-@name@",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": _TIME}},
            }
        ],
    }
    kind = KINDS["pods"]
    return kind.encode(kind.decode(json.dumps(found).encode()))
