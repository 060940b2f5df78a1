"""Restarts in five clusters, one after the other, by what their API servers have noted."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.cli.cluster.components import STORE
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.failpoints import VARIABLE, Point
from tests.cluster import audited
from tests.cluster.throwaway import Throwaway
from tests.e2e.system import System
from tests.processes import ServiceProcess

pytestmark = [pytest.mark.alone, pytest.mark.cluster, pytest.mark.timeout(900)]

CLUSTERS = ("c1", "c2", "c3", "c4", "c5")
FIRST, *OTHERS = CLUSTERS
WITHOUT_CART = "c3"
LABEL = "env=prod"


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[dict[str, ControlPlane]]:
    """Five API servers, each with the deployments `shop/web` and, but for one of them, `shop/cart`."""

    def start(plane: ControlPlane) -> None:
        plane.__enter__()
        names = ["web"] if plane is made[WITHOUT_CART] else ["web", "cart"]
        plane.kubectl("create", "-f", "-", stdin=json.dumps(shop(*names)))

    made = {name: Throwaway(tmp_path / name, components=STORE) for name in CLUSTERS}
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        for plane in made.values():
            stack.callback(plane.stop)
        list(pool.map(start, made.values()))
        try:
            yield made
        finally:
            for plane in made.values():
                plane.__exit__(None, None, None)


def shop(*deployments: str) -> dict[str, Any]:
    """The namespace with these deployments, as kubectl takes them all at once."""
    items: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}]
    for name in deployments:
        labels = {"app": name}
        pod = {"containers": [{"name": "app", "image": "example.com/app:1"}]}
        template = {"metadata": {"labels": labels}, "spec": pod}
        items.append(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"selector": {"matchLabels": labels}, "template": template},
            }
        )
    return {"apiVersion": "v1", "kind": "List", "items": items}


def agent(system: System, plane: ControlPlane, cluster: str) -> ServiceProcess:
    """A further agent, as a person attaches one; it has the label, which the first has not."""
    environment = system.environment | {
        "AGENT_CLUSTER_ID": cluster,
        "AGENT_LABELS": LABEL,
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


def patches(plane: ControlPlane, name: str) -> list[tuple[datetime, datetime]]:
    """When the API server took and answered each change of that deployment, by its own audit log."""
    return [
        (_time(entry["requestReceivedTimestamp"]), _time(entry["stageTimestamp"]))
        for entry in audited.changes(plane)
        if entry["verb"] == "patch"
        and (entry["objectRef"].get("resource"), entry["objectRef"].get("name")) == ("deployments", name)
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Restart:
    """One operation: it restarts a deployment of the namespace `shop`."""

    def __init__(self, system: System, name: str, **wanted: Any) -> None:
        self._system = system
        asked = {"action": "restart", "resource": "deployments", "namespace": "shop", "name": name}
        answer = system.http.post(f"{system.api_url}/api/v1/operations", json=asked | wanted)
        assert answer.status_code == 202, answer.text
        self._path = f"/operations/{answer.json()['id']}"

    def show(self) -> dict[str, Any]:
        """As it is now."""
        found: dict[str, Any] = self._system.get(self._path)
        return found

    async def stopped(self) -> dict[str, Any]:
        """As it is once it does not run any more."""

        def look() -> dict[str, Any] | None:
            found = self.show()
            return None if found["state"] == "running" else found

        found: dict[str, Any] = await asyncio.to_thread(self._system.until, look, 240)
        return found

    def resume(self) -> None:
        """Let it go on."""
        answer = self._system.http.post(f"{self._system.api_url}/api/v1{self._path}/resume", json={})
        assert answer.status_code == 200, answer.text


async def test_the_next_cluster_follows_the_end_of_the_one_before(
    planes: dict[str, ControlPlane], tmp_path: Path
) -> None:
    """With max_unavailable 1 each API server notes its one patch after the command of the cluster before has
    ended, although the master is killed after every third step, when nobody has been told of it.

    Of the clusters that have a label one fails: the others are left alone, over the deaths of two masters,
    until somebody resumes it; then each has its one patch too, and the cluster without the label none.
    """
    failpoints = {VARIABLE: f"{Point.OPERATION_AFTER_STEP.value}:3:kill"}
    home = tmp_path / "home"
    with System(home, planes[FIRST].kubeconfig, FIRST, AGENT_READ_ONLY="false", **failpoints) as system:
        agents = [agent(system, planes[cluster], cluster) for cluster in OTHERS]
        try:
            await asyncio.gather(*(one.start() for one in agents))

            def able() -> bool:
                items = system.get("/clusters")["items"]
                return sum("act:restart" in item["capabilities"] for item in items) == len(CLUSTERS)

            await asyncio.to_thread(system.until, able)
            strategy = {"max_unavailable": 1, "max_failures": 0}
            of_labelled = Restart(system, "cart", label_selector=LABEL, strategy=strategy)
            _check_paused(await of_labelled.stopped(), planes)
            of_all = Restart(system, "web", clusters=list(CLUSTERS))
            ended = await of_all.stopped()
            _check_paused(of_labelled.show(), planes)
            resumed = datetime.now(UTC)
            of_labelled.resume()
            went_on = await of_labelled.stopped()
        finally:
            await asyncio.gather(*(one.stop() for one in agents))
    assert (ended["state"], ended["counts"]) == ("succeeded", {"succeeded": 5}), ended
    assert system.output().count("signal 9") + system.output().count("SIGKILL") >= 3, system.output()
    _check_order(ended["targets"], planes, "web")
    assert (went_on["state"], went_on["counts"]) == ("failed", {"succeeded": 3, "failed": 1}), went_on
    first, _, *others = went_on["targets"]
    _check_order([first], planes, "cart")
    _check_order(others, planes, "cart", resumed)
    assert _noted(planes, "cart") == ["c2", "c4", "c5"]


def _check_paused(shown: dict[str, Any], planes: dict[str, ControlPlane]) -> None:
    """After its first failure, in the second of four clusters."""
    counts = {"succeeded": 1, "failed": 1, "waiting": 2}
    assert (shown["state"], shown["counts"]) == ("paused", counts), shown
    words = 'deployments.apps "cart" not found'
    assert shown["reason"].startswith(f"1 of 4 did not succeed, last {WITHOUT_CART} (failed): {words}")
    assert shown["reason"].endswith("resume it to go on with the other 2")
    states = [(turn["target"]["id"], turn["state"]) for turn in shown["targets"]]
    assert states == [("c2", "succeeded"), (WITHOUT_CART, "failed"), ("c4", None), ("c5", None)]
    assert _noted(planes, "cart") == ["c2"]


def _noted(planes: dict[str, ControlPlane], name: str) -> list[str]:
    """The clusters whose API server has noted a change of that deployment."""
    return [cluster for cluster, plane in planes.items() if patches(plane, name)]


def _check_order(
    turns: list[dict[str, Any]],
    planes: dict[str, ControlPlane],
    name: str,
    before: datetime | None = None,
) -> None:
    """Each API server has noted one change: after `before`, or the end of the turn before it."""
    for turn in turns:
        ((begun, answered),) = patches(planes[turn["target"]["id"]], name)
        finished = _time(turn["finished_at"])
        assert begun <= answered <= finished
        if before is not None:
            assert before < begun
        before = finished
