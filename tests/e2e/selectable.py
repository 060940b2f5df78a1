"""Objects of several kinds that differ in what they can be selected by."""

import random
from typing import Any

from schemas.kubernetes import KINDS

SPACES = ("alpha", "beta", "gamma")
KEYS = ("app", "tier", "in", "rank", "app.kubernetes.io/name", "example.com/x.y_z", "1")
VALUES = ("", "web", "db", "in", "notin", "a.b-c_D", "true", "0", "7", "007", "10", "9223372036854775807")
BEYOND = "9223372036854775808"
"""No 64-bit integer, so neither `>` nor `<` anything."""


def make_objects(randoms: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Some hundred by resource, in the order in which they can be created; no two have the same name."""
    pick = randoms.choice
    template = {"metadata": {"labels": {"t": "t"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    counts = {
        "namespaces": 12,
        "nodes": 20,
        "pods": 160,
        "services": 40,
        "secrets": 40,
        "configmaps": 60,
        "replicasets": 30,
        "jobs": 40,
        "events": 60,
    }

    def content(resource: str) -> dict[str, Any]:
        match resource:
            case "nodes":
                return {"spec": {"unschedulable": pick([True, False])}}
            case "pods":
                spec = {
                    **template["spec"],
                    "restartPolicy": pick(["Always", "Never", "OnFailure"]),
                    "serviceAccountName": pick(["default", "robot"]),
                    "hostNetwork": pick([True, False, False]),
                }
                spec |= pick([{}, {"schedulerName": "own"}]) | pick(
                    [{}, {"nodeName": f"nodes-{pick(range(20))}"}]
                )
                address = f"10.0.0.{pick(range(1, 9))}"
                status: dict[str, Any] = {"phase": pick(["Pending", "Running", "Failed", "Succeeded"])}
                status |= pick([{}, {"podIP": address, "podIPs": [{"ip": address}, {"ip": "fd00::1"}]}])
                if "nodeName" not in spec:  # a pod that is bound may have none
                    status |= pick([{}, {"nominatedNodeName": "nodes-1"}])
                return {"spec": spec, "status": status}
            case "services":
                kinds: list[dict[str, Any]] = [{"type": "NodePort"}, {"clusterIP": "None"}, {}]
                return {"spec": {"ports": [{"port": 80}]} | pick(kinds)}
            case "secrets":
                return {"type": pick(["Opaque", "example.com/a", "example.com/b"])}
            case "replicasets":
                return {"spec": {"selector": {"matchLabels": {"t": "t"}}, "template": template}}
            case "jobs":
                never = {"spec": {**template["spec"], "restartPolicy": "Never"}}
                status = {"succeeded": pick([0, 1, 12]), "startTime": "2026-11-01T00:00:00Z"}
                return {"spec": {"template": never, "completions": 20}, "status": status}
            case "events":
                involved = {
                    "kind": pick(["Pod", "Node"]),
                    "name": pick(["pods-1", "nodes-1"]),
                    "uid": pick("ab"),
                }
                involved |= pick([{}, {"apiVersion": "v1", "fieldPath": "spec.containers{c}"}])
                reporter = pick([{"source": {"component": "kubelet"}}, {"reportingComponent": "c"}, {}])
                told = {
                    "reason": pick(["Killing", "Pulled"]),
                    "type": pick(["Normal", "Warning"]),
                    "message": "m",
                }
                return {"involvedObject": involved} | told | reporter
        return {}

    def metadata(resource: str, number: int) -> dict[str, Any]:
        keys = randoms.sample(KEYS, randoms.randrange(len(KEYS)))
        where = {"namespace": pick(SPACES)} if KINDS[resource].namespaced else {}
        labels = {key: pick([*VALUES, BEYOND]) for key in keys}
        return {"name": f"{resource}-{number}", "labels": labels, **where}

    made: dict[str, list[dict[str, Any]]] = {"namespaces": [{"metadata": {"name": name}} for name in SPACES]}
    for resource, count in counts.items():
        for number in range(count):
            made.setdefault(resource, []).append({"metadata": metadata(resource, number)} | content(resource))
    for event in made["events"]:
        event["involvedObject"]["namespace"] = event["metadata"]["namespace"]
    return made
