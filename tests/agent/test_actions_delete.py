"""`delete_pod` and `delete` on a real API server: the object that was meant, and no other of its name."""

import json
from pathlib import Path

import pytest
from aiohttp import web

from schemas.commands import ErrorCode
from services.agent.capability import Done, Doubtful, Refused, Untouched
from tests.agent.acting import Cluster, Doing, acting, command, deployment, refusal, workload
from tests.agent.proxy import Fault, FaultProxy
from tests.waiting import until

HELD = ["example.com/held"]


def config_map(name: str = "notes", **metadata: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}


def budget(**spec: object) -> dict[str, object]:
    selector = {"matchLabels": {"app": "web"}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "at-least-two"},
        "spec": {"selector": selector, **spec},
    }


async def budget_counts(cluster: Cluster, pods: int) -> bool:
    """Whether the budget knows of so many healthy pods."""
    status = (await cluster.get("pdb", "at-least-two")).get("status", {})
    return bool(status.get("currentHealthy") == pods)


async def test_delete_pod(doing: Doing, cluster: Cluster) -> None:
    """The pod goes, and its StatefulSet makes another of its name, which is let alone."""
    await cluster.create(workload("StatefulSet", replicas=1))
    await cluster.settled("statefulsets", "web")
    pod = await cluster.get("pods", "web-0")
    order = command("delete_pod", "pods", cluster.namespace, "web-0")
    seen = await doing.actions.look(order)
    outcome = await doing.perform(order, seen)
    assert outcome.data["uid"] == pod["metadata"]["uid"]

    async def made_anew() -> bool:
        found = await cluster.every("pods")
        return [item["metadata"]["uid"] for item in found] not in ([], [pod["metadata"]["uid"]])

    await until(made_anew)
    await cluster.settled("statefulsets", "web")
    again = (await cluster.get("pods", "web-0"))["metadata"]["uid"]
    outcome = await doing.perform(order, seen)
    assert outcome.data == {"uid": pod["metadata"]["uid"], "gone": True, "finalizers": []}
    assert outcome.warnings
    assert isinstance(await doing.judge(order, seen), Done)
    assert (await cluster.get("pods", "web-0"))["metadata"]["uid"] == again


async def test_evict_within_the_budget(doing: Doing, cluster: Cluster) -> None:
    """429 tells which budget allows it not, in the API server's words; with room it is done."""
    await cluster.create(deployment(replicas=2), budget(minAvailable=2))
    await cluster.settled("deployments", "web")

    await until(lambda: budget_counts(cluster, 2), 40)
    pod = (await cluster.every("pods"))[0]["metadata"]["name"]
    where = ("pods", cluster.namespace, pod)
    for dry_run in (True, False):
        code, status, text = await refusal(doing, "delete_pod", *where, evict=True, dry_run=dry_run)
        assert (code, status) == (ErrorCode.THROTTLED, 429)
        assert "disruption budget at-least-two needs 2 healthy pods and has 2 currently" in text
    await cluster.kubectl("delete", "pdb", "at-least-two")
    await doing("delete_pod", *where, evict=True, dry_run=True)
    assert (await cluster.get("pods", pod))["metadata"].get("deletionTimestamp") is None
    await doing("delete_pod", *where, evict=True)

    async def gone() -> bool:
        return pod not in {item["metadata"]["name"] for item in await cluster.every("pods")}

    await until(gone)


