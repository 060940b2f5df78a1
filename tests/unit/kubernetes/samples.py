"""One object of each kind as the API server sends it, and what a list must show of it."""

from typing import Any, NamedTuple


class Sample(NamedTuple):
    """An object, its columns and its tally (state, desired, ready)."""

    object: dict[str, Any]
    columns: dict[str, Any]
    tally: tuple[str, int, int]


def meta(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    """A metadata as it is, with what the projection leaves out."""
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"0b1c2d3e-0000-4000-8000-{abs(hash(name)) % 10**12:012}",
        "resourceVersion": "4711",
        "creationTimestamp": "2026-11-21T07:00:00Z",
        "labels": {"app": name},
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
    }
    return metadata | ({"namespace": namespace} if namespace else {}) | more


TEMPLATE: dict[str, Any] = {
    "metadata": {"creationTimestamp": None, "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {"name": "web", "image": "nginx:1.29", "resources": {}, "env": [{"name": "MODE", "value": "x"}]},
            {"name": "log", "image": "fluent:5"},
        ],
        "nodeSelector": {"disk": "ssd"},
    },
}
SELECTOR: dict[str, Any] = {
    "matchLabels": {"app": "web"},
    "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["b", "a"]},
        {"key": "canary", "operator": "DoesNotExist"},
    ],
}
WIDE = {"containers": "web,log", "images": "nginx:1.29,fluent:5", "selector": "app=web,!canary,tier in (a,b)"}
CONDITION = {
    "type": "Ready",
    "status": "True",
    "lastHeartbeatTime": "2026-11-21T07:10:00Z",
    "message": "fine",
}


