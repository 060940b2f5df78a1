"""Our columns beside those that the API server itself prints, for real objects of every kind."""

import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import yaml

from schemas.kubernetes import KINDS
from schemas.kubernetes.base import KubeObject
from schemas.kubernetes.config import SecretTable
from schemas.kubernetes.kind import Kind
from services.cli.cluster.control_plane import ControlPlane

pytestmark = pytest.mark.timeout(240)

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
METADATA = {"includeObject": "Metadata"}
# What the printer derives from the clock, or what every row has anyway; NAME and AGE are such.
NOT_OURS = {"name", "age", "node", "duration", "last_schedule", "last_seen", "first_seen", "source"}
OUR_NAMES = {
    "port(s)": "ports",
    "storageclass": "storage_class",
    "volumeattributesclass": "volume_attributes_class",
    "volumemode": "volume_mode",
    "minpods": "min_pods",
    "maxpods": "max_pods",
}
NO_VALUE = {"<none>", "<unset>", "<unknown>"}
AUTOSCALER = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: printed, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: printed}
  maxReplicas: 3
  metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}
    - type: External
      external: {metric: {name: queue}, target: {type: AverageValue, averageValue: "30"}}
"""


@pytest.fixture
def server(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """The API server, with the administrator's token, holding something of every kind."""
    control_plane.run_demo_workload()
    control_plane.kubectl("apply", "-f", "-", stdin=AUTOSCALER)
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
    headers = {"Authorization": f"Bearer {user['token']}"}
    with httpx.Client(base_url=cluster["server"], headers=headers, verify=trusted, timeout=30) as client:
        yield client


def printed(server: httpx.Client, kind: Kind) -> dict[str, dict[str, Any]]:
    """The server's own columns by object, under our names."""
    table = server.get(kind.path(), headers=TABLE, params=METADATA).json()
    titles = [column["name"].lower() for column in table["columnDefinitions"]]
    names = [OUR_NAMES.get(title, title.replace(" ", "_").replace("-", "_")) for title in titles]
    return {
        row["object"]["metadata"]["uid"]: {
            name: "" if cell in NO_VALUE else cell
            for name, cell in zip(names, row["cells"], strict=True)
            if name not in NOT_OURS
        }
        for row in table["rows"]
    }


def projected(server: httpx.Client, kind: Kind) -> dict[str, dict[str, Any]]:
    """Our columns by object."""
    if kind.as_table:
        answer = server.get(kind.path(), headers=TABLE, params=METADATA)
        objects: list[KubeObject] = list(SecretTable().page(answer.content).secrets)
    else:
        items = server.get(kind.path()).json()["items"]
        objects = [kind.decode(json.dumps(item).encode()) for item in items]
    return {
        obj.metadata.uid: json.loads(msgspec.json.encode(kind.decode(kind.encode(obj)).columns()))
        for obj in objects
    }


def texts(columns: dict[str, Any]) -> dict[str, str]:
    """Columns of either side as text, for comparison."""
    shown = {name: "" if value is None else str(value).strip() for name, value in columns.items()}
    if "restarts" in shown:
        shown["restarts"] = shown["restarts"].partition(" ")[0]  # `3 (5m ago)`
    return shown


@pytest.mark.parametrize("resource", KINDS)
def test_columns_are_those_of_the_printer(server: httpx.Client, resource: str) -> None:
    """For every object of the demo workload, each column reads as the API server prints it."""
    kind = KINDS[resource]
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        before, ours, theirs = printed(server, kind), projected(server, kind), printed(server, kind)
        if before == theirs:  # nothing moved while we looked
            assert theirs, f"no {resource} to compare"
            assert ours.keys() == theirs.keys()
            for uid, columns in theirs.items():
                shown = texts(columns)
                assert {name: text for name, text in texts(ours[uid]).items() if name in shown} == shown
            return
        time.sleep(0.25)
    pytest.fail(f"the {resource} never held still")
