"""`scale` and `restart` on a real API server: what they do, refuse, and can prove afterwards."""

from pathlib import Path

import pytest
from aiohttp import web

from schemas.commands import ErrorCode
from services.agent.capability import Done, Doubtful, Refused, Stale, Unprovable, Untouched
from services.agent.kubernetes.service.actions.base import COMMAND
from services.agent.kubernetes.service.actions.restarting import RESTARTED_AT
from tests.agent.acting import Cluster, Doing, acting, command, deployment, refusal, workload
from tests.agent.proxy import Fault, FaultProxy


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
async def test_scale(doing: Doing, cluster: Cluster, kind: str) -> None:
    """The number is set by the scale subresource, in our name; the same number again writes nothing."""
    await cluster.create(workload(kind, replicas=1))
    resource = f"{kind.lower()}s"
    outcome = await doing("scale", resource, cluster.namespace, "web", replicas=3)
    assert outcome.data | {"uid": ""} == {
        "uid": "",
        "replicas": 3,
        "previous_replicas": 1,
        "changed": True,
    }
    found = await cluster.get(resource, "web")
    assert found["spec"]["replicas"] == 3
    (entry,) = [e for e in found["metadata"]["managedFields"] if e["manager"] == "atlhyper"]
    assert entry["subresource"] == "scale"
    again = await doing("scale", resource, cluster.namespace, "web", replicas=3)
    assert not again.data["changed"]


async def test_scale_is_refused(doing: Doing, cluster: Cluster) -> None:
    """Nothing is scaled that is not there, is another one, has another number, or can't be scaled."""
    await cluster.create(deployment())
    where = ("deployments", cluster.namespace, "web")
    assert await refusal(doing, "scale", "deployments", cluster.namespace, "none", replicas=1) == (
        ErrorCode.NOT_FOUND,
        404,
        'deployments.apps "none" not found',
    )
    code, _, text = await refusal(doing, "scale", *where, replicas=1, current_replicas=5)
    assert (code, text) == (ErrorCode.CONFLICT, "Expected replicas to be 5, was 2")
    code, _, text = await refusal(doing, "scale", *where, replicas=-1)
    assert (code, "params.replicas" in text) == (ErrorCode.INVALID, True)
    code, _, text = await refusal(doing, "scale", *where, replicas=1, replica=1)
    assert (code, "params.replica" in text) == (ErrorCode.INVALID, True)
    code, _, text = await refusal(doing, "scale", "daemonsets", cluster.namespace, "web", replicas=1)
    assert (code, "daemonsets" in text) == (ErrorCode.INVALID, True)
    code, _, text = await refusal(doing, "scale", *where, uid="another", replicas=1)
    assert (code, "is gone" in text) == (ErrorCode.NOT_FOUND, True)
    for name in ("../web", "web/scale", "web%2fscale", "..", ""):
        code, _, _ = await refusal(doing, "scale", "deployments", cluster.namespace, name, replicas=1)
        assert code == ErrorCode.INVALID
    assert (await cluster.get("deployments", "web"))["spec"]["replicas"] == 2


async def test_a_dry_run_changes_nothing(doing: Doing, cluster: Cluster) -> None:
    """The API server says what it would say, in its own object; nothing is written."""
    await cluster.create(deployment())
    await cluster.settled("deployments", "web")
    before = (await cluster.get("deployments", "web"))["metadata"]["resourceVersion"]
    where = ("deployments", cluster.namespace, "web")
    outcome = await doing("scale", *where, dry_run=True, replicas=5)
    assert outcome.data["changed"]
    scale = outcome.data["object"]
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["replicas"]) == ("Scale", 5, 2)
    uid = scale["metadata"]["uid"]
    outcome = await doing("restart", *where, dry_run=True)
    restarted = outcome.data["object"]
    annotations = restarted["spec"]["template"]["metadata"]["annotations"]
    assert annotations[RESTARTED_AT] == outcome.data["restarted_at"]
    assert (restarted["metadata"]["uid"], restarted["status"]["readyReplicas"]) == (uid, 2)
    images = {"app": "registry.example/app:2"}
    outcome = await doing("update_image", *where, dry_run=True, images=images)
    [container] = outcome.data["object"]["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example/app:2", "IfNotPresent")
    assert "object" not in (await doing("scale", *where, dry_run=True, replicas=2)).data
    assert (await cluster.get("deployments", "web"))["metadata"]["resourceVersion"] == before
    order = command("restart", *where, dry_run=True)
    assert isinstance(await doing.judge(order, await doing.actions.look(order)), Untouched)


async def test_without_the_right(cluster: Cluster, tmp_path: Path) -> None:
    """403 names in the API server's words who may not do what; the rest can be done."""
    await cluster.create(deployment())
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]},
    ]
    kubeconfig = await cluster.kubeconfig_of("scaler", tmp_path / "kubeconfig", rules)
    where = ("deployments", cluster.namespace, "web")
    async with acting(kubeconfig) as doing:
        assert (await doing("scale", *where, replicas=3)).data["changed"]
        code, status, text = await refusal(doing, "restart", *where)
        assert (code, status) == (ErrorCode.FORBIDDEN, 403)
        assert f'system:serviceaccount:{cluster.namespace}:scaler" cannot patch resource' in text


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
async def test_restart(doing: Doing, cluster: Cluster, kind: str) -> None:
    """The template gets kubectl's annotation and ours, and pods of that template come."""
    await cluster.create(workload(kind))
    resource = f"{kind.lower()}s"
    await cluster.settled(resource, "web")
    before = {pod["metadata"]["uid"] for pod in await cluster.every("pods")}
    order = command("restart", resource, cluster.namespace, "web")
    outcome = await doing.do(order)
    template = (await cluster.get(resource, "web"))["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        RESTARTED_AT: outcome.data["restarted_at"],
        COMMAND: order.id,
    }
    await cluster.settled(resource, "web")
    running = [pod for pod in await cluster.every("pods") if "deletionTimestamp" not in pod["metadata"]]
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in running)


