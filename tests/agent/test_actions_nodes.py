"""`cordon`, `uncordon` and `drain` on a real API server, on nodes that no other test uses."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.commands import ErrorCode
from services.agent.capability import Done, Doubtful, Incomplete, Untouched
from services.agent.kubernetes.service.actions import draining
from services.agent.kubernetes.service.actions.base import COMMAND
from services.cli.cluster.nodes import node_manifest
from tests.agent.acting import Cluster, Doing, acting, command, refusal, workload
from tests.agent.proxy import Fault, FaultProxy
from tests.agent.test_actions_delete import budget, budget_counts
from tests.waiting import until

TAINT = {"key": "example.com/of-a-test", "effect": "NoSchedule"}


@pytest.fixture
async def node(cluster: Cluster) -> AsyncIterator[str]:
    """A Ready node that takes the pods of one test only."""
    name = f"node-{secrets.token_hex(3)}"
    manifest = node_manifest(name)
    manifest.setdefault("spec", {})["taints"] = [TAINT]
    await cluster.kubectl("create", "--validate=ignore", "-f", "-", stdin=json.dumps(manifest))
    await cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=50s")

    async def left_alone() -> bool:
        """A new node is tainted for a moment longer, and then written once more."""
        return (await cluster.get("node", name))["spec"].get("taints") == [TAINT]

    await until(left_alone)
    yield name
    await cluster.kubectl("delete", "node", name, "--wait=false")


def on(node: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """The same, with its pods on that node."""
    spec = manifest["spec"]["template"]["spec"] if "template" in manifest["spec"] else manifest["spec"]
    spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    spec["tolerations"] = [{**TAINT, "operator": "Exists"}]
    return manifest


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "registry.example/app:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], **spec},
    }


async def running(cluster: Cluster, count: int) -> None:
    """Until so many pods of the namespace run."""

    async def enough() -> bool:
        pods = await cluster.every("pods")
        return sum(item.get("status", {}).get("phase") == "Running" for item in pods) == count

    await until(enough, 60)


async def is_cordoned(cluster: Cluster, node: str) -> bool:
    return bool((await cluster.get("node", node))["spec"].get("unschedulable"))


async def test_cordon_and_uncordon(cluster: Cluster, node: str, tmp_path: Path) -> None:
    """A node is marked and freed, each proved by its mark; what is so already is not written."""
    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        for action, wanted in (("cordon", True), ("uncordon", False)):
            tried = (await doing(action, "nodes", "", node, dry_run=True)).data
            assert tried["changed"]
            assert tried["object"]["spec"].get("unschedulable", False) is wanted
            assert tried["object"]["metadata"]["uid"] == tried["uid"]
            assert await is_cordoned(cluster, node) is not wanted
            order = command(action, "nodes", "", node)
            seen = await doing.actions.look(order)
            assert isinstance(await doing.judge(order, seen), Untouched)
            proxy.add(Fault(node, method="PATCH", lost=True))
            with pytest.raises(Doubtful):
                await doing.perform(order, seen)
            proxy.faults.clear()
            assert await is_cordoned(cluster, node) is wanted
            assert (await cluster.get("node", node))["metadata"]["annotations"][COMMAND] == order.id
            assert isinstance(await doing.judge(order, seen), Done)
            assert not (await doing(action, "nodes", "", node)).data["changed"]
        assert (await refusal(doing, "cordon", "nodes", "", "none"))[:2] == (ErrorCode.NOT_FOUND, 404)
        code, _, text = await refusal(doing, "cordon", "nodes", "default", node)
        assert (code, text) == (ErrorCode.INVALID, "nodes have no namespace")


async def test_drain(doing: Doing, cluster: Cluster, node: str) -> None:
    """What forbids it is told before anything is done; what is asked for goes, and the rest is named."""
    await cluster.create(
        on(node, workload("Deployment", "web", replicas=2)),
        on(node, workload("DaemonSet", "agent")),
        on(node, pod("alone")),
        on(node, pod("cache", volumes=[{"name": "data", "emptyDir": {}}])),
    )
    await running(cluster, 5)
    code, _, text = await refusal(doing, "drain", "nodes", "", node)
    assert code == ErrorCode.INVALID
    for words in ("DaemonSet-managed Pods", "local storage", "declare no controller"):
        assert words in text
    assert not await is_cordoned(cluster, node)
    params = {"ignore_daemon_sets": True, "force": True, "delete_empty_dir_data": True}
    tried = await doing("drain", "nodes", "", node, dry_run=True, **params)
    assert len(tried.data["evicted"]) == 4
    assert not await is_cordoned(cluster, node)
    assert len(await cluster.every("pods")) == 5
    one = await doing("drain", "nodes", "", node, pod_selector="app=web", **params)
    assert {item["name"].split("-")[0] for item in one.data["evicted"]} == {"web"}
    outcome = await doing("drain", "nodes", "", node, **params)
    assert {item["name"] for item in outcome.data["evicted"]} == {"alone", "cache"}
    (ignored,) = outcome.data["ignored"]
    assert ignored["reason"] == "its DaemonSet would make it again at once"
    assert (outcome.data["cordoned"], outcome.data["remaining"]) == (True, [])
    assert {words.partition(": ")[0] for words in outcome.warnings} == {
        f"{cluster.namespace}/alone",
        f"{cluster.namespace}/cache",
    }
    left = [item for item in await cluster.every("pods") if item["spec"].get("nodeName") == node]
    assert [item["metadata"]["name"].split("-")[0] for item in left] == ["agent"]
    assert doing.told[-1][1:] == (2, 2)


async def test_a_budget_holds_a_drain(doing: Doing, cluster: Cluster, node: str) -> None:
    """It goes on trying, says in whose words it is held, and goes on when the budget lets it; canceled, it
    tells what it has done and that the node stays cordoned."""
    await cluster.create(on(node, workload("Deployment", "web", replicas=2)), budget(minAvailable=2))
    await running(cluster, 2)

    await until(lambda: budget_counts(cluster, 2), 40)
    order = command("drain", "nodes", "", node)
    tried = command("drain", "nodes", "", node, dry_run=True)
    with pytest.raises(Incomplete) as refused:
        await doing.do(tried)
    assert "needs 2 healthy pods" in refused.value.error.message
    seen = await doing.actions.look(order)
    drain = asyncio.create_task(doing.perform(order, seen))
    await until(lambda: sum("is held" in message for message, _, _ in doing.told) >= 2, 40)
    drain.cancel()
    with pytest.raises(Incomplete) as caught:
        await drain
    assert caught.value.error.code == ErrorCode.CANCELED
    assert "2 of 2 pods are still there" in caught.value.error.message
    assert "disruption budget at-least-two needs 2 healthy pods" in caught.value.error.message
    assert f"{node} stays cordoned" in caught.value.error.message
    assert (len(caught.value.data["failed"]), caught.value.data["evicted"]) == (2, [])
    assert await is_cordoned(cluster, node)
    again = asyncio.create_task(doing.perform(order, seen))
    await asyncio.sleep(0.5)
    await cluster.kubectl("delete", "pdb", "at-least-two")
    async with asyncio.timeout(40):
        outcome = await again
    assert (len(outcome.data["evicted"]), outcome.data["failed"]) == (2, [])


@pytest.fixture
async def without_deleting(cluster: Cluster, node: str, tmp_path: Path) -> AsyncIterator[Path]:
    """A kubeconfig whose role may cordon nodes and see pods, and end none."""
    kubeconfig = await cluster.kubeconfig_of("cordoner", tmp_path / "kubeconfig", [])
    named, group = {"metadata": {"name": f"cordoner-of-{node}"}}, "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    await cluster.create(
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "rules": rules, **named},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", **named["metadata"]},
            "subjects": [{"kind": "ServiceAccount", "name": "cordoner", "namespace": cluster.namespace}],
            **named,
        },
    )
    yield kubeconfig
    await cluster.kubectl("delete", "clusterrole,clusterrolebinding", named["metadata"]["name"])


async def test_a_drain_past_budgets(
    doing: Doing, cluster: Cluster, node: str, without_deleting: Path
) -> None:
    """disable_eviction deletes pods whatever a budget says; a role without the right says so, per pod."""
    await cluster.create(on(node, workload("Deployment", "web", replicas=2)), budget(minAvailable=2))
    await running(cluster, 2)
    pods = {f"{cluster.namespace}/{item['metadata']['name']}" for item in await cluster.every("pods")}
    async with acting(without_deleting) as cordoner:
        with pytest.raises(Incomplete) as caught:
            await cordoner("drain", "nodes", "", node, disable_eviction=True)
    assert caught.value.error.code == ErrorCode.FORBIDDEN
    assert {item["pod"] for item in caught.value.data["failed"]} == pods
    for item in caught.value.data["failed"]:
        assert f'system:serviceaccount:{cluster.namespace}:cordoner" cannot delete' in item["reason"]
    assert caught.value.data["evicted"] == []
    outcome = await doing("drain", "nodes", "", node, disable_eviction=True)
    assert {f"{item['namespace']}/{item['name']}" for item in outcome.data["evicted"]} == pods


async def test_a_drain_that_is_throttled(
    cluster: Cluster, node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 after the node was cordoned, and before a pod may go: it goes on, and asks again."""
    monkeypatch.setattr(draining, "FAULTS", 1)
    await cluster.create(on(node, pod("alone")))
    await running(cluster, 1)

    def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, text="Too many requests, please try again later.\n")

    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        refused = proxy.add(Fault(node, method="PATCH", answer=busy, times=1))
        assert (await refusal(doing, "drain", "nodes", "", node, force=True))[0] == ErrorCode.THROTTLED
        assert not await is_cordoned(cluster, node)
        cordon = proxy.add(Fault(node, method="PATCH", denied=busy))
        evictions = proxy.add(Fault("alone/eviction", method="POST", answer=busy, times=2))
        outcome = await doing("drain", "nodes", "", node, force=True)
    assert (refused.done, cordon.done, evictions.done) == (1, 1, 2)
    assert (outcome.data["cordoned"], outcome.data["failed"]) == (True, [])
    assert [one["name"] for one in outcome.data["evicted"]] == ["alone"]
    assert await is_cordoned(cluster, node)