SAMPLES: dict[str, Sample] = {
    "pods": Sample(
        {
            "metadata": meta(
                "web-1",
                ownerReferences=[
                    {"kind": "Other", "name": "first", "uid": "1"},
                    {"kind": "ReplicaSet", "name": "web", "uid": "2", "controller": True},
                ],
            ),
            "spec": {**TEMPLATE["spec"], "nodeName": "node-1", "readinessGates": [{"conditionType": "lb"}]},
            "status": {
                "phase": "Running",
                "podIP": "10.0.0.7",
                "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}],
                "conditions": [
                    {"type": "Ready", "status": "True", "lastProbeTime": None},
                    {"type": "lb", "status": "True"},
                ],
                "containerStatuses": [
                    {
                        "name": "web",
                        "ready": True,
                        "restartCount": 2,
                        "state": {"running": {}},
                        "lastState": {},
                    },
                    {"name": "log", "ready": True, "restartCount": 1, "state": {"running": {}}},
                ],
            },
        },
        {
            "ready": "2/2",
            "status": "Running",
            "restarts": 3,
            "ip": "10.0.0.7",
            "nominated_node": "",
            "readiness_gates": "1/1",
        },
        ("Running", 2, 2),
    ),
    "nodes": Sample(
        {
            "metadata": meta(
                "node-1",
                "",
                labels={"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"},
            ),
            "spec": {
                "unschedulable": True,
                "podCIDR": "10.1.0.0/24",
                "taints": [{"key": "a", "effect": "NoExecute"}],
            },
            "status": {
                "capacity": {"cpu": "8", "memory": "32Gi"},
                "conditions": [CONDITION],
                "addresses": [
                    {"type": "Hostname", "address": "node-1"},
                    {"type": "InternalIP", "address": "10.9.0.1"},
                    {"type": "InternalIP", "address": "fd00::1"},
                ],
                "nodeInfo": {
                    "kubeletVersion": "v1.36.3",
                    "osImage": "Debian 13",
                    "kernelVersion": "6.12",
                    "architecture": "arm64",
                    "containerRuntimeVersion": "containerd://2.2",
                },
                "images": [{"names": None, "sizeBytes": 1}],
            },
        },
        {
            "status": "Ready,SchedulingDisabled",
            "roles": "edge,worker",
            "version": "v1.36.3",
            "internal_ip": "10.9.0.1",
            "external_ip": "",
            "os_image": "Debian 13",
            "kernel_version": "6.12 (arm64)",
            "container_runtime": "containerd://2.2",
        },
        ("Ready,SchedulingDisabled", 1, 1),
    ),
    "deployments": Sample(
        {
            "metadata": meta("web", generation=3),
            "spec": {
                "replicas": 3,
                "selector": SELECTOR,
                "template": TEMPLATE,
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1},
                },
            },
            "status": {"replicas": 3, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1},
        },
        {"ready": "1/3", "up_to_date": 2, "available": 1, **WIDE},
        ("", 3, 1),
    ),
    "statefulsets": Sample(
        {
            "metadata": meta("db"),
            "spec": {
                "selector": SELECTOR,
                "template": TEMPLATE,
                "serviceName": "db",
                "volumeClaimTemplates": [
                    {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}, "status": {}}
                ],
            },
            "status": {"readyReplicas": 1, "replicas": 1},
        },
        {"ready": "1/1", "containers": "web,log", "images": "nginx:1.29,fluent:5"},
        ("", 1, 1),
    ),
    "daemonsets": Sample(
        {
            "metadata": meta("agent"),
            "spec": {"selector": SELECTOR, "template": TEMPLATE, "updateStrategy": {"type": "OnDelete"}},
            "status": {
                "desiredNumberScheduled": 5,
                "currentNumberScheduled": 4,
                "numberReady": 3,
                "updatedNumberScheduled": 2,
                "numberAvailable": 1,
            },
        },
        {
            "desired": 5,
            "current": 4,
            "ready": 3,
            "up_to_date": 2,
            "available": 1,
            "node_selector": "disk=ssd",
            **WIDE,
        },
        ("", 5, 3),
    ),
    "replicasets": Sample(
        {
            "metadata": meta("web-5"),
            "spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE},
            "status": {"replicas": 1, "readyReplicas": 1},
        },
        {"desired": 0, "current": 1, "ready": 1, **WIDE},
        ("", 0, 1),
    ),
    "services": Sample(
        {
            "metadata": meta("web"),
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.2.0.1",
                "clusterIPs": ["10.2.0.1"],
                "externalIPs": ["192.0.2.9"],
                "selector": {"tier": "front", "app": "web"},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "protocol": "TCP"},
                    {"port": 443, "targetPort": 8443, "protocol": "TCP"},
                ],
            },
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}, {"ip": "192.0.2.1"}]}},
        },
        {
            "type": "LoadBalancer",
            "cluster_ip": "10.2.0.1",
            "external_ip": "192.0.2.1,lb.example.com,192.0.2.9",
            "ports": "80:30080/TCP,443/TCP",
            "selector": "app=web,tier=front",
        },
        ("", 0, 0),
    ),
    "ingresses": Sample(
        {
            "metadata": meta("web"),
            "spec": {
                "ingressClassName": "nginx",
                "rules": [
                    {
                        "host": "a.example.com",
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                                }
                            ]
                        },
                    },
                    {"host": "b.example.com", "http": None},
                ],
                "tls": [{"hosts": ["a.example.com"], "secretName": "web-tls"}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        },
        {
            "class": "nginx",
            "hosts": "a.example.com,b.example.com",
            "address": "192.0.2.1",
            "ports": "80, 443",
        },
        ("", 0, 0),
    ),
    "configmaps": Sample(
        {
            "metadata": meta("settings"),
            "data": {"app.yaml": "password: x\n", "é": "é"},
            "binaryData": {"logo": "aGVsbG8="},
        },
        {"data": 3},
        ("", 0, 0),
    ),
    "secrets": Sample(
        {"metadata": meta("db"), "type": "Opaque", "keys": 2},
        {"type": "Opaque", "data": 2},
        ("", 0, 0),
    ),
    "namespaces": Sample(
        {"metadata": meta("shop", ""), "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
        {"status": "Active"},
        ("Active", 0, 0),
    ),
    "events": Sample(
        {
            "metadata": meta("web-1.17"),
            "involvedObject": {
                "kind": "Pod",
                "namespace": "shop",
                "name": "web-1",
                "fieldPath": "spec.containers{web}",
            },
            "type": "Warning",
            "reason": "BackOff",
            "message": "Back-off restarting failed container\n",
            "source": {"component": "kubelet", "host": "node-1"},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "eventTime": "2026-11-21T07:00:00.000000Z",
            "series": {"count": 4, "lastObservedTime": "2026-11-21T07:05:00.000000Z"},
            "reportingComponent": "kubelet",
            "reportingInstance": "node-1",
        },
        {
            "type": "Warning",
            "reason": "BackOff",
            "object": "pod/web-1",
            "subobject": "spec.containers{web}",
            "message": "Back-off restarting failed container",
            "count": 4,
            "first_seen": "2026-11-21T07:00:00Z",
            "last_seen": "2026-11-21T07:05:00Z",
            "component": "kubelet",
        },
        ("Warning", 0, 0),
    ),
    "jobs": Sample(
        {
            "metadata": meta("import"),
            "spec": {"completions": 3, "parallelism": 2, "selector": SELECTOR, "template": TEMPLATE},
            "status": {
                "succeeded": 3,
                "startTime": "2026-11-21T07:00:00Z",
                "completionTime": "2026-11-21T07:01:05Z",
                "conditions": [
                    {"type": "SuccessCriteriaMet", "status": "True"},
                    {"type": "Complete", "status": "True"},
                ],
            },
        },
        {
            "status": "Complete",
            "completions": "3/3",
            "started_at": "2026-11-21T07:00:00Z",
            "duration_seconds": 65,
            **WIDE,
        },
        ("Complete", 3, 3),
    ),
    "cronjobs": Sample(
        {
            "metadata": meta("nightly"),
            "spec": {
                "schedule": "0 3 * * *",
                "timeZone": "Asia/Tokyo",
                "suspend": True,
                "jobTemplate": {"metadata": {"creationTimestamp": None}, "spec": {"template": TEMPLATE}},
            },
            "status": {
                "active": [{"kind": "Job", "name": "nightly-1"}],
                "lastScheduleTime": "2026-11-21T03:00:00Z",
            },
        },
        {
            "schedule": "0 3 * * *",
            "timezone": "Asia/Tokyo",
            "suspend": True,
            "active": 1,
            "last_schedule": "2026-11-21T03:00:00Z",
            **WIDE,
            "selector": "",
        },
        ("", 0, 0),
    ),
    "persistentvolumes": Sample(
        {
            "metadata": meta("pv-1", ""),
            "spec": {
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "fast",
                "volumeMode": "Filesystem",
                "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data-db-0"},
                "csi": {"driver": "ebs", "volumeHandle": "vol-1", "volumeAttributes": {"a": "b"}},
            },
            "status": {"phase": "Bound"},
        },
        {
            "capacity": "10Gi",
            "access_modes": "RWO,RWX",
            "reclaim_policy": "Retain",
            "status": "Bound",
            "claim": "shop/data-db-0",
            "storage_class": "fast",
            "volume_attributes_class": "",
            "reason": "",
            "volume_mode": "Filesystem",
        },
        ("Bound", 0, 0),
    ),
    "persistentvolumeclaims": Sample(
        {
            "metadata": meta("data-db-0", annotations={"volume.beta.kubernetes.io/storage-class": "old"}),
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "8Gi"}},
                "storageClassName": "fast",
                "volumeName": "pv-1",
                "volumeMode": "Filesystem",
            },
            "status": {
                "phase": "Bound",
                "accessModes": ["ReadWriteOncePod"],
                "capacity": {"storage": "10Gi"},
            },
        },
        {
            "status": "Bound",
            "volume": "pv-1",
            "capacity": "10Gi",
            "access_modes": "RWOP",
            "storage_class": "old",
            "volume_attributes_class": "",
            "volume_mode": "Filesystem",
        },
        ("Bound", 0, 0),
    ),
    "horizontalpodautoscalers": Sample(
        {
            "metadata": meta("web"),
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 2,
                "maxReplicas": 9,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "averageUtilization": 80},
                        },
                    },
                    {
                        "type": "Pods",
                        "pods": {
                            "metric": {"name": "rps"},
                            "target": {"type": "AverageValue", "averageValue": "1k"},
                        },
                    },
                    {
                        "type": "External",
                        "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "30"}},
                    },
                ],
            },
            "status": {
                "currentReplicas": 4,
                "desiredReplicas": 5,
                "conditions": None,
                "currentMetrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "current": {"averageUtilization": 42, "averageValue": "420m"},
                        },
                    },
                    {"type": "Pods", "pods": {"metric": {"name": "rps"}, "current": {"averageValue": "700"}}},
                ],
            },
        },
        {
            "reference": "Deployment/web",
            "targets": "cpu: 42%/80%, 700/1k, <unknown>/30",
            "min_pods": 2,
            "max_pods": 9,
            "replicas": 4,
        },
        ("", 0, 0),
    ),
}