async def test_restart_of_what_does_not_roll(doing: Doing, cluster: Cluster) -> None:
    """A paused Deployment is refused in kubectl's words; OnDelete is done with a warning."""
    await cluster.create(deployment(paused=True))
    code, _, text = await refusal(doing, "restart", "deployments", cluster.namespace, "web")
    assert (code, "can't restart paused deployment" in text) == (ErrorCode.INVALID, True)
    await cluster.create(workload("StatefulSet", "db", updateStrategy={"type": "OnDelete"}))
    outcome = await doing("restart", "statefulsets", cluster.namespace, "db")
    assert "OnDelete" in " ".join(outcome.warnings)


async def test_an_old_one_changes_nothing_after_a_newer_one(doing: Doing, cluster: Cluster) -> None:
    """What was seen before a newer scale or restart is no longer so: the old one is not done."""
    await cluster.create(deployment())
    await cluster.settled("deployments", "web")
    where = ("deployments", cluster.namespace, "web")
    for old, new in (
        (command("scale", *where, replicas=3), command("scale", *where, replicas=5)),
        (command("restart", *where), command("restart", *where)),
    ):
        seen = await doing.actions.look(old)
        await doing.do(new)
        with pytest.raises(Stale) as caught:
            await doing.perform(old, seen)
        assert caught.value.error
        assert (caught.value.error.status, caught.value.error.reason) == (409, "Conflict")
        assert "the object has been modified" in caught.value.error.message
        assert isinstance(await doing.judge(old, seen), Unprovable)
    found = await cluster.get("deployments", "web")
    assert found["spec"]["replicas"] == 5
    assert found["spec"]["template"]["metadata"]["annotations"][COMMAND] == new.id


async def test_a_lost_answer_is_judged(cluster: Cluster, tmp_path: Path) -> None:
    """The effect is there and the answer is lost: it is proved, also after the status has moved on."""
    await cluster.create(deployment())
    await cluster.settled("deployments", "web")
    where = ("deployments", cluster.namespace, "web")
    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        for order, path in (
            (command("scale", *where, replicas=3), "web/scale"),
            (command("restart", *where), "deployments/web"),
        ):
            seen = await doing.actions.look(order)
            assert isinstance(await doing.judge(order, seen), Untouched)
            fault = proxy.add(Fault(path, method="PATCH", lost=True))
            with pytest.raises(Doubtful) as caught:
                await doing.perform(order, seen)
            assert caught.value.error.code == ErrorCode.TIMEOUT
            assert fault.done == 1  # it was sent once
            proxy.faults.clear()
            verdict = await doing.judge(order, seen)
            assert isinstance(verdict, Done)
            await cluster.settled("deployments", "web")
            assert isinstance(await doing.judge(order, seen), Done)
            with pytest.raises(Stale):
                await doing.perform(order, seen)


async def test_what_others_do_is_not_taken_for_ours(doing: Doing, cluster: Cluster) -> None:
    """The wished number set by somebody else proves nothing; what changes no specification is no change."""
    await cluster.create(deployment())
    await cluster.settled("deployments", "web")
    where = ("deployments", cluster.namespace, "web")
    order, restart = command("scale", *where, replicas=3), command("restart", *where)
    seen, seen_restart = await doing.actions.look(order), await doing.actions.look(restart)
    await cluster.kubectl("label", "deployment/web", "note=1")
    assert isinstance(await doing.judge(order, seen), Untouched)
    assert isinstance(await doing.judge(restart, seen_restart), Untouched)
    await cluster.kubectl("scale", "deployment/web", "--replicas=3")
    for asked, before in ((order, seen), (restart, seen_restart)):
        verdict = await doing.judge(asked, before)
        assert isinstance(verdict, Unprovable)
        assert "changed since" in verdict.why
    await cluster.kubectl("delete", "deployment/web")
    assert isinstance(await doing.judge(order, seen), Unprovable)


async def test_too_many_requests(cluster: Cluster, tmp_path: Path) -> None:
    """429 ends it in the API server's words, and is not asked again behind anyone's back."""
    await cluster.create(deployment())
    words = {"kind": "Status", "message": "too many requests, please try again later", "code": 429}

    def busy(_: web.Request) -> web.Response:
        return web.json_response(words, status=429, headers={"Retry-After": "1"})

    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as doing:
        fault = proxy.add(Fault("web/scale", method="PATCH", answer=busy))
        refused = await refusal(doing, "scale", "deployments", cluster.namespace, "web", replicas=5)
        assert refused == (ErrorCode.THROTTLED, 429, words["message"])
        assert fault.done == 1


async def test_nobody_there(cluster: Cluster, tmp_path: Path) -> None:
    """Without a connection nothing was done, and it is said so."""
    await cluster.create(deployment())
    where = ("deployments", cluster.namespace, "web")
    async with acting(cluster.plane.kubeconfig) as doing:
        order = command("scale", *where, replicas=3)
        seen = await doing.actions.look(order)
    async with FaultProxy(cluster.plane, tmp_path) as proxy:
        kubeconfig = proxy.kubeconfig
    async with acting(kubeconfig) as doing:
        with pytest.raises(Refused) as caught:
            await doing.perform(order, seen)
    assert caught.value.error.code == ErrorCode.UNREACHABLE
