"""deploy/kubernetes/overlays/acting on a real API server: its rights are enough for each action, and used."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.kubernetes import KINDS
from schemas.kubernetes.actions import ACTIONS, RESTARTABLE, SCALABLE
from services.agent.kubernetes.repository.access import ACTING, MANAGED, needed
from services.agent.kubernetes.service.actions.allowing import AllowList
from services.cli.cluster.control_plane import ControlPlane
from tests.agent.acting import Cluster, Doing, acting, refusal, workload
from tests.agent.proxy import FaultProxy
from tests.deploy import manifests, settings
from tests.deploy.manifests import ACTING as OVERLAY
from tests.deploy.manifests import NAME, Manifest, Right
from tests.deploy.test_kubernetes import kubeconfig
from tests.waiting import until

READS = ("dynamic", "get_logs")


@pytest.fixture(scope="module")
def rendered() -> list[Manifest]:
    return manifests.render(OVERLAY)


@pytest.fixture
def applied(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster with the overlay in it."""
    control_plane.kubectl("apply", "--kustomize", str(OVERLAY))
    yield control_plane
    control_plane.kubectl("delete", "--kustomize", str(OVERLAY), "--wait=false")
    control_plane.kubectl("wait", "--for=delete", "--timeout=120s", "namespace/atlhyper", timeout=130)


def role(rendered: list[Manifest], name: str) -> set[Right]:
    """What one of the roles grants."""
    (found,) = [
        item for item in rendered if item["kind"] == "ClusterRole" and item["metadata"]["name"] == name
    ]
    rights = manifests.rights(found)
    assert len(rights) == len(set(rights))
    return set(rights)


def of_actions(*names: str) -> set[Right]:
    """What the code says that these actions take, beside what collecting takes."""
    collecting = {a for kind in KINDS.values() if kind.resource != "secrets" for a in needed(kind, [])}
    wanted = {access for name in names for way in ACTING[name] for access in way} - collecting
    return {(access.verb, access.group, access.plural, access.name) for access in wanted}


def test_the_roles_are_what_the_actions_need(rendered: list[Manifest]) -> None:
    """Each right of both roles is one that an action takes, and the other way round; no Secrets."""
    assert ACTING.keys() == ACTIONS.keys()
    reading = of_actions(*READS)
    assert role(rendered, f"{NAME}-reading") == reading
    assert role(rendered, f"{NAME}-acting") == of_actions(*ACTIONS) - reading
    assert not any("secrets" in plural for _, _, plural, _ in of_actions(*ACTIONS))
    environment = manifests.environment(rendered)
    assert environment["AGENT_READ_ONLY"] == "false"
    settings.check(environment, ["agent", "kubernetes"])
    for item in rendered:
        if item["kind"] == "ClusterRoleBinding":
            assert item["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": "atlhyper"}]


@pytest.fixture
async def doing(applied: ControlPlane, tmp_path: Path) -> AsyncIterator[tuple[Doing, FaultProxy]]:
    """Acts with the shipped account's token, through a proxy that notes each request."""
    plain = Path(await asyncio.to_thread(kubeconfig, applied, "atlhyper", NAME, tmp_path / "of-the-account"))

    class Plane:
        kubeconfig = plain

    async with (
        FaultProxy(Plane(), tmp_path) as proxy,  # type: ignore[arg-type]
        acting(proxy.kubeconfig, dynamic=AllowList.parse(["read:*"])) as found,
    ):
        yield found, proxy


