"""The objects of the load: one declaration per kind, of what nobody else acts on.

No controller runs, so what is created stays as it is written: pods have no node, workloads no pods.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

NAMESPACE = "load"

_POD_SPEC = {
    "automountServiceAccountToken": False,
    "containers": [{"name": "main", "image": "registry.example/app:1"}],
}
_JOB_SPEC = {"template": {"spec": _POD_SPEC | {"restartPolicy": "Never"}}}
_WORKLOAD = {
    "selector": {"matchLabels": {"app": "load"}},
    "template": {"metadata": {"labels": {"app": "load"}}, "spec": _POD_SPEC},
}
_CLAIM = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
    "storageClassName": "",
}
_VOLUME = {
    "capacity": {"storage": "1Gi"},
    "accessModes": ["ReadWriteOnce"],
    "storageClassName": "none",
    "hostPath": {"path": "/tmp/load"},
}
_BEGAN = datetime.now(UTC) - timedelta(hours=1)
"""Events are as of now: what is older than its retention is not kept."""


def _time(step: int) -> str:
    return f"{_BEGAN + timedelta(seconds=step):%Y-%m-%dT%H:%M:%SZ}"


_EVENT = {
    "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": "somebody"},
    "reason": "Load",
    "message": "something happened",
    "type": "Normal",
    "count": 1,
    "firstTimestamp": _time(0),
    "lastTimestamp": _time(0),
}
_BACKEND = {"service": {"name": "load", "port": {"number": 80}}}

Patch = Callable[[int], dict[str, Any]]
"""The n-th change of an object, as a JSON merge patch."""


@dataclass(frozen=True, slots=True)
class LoadKind:
    """How objects of one resource are made, changed and removed."""

    resource: str
    api_version: str
    kind: str
    body: dict[str, Any]
    patch: Patch
    namespaced: bool = True
    finalizers: bool = False
    """Something holds deleted objects back that nobody is there to release."""

    @property
    def collection(self) -> str:
        """Path of the API server."""
        root = f"/api/{self.api_version}" if self.api_version == "v1" else f"/apis/{self.api_version}"
        return (
            f"{root}/namespaces/{NAMESPACE}/{self.resource}" if self.namespaced else f"{root}/{self.resource}"
        )

    def path(self, name: str) -> str:
        """Of one object."""
        return f"{self.collection}/{name}"

    def manifest(self, name: str) -> dict[str, Any]:
        """A new object."""
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": name}, **self.body}


def _spec(**values: Callable[[int], Any]) -> Patch:
    def patch(step: int) -> dict[str, Any]:
        spec = {name: value(step) for name, value in values.items()}
        return {"metadata": {"annotations": {"step": str(step)}}, "spec": spec}

    return patch


def _labels(step: int) -> dict[str, Any]:
    return {"metadata": {"labels": {"step": str(step)}, "annotations": {"step": str(step)}}}


def _image(step: int) -> dict[str, Any]:
    containers = [{"name": "main", "image": f"registry.example/app:{step}"}]
    return _labels(step) | {"spec": {"containers": containers}}


def _counted(step: int) -> dict[str, Any]:
    return {"count": step + 1, "lastTimestamp": _time(step)}


_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "load"}

LOAD_KINDS: tuple[LoadKind, ...] = (
    LoadKind("pods", "v1", "Pod", {"spec": _POD_SPEC}, _image),
    LoadKind("nodes", "v1", "Node", {}, _spec(unschedulable=lambda n: bool(n % 2)), namespaced=False),
    LoadKind(
        "deployments",
        "apps/v1",
        "Deployment",
        {"spec": _WORKLOAD | {"replicas": 0}},
        _spec(replicas=lambda n: n % 5),
    ),
    LoadKind(
        "statefulsets",
        "apps/v1",
        "StatefulSet",
        {"spec": _WORKLOAD | {"replicas": 0, "serviceName": "load"}},
        _spec(replicas=lambda n: n % 5),
    ),
    LoadKind("daemonsets", "apps/v1", "DaemonSet", {"spec": _WORKLOAD}, _labels),
    LoadKind(
        "replicasets",
        "apps/v1",
        "ReplicaSet",
        {"spec": _WORKLOAD | {"replicas": 0}},
        _spec(replicas=lambda n: n % 5),
    ),
    LoadKind(
        "services",
        "v1",
        "Service",
        {"spec": {"selector": {"app": "load"}, "ports": [{"port": 80}]}},
        _spec(ports=lambda n: [{"port": 80 + n % 900}]),
    ),
    LoadKind(
        "ingresses",
        "networking.k8s.io/v1",
        "Ingress",
        {"spec": {"defaultBackend": _BACKEND}},
        _spec(ingressClassName=lambda n: f"class-{n % 7}"),
    ),
    LoadKind(
        "configmaps",
        "v1",
        "ConfigMap",
        {"data": {"key": "value"}},
        lambda n: _labels(n) | {"data": {f"key-{n % 3}": "x" * (n % 50)}},
    ),
    LoadKind(
        "secrets",
        "v1",
        "Secret",
        {"data": {"key": "dmFsdWU="}},
        lambda n: {"metadata": {"labels": {"step": str(n)}}, "data": {f"key-{n % 3}": "dmFsdWU="}},
    ),
    LoadKind("namespaces", "v1", "Namespace", {}, _labels, namespaced=False, finalizers=True),
    LoadKind("events", "v1", "Event", _EVENT, _counted),
    LoadKind("jobs", "batch/v1", "Job", {"spec": _JOB_SPEC}, _spec(parallelism=lambda n: n % 4)),
    LoadKind(
        "cronjobs",
        "batch/v1",
        "CronJob",
        {"spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": _JOB_SPEC}}},
        _spec(schedule=lambda n: f"{n % 60} 0 1 1 *"),
    ),
    LoadKind(
        "persistentvolumes",
        "v1",
        "PersistentVolume",
        {"spec": _VOLUME},
        _labels,
        namespaced=False,
        finalizers=True,
    ),
    LoadKind(
        "persistentvolumeclaims", "v1", "PersistentVolumeClaim", {"spec": _CLAIM}, _labels, finalizers=True
    ),
    LoadKind(
        "horizontalpodautoscalers",
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        {"spec": {"scaleTargetRef": _TARGET, "maxReplicas": 3}},
        _spec(maxReplicas=lambda n: 1 + n % 9),
    ),
)
"""Every kind that is collected."""
