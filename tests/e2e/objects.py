"""One object of each kind, as a person would write it."""

from typing import Any

_POD_SPEC = {"containers": [{"name": "main", "image": "registry.example/app:1"}]}
_JOB = {"template": {"spec": _POD_SPEC | {"restartPolicy": "Never"}}}


def _workload(app: str) -> dict[str, Any]:
    """Selector and template; each workload has labels of its own, or one would adopt another's pods."""
    labels = {"app": app}
    return {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _POD_SPEC},
    }


def one_of_each(namespace: str) -> dict[str, dict[str, Any]]:
    """By resource; all are called `each`, but for the cluster-scoped ones."""

    def made(api_version: str, kind: str, **fields: Any) -> dict[str, Any]:
        metadata = {"name": "each", "namespace": namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}

    def wide(api_version: str, kind: str, **fields: Any) -> dict[str, Any]:
        metadata = {"name": f"{namespace}-each"}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}

    backend = {"service": {"name": "each", "port": {"number": 80}}}
    rule = {
        "host": "each.example",
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
    }
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "",
    }
    volume = {
        "capacity": {"storage": "2Mi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "none",
        "hostPath": {"path": "/tmp/each"},
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "each"}
    return {
        "pods": made("v1", "Pod", spec=_POD_SPEC),
        "nodes": wide("v1", "Node"),
        "deployments": made("apps/v1", "Deployment", spec=_workload("deployment") | {"replicas": 1}),
        "statefulsets": made(
            "apps/v1", "StatefulSet", spec=_workload("statefulset") | {"serviceName": "each"}
        ),
        "daemonsets": made("apps/v1", "DaemonSet", spec=_workload("daemonset")),
        "replicasets": made("apps/v1", "ReplicaSet", spec=_workload("replicaset") | {"replicas": 1}),
        "services": made("v1", "Service", spec={"selector": {"app": "deployment"}, "ports": [{"port": 80}]}),
        "ingresses": made("networking.k8s.io/v1", "Ingress", spec={"rules": [rule]}),
        "configmaps": made("v1", "ConfigMap", data={"key": "value"}),
        "secrets": made("v1", "Secret", stringData={"key": "value"}),
        "namespaces": wide("v1", "Namespace"),
        "events": made(
            "v1",
            "Event",
            involvedObject={"kind": "Pod", "namespace": namespace, "name": "each"},
            reason="Each",
            message="something happened",
            type="Normal",
            count=1,
        ),
        "jobs": made("batch/v1", "Job", spec=_JOB),
        "cronjobs": made(
            "batch/v1", "CronJob", spec={"schedule": "0 0 1 1 *", "jobTemplate": {"spec": _JOB}}
        ),
        "persistentvolumes": wide("v1", "PersistentVolume", spec=volume),
        "persistentvolumeclaims": made("v1", "PersistentVolumeClaim", spec=claim),
        "horizontalpodautoscalers": made(
            "autoscaling/v2", "HorizontalPodAutoscaler", spec={"scaleTargetRef": target, "maxReplicas": 3}
        ),
    }
