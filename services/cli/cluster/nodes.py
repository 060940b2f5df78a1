"""The simulated nodes: what they are made of, and when they take pods."""

import json

from services.cli.cluster.build import KUBERNETES_VERSION


def node_manifest(name: str) -> dict[str, object]:
    """A Node of the size of a usual server. Its simulated kubelet fills in the rest of the status."""
    size = {"cpu": "32", "memory": "128Gi", "pods": "250", "ephemeral-storage": "500Gi"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    about = {"kubeletVersion": KUBERNETES_VERSION, "osImage": "Simulated Linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": size, "allocatable": size, "nodeInfo": about},
    }


def schedulable_nodes(node_list: str) -> set[str]:
    """Names of those in a NodeList (JSON) that are Ready. A new node is tainted for a moment longer."""
    return {
        node["metadata"]["name"]
        for node in json.loads(node_list)["items"]
        if not node["spec"].get("taints")
        and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node["status"].get("conditions", ())
        )
    }