@pytest.mark.timeout(600)
async def test_each_right_is_used(
    doing: tuple[Doing, FaultProxy], cluster: Cluster, rendered: list[Manifest]
) -> None:
    """Every action is announced and tried; what the API server was asked for is what is granted."""
    act, proxy = doing

    async def all_announced() -> bool:  # the authorizer learns of roles in its own time
        return set(await act.actions.announce()) == {f"act:{name}" for name in ACTIONS}

    await until(all_announced, 60)
    objects = {item["kind"]: item for item in every_managed_kind()}
    await cluster.create(*objects.values())
    for resource in SCALABLE:
        await cluster.settled(resource, "one") if resource != "replicasets" else None
    await cluster.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=55s")
    proxy.requests.clear()
    where = cluster.namespace
    for resource in SCALABLE:
        await act("scale", resource, where, "one", replicas=2, dry_run=True)
    for resource in RESTARTABLE:
        await act("restart", resource, where, "one", dry_run=True)
        images = {"app": "registry.example/app:2"}
        await act("update_image", resource, where, "one", images=images)
        await cluster.settled(resource, "one")
        await act("rollback", resource, where, "one", dry_run=True)
    node = (await cluster.get("pods", "one"))["spec"]["nodeName"]
    await act("cordon", "nodes", "", node, dry_run=True)
    await act("uncordon", "nodes", "", node, dry_run=True)
    await act("drain", "nodes", "", node, dry_run=True, pod_selector="app=none")
    await act("delete_pod", "pods", where, "one", dry_run=True)
    await act("delete_pod", "pods", where, "one", dry_run=True, evict=True)
    await act("get_logs", "pods", where, "one")
    created: set[Right] = set()
    for kind in MANAGED:
        await act("delete", kind.resource, where, "one", dry_run=True)
        manifest = {**objects[kind.kind], "metadata": {"name": "two", "namespace": where}}
        await act("apply", manifest=manifest, dry_run=True)
        created.add(("create", kind.group, kind.plural, ""))  # what is not there is made by the same request
    for kind in KINDS.values():
        if kind.resource != "secrets":
            await read_one(act, cluster, kind)
    used = {right for request in proxy.requests if (right := right_of(request))} | created
    granted = role(rendered, f"{NAME}-reading") | role(rendered, f"{NAME}-acting")
    assert used - of_collecting() == granted


async def read_one(act: Doing, cluster: Cluster, kind: Any) -> None:
    """By `dynamic`, any object of that kind."""
    place = {"namespace": cluster.namespace} if kind.namespaced else {}
    asked = {"group": kind.group, "version": kind.version, "resource": kind.plural, **place}
    found = (await act("dynamic", verb="list", limit=1, **asked)).data["items"]
    name = found[0]["metadata"]["name"] if found else "none"
    if found:
        await act("dynamic", verb="get", name=name, **asked)
    else:
        assert (await refusal(act, "dynamic", verb="get", name=name, **asked))[1] == 404


def of_collecting() -> set[Right]:
    """What the account may anyway."""
    kinds = [kind for kind in KINDS.values() if kind.resource != "secrets"]
    return {("list", kind.group, kind.plural, "") for kind in kinds}


def right_of(request: web.Request) -> Right | None:
    """The right that the API server asks of a request; None for what everybody may."""
    steps = request.path.strip("/").split("/")
    group, rest = ("", steps[2:]) if steps[0] == "api" else (steps[1] if len(steps) > 1 else "", steps[3:])
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    if not rest or group == "authorization.k8s.io":
        return None
    plural = "/".join((rest[0], *rest[2:]))
    verb = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]
    return ("list" if verb == "get" and len(rest) == 1 else verb, group, plural, "")


def alone(kind: str) -> dict[str, Any]:
    """A workload whose selector is no other's."""
    labels = {"app": kind.lower()}
    manifest = workload(kind, "one", selector={"matchLabels": labels})
    manifest["spec"]["template"]["metadata"]["labels"] = labels
    return manifest


def every_managed_kind() -> list[dict[str, Any]]:
    """One object of each kind that people may make, called `one`."""

    def made(api_version: str, kind: str, **rest: Any) -> dict[str, Any]:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "one"}, **rest}

    container = {"name": "app", "image": "registry.example/app:1"}
    pod = {"containers": [container], "restartPolicy": "Never"}
    job = {"template": {"spec": pod}}
    port = {"port": 80}
    backend = {"service": {"name": "one", "port": {"number": 80}}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "one"}
    return [
        made("v1", "ConfigMap"),
        made("v1", "PersistentVolumeClaim", spec=claim),
        made("v1", "Pod", spec={"containers": [container]}),
        made("v1", "Service", spec={"ports": [port]}),
        *(alone(kind) for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")),
        made("batch/v1", "Job", spec=job),
        made("batch/v1", "CronJob", spec={"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}),
        made("networking.k8s.io/v1", "Ingress", spec={"defaultBackend": backend}),
        made("autoscaling/v2", "HorizontalPodAutoscaler", spec={"maxReplicas": 2, "scaleTargetRef": target}),
    ]
