"""Actions on a real API server, done as an agent does them; `tests/conftest.py` loads this module."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.commands import Command, CommandObject, TargetReference
from schemas.ids import AgentKind
from services.agent.capability import Outcome, Refused, Stale, Verdict
from services.agent.kubernetes.repository.access import ACTING
from services.agent.kubernetes.repository.objects import KubernetesObjects
from services.agent.kubernetes.sdk import client
from services.agent.kubernetes.service.actions.actions import Allowance, KubernetesActions
from services.cli.cluster.control_plane import ControlPlane

Json = dict[str, Any]


def command(
    action: str,
    resource: str = "",
    namespace: str = "",
    name: str = "",
    /,
    *,
    uid: str = "",
    dry_run: bool = False,
    **params: Any,
) -> Command:
    """A command as the bus brings it; `continue_` is the parameter `continue`."""
    now = datetime.now(UTC)
    return Command(
        id=str(uuid.uuid4()),
        target=TargetReference(kind=AgentKind.KUBERNETES, id="test"),
        action=action,
        object=CommandObject(resource=resource, namespace=namespace, name=name, uid=uid),
        params={key.rstrip("_"): value for key, value in params.items()},
        dry_run=dry_run,
        created_at=now,
        start_by=now + timedelta(minutes=5),
        finish_by=now + timedelta(minutes=10),
    )


@dataclass
class Doing:
    """Does commands in the order in which an agent does it, without its journal."""

    actions: KubernetesActions
    told: list[tuple[str, int, int]] = field(default_factory=list)
    """The progress of all of them."""

    async def do(self, order: Command) -> Outcome:
        """From the check to the outcome. Raises what the action raises."""
        await self.actions.check(order)
        for _ in range(20):
            seen = await self.actions.look(order)
            try:
                return await self.actions.perform(order, seen, self._progress)
            except Stale:
                await asyncio.sleep(0.05)
        raise AssertionError("it was never as it had been seen")

    async def __call__(self, action: str, /, *words: str, **params: Any) -> Outcome:
        return await self.do(command(action, *words, **params))

    async def perform(self, order: Command, seen: bytes) -> Outcome:
        """Only that, on what was seen."""
        return await self.actions.perform(order, seen, self._progress)

    async def judge(self, order: Command, seen: bytes) -> Verdict:
        return await self.actions.judge(order, seen)

    async def _progress(self, message: str, done: int, total: int) -> None:
        self.told.append((message, done, total))


@asynccontextmanager
async def acting(kubeconfig: Path, *, timeout: float = 20.0, **allowance: Any) -> AsyncIterator[Doing]:
    """With the credential of a kubeconfig; acting is allowed unless something else is said."""
    connection = await client.connect(str(kubeconfig), timeout=timeout, user_agent="test")
    try:
        allowed = Allowance(**({"read_only": False} | allowance))
        yield Doing(KubernetesActions(KubernetesObjects(connection), allowed, ACTING))
    finally:
        await connection.close()


Acting = Callable[..., AbstractAsyncContextManager[Doing]]


@pytest.fixture
async def doing(control_plane: ControlPlane) -> AsyncIterator[Doing]:
    """Acts as the administrator."""
    async with acting(control_plane.kubeconfig) as found:
        yield found


async def refusal(doing: Doing, /, *words: str, **params: Any) -> tuple[str, int, str]:
    """Code, status and text with which it is refused."""
    with pytest.raises(Refused) as caught:
        await doing(*words, **params)
    error = caught.value.error
    return error.code, error.status, error.message


class Cluster:
    """One namespace of the control plane, for arranging and for looking."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace

    async def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self.plane.kubectl, "-n", self.namespace, *words, stdin=stdin)

    async def create(self, *manifests: Json) -> None:
        """Make objects of the namespace."""
        everything = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        await self.kubectl("create", "-f", "-", stdin=json.dumps(everything))

    async def get(self, resource: str, name: str) -> Json:
        found: Json = json.loads(
            await self.kubectl("get", resource, name, "-o", "json", "--show-managed-fields")
        )
        return found

    async def every(self, resource: str, selector: str = "") -> list[Json]:
        found = await self.kubectl("get", resource, "-o", "json", f"--selector={selector}")
        items: list[Json] = json.loads(found)["items"]
        return items

    async def settled(self, resource: str, name: str) -> None:
        """Until a rollout is over and nobody writes the object any more."""
        await self.kubectl("rollout", "status", f"{resource}/{name}", "--timeout=55s")

    async def kubeconfig_of(self, account: str, path: Path, rules: list[Json]) -> Path:
        """A kubeconfig of a new service account of the namespace with these rights in it."""
        group = "rbac.authorization.k8s.io"
        await self.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": account}, "rules": rules},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": account},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": account},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}],
            },
        )
        token = (await self.kubectl("create", "token", account, "--duration=1h")).strip()
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        config["users"] = [{"name": entry["name"], "user": {"token": token}} for entry in config["users"]]
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path


@pytest.fixture
def cluster(control_plane: ControlPlane, namespace: str) -> Cluster:
    """A namespace of its own."""
    return Cluster(control_plane, namespace)


def deployment(name: str = "web", replicas: int = 2, **spec: Any) -> Json:
    """One that runs on the simulated nodes."""
    return workload("Deployment", name, replicas=replicas, **spec)


def workload(kind: str, name: str = "web", **spec: Any) -> Json:
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet with a container `app`."""
    labels = {"app": name}
    container = {"name": "app", "image": "registry.example/app:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **({"serviceName": name} if kind == "StatefulSet" else {}),
            **spec,
        },
    }
