"""One restart for five clusters, one after the other, by what their API servers have noted."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.cli.cluster.components import STORE
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.failpoints import VARIABLE, Point
from tests.e2e.system import System
from tests.processes import ServiceProcess

pytestmark = [pytest.mark.alone, pytest.mark.cluster, pytest.mark.timeout(300)]

CLUSTERS = ("c1", "c2", "c3", "c4", "c5")
FIRST, *OTHERS = CLUSTERS


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[dict[str, ControlPlane]]:
    """Five API servers, each with the deployment `shop/web`."""

    def start(plane: ControlPlane) -> None:
        plane.__enter__()
        plane.kubectl("create", "namespace", "shop")
        plane.kubectl("create", "deployment", "web", "--namespace=shop", "--image=example.com/web:1")

    made = {name: ControlPlane(tmp_path / name, components=STORE) for name in CLUSTERS}
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        for plane in made.values():
            stack.callback(plane.stop)
        list(pool.map(start, made.values()))
        try:
            yield made
        finally:
            for plane in made.values():
                plane.__exit__(None, None, None)


def agent(system: System, plane: ControlPlane, cluster: str) -> ServiceProcess:
    """A further agent, as a person attaches one."""
    environment = system.environment | {
        "AGENT_CLUSTER_ID": cluster,
        "AGENT_KUBECONFIG": str(plane.kubeconfig),
        "AGENT_MASTER_URL": system.state["nats"],
        "AGENT_METRICS_LISTEN": "127.0.0.1:0",
    }
    issued = subprocess.run(
        [sys.executable, "-m", "services", "bus", "credentials", "kubernetes", cluster],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    environment["NATS_CREDENTIALS"] = issued.stdout.strip()
    return ServiceProcess("agent kubernetes", environment, system.home / f"{cluster}.log")


def patches(plane: ControlPlane) -> list[tuple[datetime, datetime]]:
    """When the API server took and answered each change of the deployment, by its own audit log."""
    return [
        (_time(entry["requestReceivedTimestamp"]), _time(entry["stageTimestamp"]))
        for entry in map(json.loads, plane.layout.audit_log.read_text().splitlines())
        if entry["verb"] == "patch"
        and entry["objectRef"].get("resource") == "deployments"
        and entry["stage"] == "ResponseComplete"
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_next_cluster_follows_the_end_of_the_one_before(
    planes: dict[str, ControlPlane], tmp_path: Path
) -> None:
    """With max_unavailable 1 each API server notes its one patch after the command of the cluster before has
    ended, although the master is killed after every second step, when nobody has been told of it.
    """
    failpoints = {VARIABLE: f"{Point.OPERATION_AFTER_STEP.value}:2:kill"}
    home = tmp_path / "home"
    with System(home, planes[FIRST].kubeconfig, FIRST, AGENT_READ_ONLY="false", **failpoints) as system:
        agents = [agent(system, planes[cluster], cluster) for cluster in OTHERS]
        try:
            await asyncio.gather(*(one.start() for one in agents))

            def able() -> bool:
                items = system.get("/clusters")["items"]
                return sum("act:restart" in item["capabilities"] for item in items) == len(CLUSTERS)

            await asyncio.to_thread(system.until, able, 60)
            asked = {
                "action": "restart",
                "resource": "deployments",
                "namespace": "shop",
                "name": "web",
                "clusters": list(CLUSTERS),
            }
            answer = system.http.post(f"{system.api_url}/api/v1/operations", json=asked)
            assert answer.status_code == 202, answer.text
            path = f"/operations/{answer.json()['id']}"
            ended = await asyncio.to_thread(
                system.until, lambda: (found := system.get(path))["state"] != "running" and found, 120
            )
        finally:
            await asyncio.gather(*(one.stop() for one in agents))
    assert (ended["state"], ended["counts"]) == ("succeeded", {"succeeded": 5}), ended
    assert system.output().count("signal 9") + system.output().count("SIGKILL") >= 2, system.output()
    _check(ended, planes)


def _check(ended: dict[str, Any], planes: dict[str, ControlPlane]) -> None:
    before: datetime | None = None
    for turn in ended["targets"]:
        ((begun, answered),) = patches(planes[turn["target"]["id"]])
        finished = _time(turn["finished_at"])
        assert begun <= answered <= finished
        if before is not None:
            assert before < begun
        before = finished
