"""`update_image` and `rollback` on a real API server: templates forth and back, with proof."""

from pathlib import Path

import pytest

from schemas.commands import ErrorCode
from services.agent.capability import Done, Doubtful, Stale, Unprovable, Untouched
from services.agent.kubernetes.service.actions.base import COMMAND
from tests.agent.acting import Cluster, Doing, acting, command, deployment, refusal, workload
from tests.agent.proxy import Fault, FaultProxy

KINDS = ["Deployment", "StatefulSet", "DaemonSet"]


async def image(cluster: Cluster, resource: str, name: str = "web") -> str:
    found = await cluster.get(resource, name)
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize("kind", KINDS)
async def test_update_image_and_back(doing: Doing, cluster: Cluster, kind: str) -> None:
    """Images change by container; the previous revision and a named one come back as kubectl has it."""
    await cluster.create(workload(kind))
    resource = f"{kind.lower()}s"
    where = (resource, cluster.namespace, "web")
    for number in (2, 3):
        await cluster.settled(resource, "web")
        order = command("update_image", *where, images={"app": f"registry.example/app:{number}"})
        outcome = await doing.do(order)
        assert outcome.data["images"] == {
            "app": {"from": f"registry.example/app:{number - 1}", "to": f"registry.example/app:{number}"}
        }
        found = await cluster.get(resource, "web")
        assert found["metadata"]["annotations"][COMMAND] == order.id
    await cluster.settled(resource, "web")
    same = await doing("update_image", *where, images={"*": "registry.example/app:3"})
    assert not same.data["changed"]
    previous = await doing("rollback", *where, dry_run=True)
    assert (previous.data["revision"], await image(cluster, resource)) == (2, "registry.example/app:3")
    template = previous.data["object"]["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "registry.example/app:2"
    previous = await doing("rollback", *where)
    assert "object" not in previous.data
    assert (previous.data["revision"], previous.data["images"]) == (2, {"app": "registry.example/app:2"})
    assert await image(cluster, resource) == "registry.example/app:2"
    await cluster.settled(resource, "web")
    first = command("rollback", *where, to_revision=1)
    await doing.do(first)
    found = await cluster.get(resource, "web")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/app:1"
    assert found["metadata"]["annotations"][COMMAND] == first.id
    await cluster.settled(resource, "web")
    if kind == "Deployment":  # the same template is the same ReplicaSet
        assert len(await cluster.every("replicasets")) == 3
    history = await cluster.kubectl("rollout", "history", f"{resource}/web")
    newest = max(int(line.split()[0]) for line in history.splitlines() if line[:1].isdigit())
    again = await doing("rollback", *where, to_revision=newest)
    assert not again.data["changed"]
    assert f"already matches revision {newest}" in " ".join(again.warnings)


async def test_init_containers_and_names(doing: Doing, cluster: Cluster) -> None:
    """`*` is every container, init containers too; a name counts before it."""
    manifest = deployment()
    manifest["spec"]["template"]["spec"]["initContainers"] = [
        {"name": "first", "image": "registry.example/i:1"}
    ]
    await cluster.create(manifest)
    where = ("deployments", cluster.namespace, "web")
    images = {"*": "registry.example/both:1", "app": "registry.example/app:9"}
    await doing("update_image", *where, images=images)
    pod = (await cluster.get("deployments", "web"))["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["image"] == "registry.example/both:1"
    assert pod["containers"][0]["image"] == "registry.example/app:9"


async def test_what_is_refused(doing: Doing, cluster: Cluster) -> None:
    """Containers and revisions that are not there, a paused Deployment, an image that is none."""
    await cluster.create(deployment())
    where = ("deployments", cluster.namespace, "web")
    code, _, text = await refusal(doing, "update_image", *where, images={"sidecar": "x:1"})
    assert (code, "unable to find container named sidecar" in text) == (ErrorCode.INVALID, True)
    for images in ({}, {"app": ""}, {"app": "a b"}):
        assert (await refusal(doing, "update_image", *where, images=images))[0] == ErrorCode.INVALID
    await cluster.settled("deployments", "web")
    code, _, text = await refusal(doing, "rollback", *where)
    assert (code, "no rollout history found" in text) == (ErrorCode.CONFLICT, True)
    code, _, text = await refusal(doing, "rollback", *where, to_revision=9)
    assert (code, "unable to find specified revision 9" in text) == (ErrorCode.NOT_FOUND, True)
    await cluster.kubectl("rollout", "pause", "deployment/web")
    code, _, text = await refusal(doing, "rollback", *where)
    assert (code, "cannot rollback a paused deployment" in text) == (ErrorCode.INVALID, True)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_lost_answer_is_judged(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    """The mark proves the change; without it, a change of the specification is nobody's."""
    resource = f"{kind.lower()}s"
    await cluster.create(workload(kind))
    await cluster.settled(resource, "web")
    where = (resource, cluster.namespace, "web")
    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        update = command("update_image", *where, images={"app": "registry.example/app:2"})
        for order in (update, command("rollback", *where)):
            seen = await doing.actions.look(order)
            assert isinstance(await doing.judge(order, seen), Untouched)
            proxy.add(Fault("web", method="PATCH", lost=True))
            with pytest.raises(Doubtful):
                await doing.perform(order, seen)
            proxy.faults.clear()
            await cluster.settled(resource, "web")
            assert isinstance(await doing.judge(order, seen), Done)
            with pytest.raises(Stale):
                await doing.perform(order, seen)
            other = command(order.action, *where, **order.params)
            assert isinstance(await doing.judge(other, seen), Unprovable)
        assert await image(cluster, resource) == "registry.example/app:1"