async def test_delete(doing: Doing, cluster: Cluster) -> None:
    """Any resource by its name or its plural.version.group, with its parts or without them."""
    await cluster.create(config_map(), deployment(), config_map("held", finalizers=HELD))
    where = ("configmaps", cluster.namespace, "notes")
    assert (await doing("delete", *where, dry_run=True)).data["gone"]
    assert await cluster.get("configmaps", "notes")
    assert (await doing("delete", *where)).data["gone"]
    assert (await refusal(doing, "delete", *where))[:2] == (ErrorCode.NOT_FOUND, 404)
    held = await doing("delete", "configmaps", cluster.namespace, "held")
    assert (held.data["gone"], held.data["finalizers"]) == (False, HELD)
    await cluster.kubectl(
        "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}'
    )
    await cluster.settled("deployments", "web")
    await doing("delete", "deployments.v1.apps", cluster.namespace, "web", propagation="Orphan")

    async def orphaned() -> bool:
        return not await cluster.every("deployments")

    await until(orphaned)
    (left,) = await cluster.every("replicasets")
    assert "ownerReferences" not in left["metadata"]
    await cluster.create(
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "one"}, "spec": {}}
    )
    await doing("delete", "leases", cluster.namespace, "one")
    code, _, text = await refusal(doing, "delete", "widgets", cluster.namespace, "one")
    assert (code, text) == (ErrorCode.NOT_FOUND, "the cluster has no resource called widgets")


async def test_what_is_not_meant_stays(doing: Doing, cluster: Cluster) -> None:
    """An object with another uid is not deleted, also when it came between looking and deleting."""
    await cluster.create(config_map())
    order = command("delete", "configmaps", cluster.namespace, "notes")
    seen = await doing.actions.look(order)
    assert isinstance(await doing.judge(order, seen), Untouched)
    await cluster.kubectl("delete", "configmap", "notes")
    await cluster.create(config_map())
    outcome = await doing.perform(order, seen)
    assert (outcome.data["gone"], outcome.warnings) == (True, ("it was gone before it was deleted",))
    assert await cluster.get("configmaps", "notes")
    uid = json.loads(seen)["uid"]
    code, _, text = await refusal(doing, "delete", "configmaps", cluster.namespace, "notes", uid=uid)
    assert (code, "is gone" in text) == (ErrorCode.NOT_FOUND, True)


async def test_a_lost_answer_is_judged(cluster: Cluster, tmp_path: Path) -> None:
    """DELETE is sent once, though its method would let a client repeat it; what is gone proves it."""
    await cluster.create(config_map(), config_map("held", finalizers=HELD))
    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        for name in ("notes", "held"):
            order = command("delete", "configmaps", cluster.namespace, name)
            seen = await doing.actions.look(order)  # leaves an idle connection, on which a client may repeat
            fault = proxy.add(Fault(name, method="DELETE", lost=True))
            with pytest.raises(Doubtful):
                await doing.perform(order, seen)
            assert fault.done == 1
            verdict = await doing.judge(order, seen)
            assert isinstance(verdict, Done)
            assert verdict.outcome.data["gone"] == (name == "notes")
    await cluster.kubectl(
        "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}'
    )


@pytest.mark.parametrize("status", [500, 503])
async def test_a_fault_inside_the_server(cluster: Cluster, tmp_path: Path, status: int) -> None:
    """In its own words: what is there tells whether it was done. From something on the way it is open."""
    await cluster.create(config_map())
    order = command("delete", "configmaps", cluster.namespace, "notes")
    words = {"kind": "Status", "message": "etcdserver: leader changed", "code": status}

    def own(_: web.Request) -> web.Response:
        return web.json_response(words, status=status)

    def on_the_way(_: web.Request) -> web.Response:
        return web.Response(text="<html>bad gateway</html>", status=status)

    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        seen = await doing.actions.look(order)
        proxy.add(Fault("notes", method="DELETE", answer=own))
        with pytest.raises(Refused) as refused:
            await doing.perform(order, seen)
        error = refused.value.error
        assert (error.code, error.status, error.message) == (
            ErrorCode.SERVER,
            status,
            "etcdserver: leader changed",
        )
        proxy.faults.clear()
        proxy.add(Fault("notes", method="DELETE", answer=on_the_way))
        with pytest.raises(Doubtful):
            await doing.perform(order, seen)
        proxy.faults.clear()
        proxy.add(Fault("notes", method="GET", answer=own))
        with pytest.raises(Refused):
            await doing.judge(order, seen)
