"""The objects that commands are about, and which command comes next.

No controller runs, so nobody but commands changes these objects. Workloads are few, so that several commands
are under way on the same one; pods and nodes are new for each command.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.faults.system import CLUSTER

NAMESPACE = "commands"
WORKLOADS = 6
WORKLOAD_NAMES = tuple(f"workload-{number}" for number in range(WORKLOADS))
HOT = 0.3
"""Share of the workload commands that go to the first one."""
CANCELED = 0.05
"""Share of the commands that somebody wants ended as soon as they are accepted."""
HASTY = 0.05
"""Share of the commands that must begin within a second, which is not always so."""
_IMAGE = "registry.example/app"
_POD = {
    "automountServiceAccountToken": False,
    "containers": [{"name": "main", "image": f"{_IMAGE}:0"}],
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One command as it is to be asked for."""

    action: str
    resource: str
    namespace: str
    name: str
    params: dict[str, Any]
    start_within: str
    timeout: str
    cancel: bool = False

    def body(self) -> dict[str, Any]:
        """Of POST /commands."""
        about = {"resource": self.resource, "namespace": self.namespace or None, "name": self.name}
        return {
            "cluster_id": CLUSTER,
            "action": self.action,
            "object": about,
            "params": self.params,
            "start_within": self.start_within,
            "timeout": self.timeout,
        }


class World:
    """`await world.prepare()`, then `await world.next()` for each command."""

    def __init__(
        self, session: aiohttp.ClientSession, dice: random.Random, seconds: float, *, whims: bool = True
    ) -> None:
        """`seconds`: that a command has to begin, and as many from then on to end. `whims`: whether some are
        to be ended again, or in a hurry.
        """
        self._whims = whims
        self._session = session
        self._dice = dice
        self._seconds = f"{seconds:g}s"
        self._made = 0
        """Numbers that occur once: the value that a command sets is no other command's."""
        self._actions: dict[Callable[[], Any], int] = {
            self.scale: 5,
            self.restart: 3,
            self.update_image: 3,
            self.delete_pod: 3,
            self.cordon: 2,
        }

    async def prepare(self) -> None:
        """The namespace and the workloads. The API server may still be starting."""
        await self._create("/api/v1/namespaces", "Namespace", "v1", NAMESPACE)
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
        for name in WORKLOAD_NAMES:
            labels = {"app": name}
            template = {"metadata": {"labels": labels}, "spec": _POD}
            spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
            await self._create(path, "Deployment", "apps/v1", name, spec=spec)

    async def next(self) -> Wanted:
        """Whatever the dice say."""
        made: Wanted = await self._dice.choices(list(self._actions), list(self._actions.values()))[0]()
        return made

    async def scale(self) -> Wanted:
        return self.wanted(
            "scale", "deployments", NAMESPACE, self._workload(), replicas=1000 + self._number()
        )

    async def restart(self) -> Wanted:
        return self.wanted("restart", "deployments", NAMESPACE, self._workload())

    async def update_image(self) -> Wanted:
        images = {"main": f"{_IMAGE}:{self._number()}"}
        return self.wanted("update_image", "deployments", NAMESPACE, self._workload(), images=images)

    async def delete_pod(self) -> Wanted:
        name = f"pod-{self._number()}"
        await self._create(f"/api/v1/namespaces/{NAMESPACE}/pods", "Pod", "v1", name, spec=_POD)
        return self.wanted("delete_pod", "pods", NAMESPACE, name)

    async def cordon(self) -> Wanted:
        name = f"commands-{self._number()}"
        await self._create("/api/v1/nodes", "Node", "v1", name)
        return self.wanted("cordon", "nodes", "", name)

    def wanted(self, action: str, resource: str, namespace: str, name: str, /, **params: Any) -> Wanted:
        """With times and whims."""
        hasty = self._whims and self._dice.random() < HASTY
        cancel = self._whims and self._dice.random() < CANCELED
        within = "1s" if hasty else self._seconds
        return Wanted(action, resource, namespace, name, params, within, self._seconds, cancel)

    async def workload(self, name: str) -> dict[str, Any]:
        """The Deployment as it is now."""
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"
        async with self._session.get(path) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json()
            return found

    def _workload(self) -> str:
        hot = self._dice.random() < HOT
        return WORKLOAD_NAMES[0] if hot else self._dice.choice(WORKLOAD_NAMES)

    def _number(self) -> int:
        self._made += 1
        return self._made

    async def _create(self, path: str, kind: str, version: str, name: str, **more: Any) -> None:
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}
        headers = {"Content-Type": "application/json"}
        async with self._session.post(path, data=json.dumps(body), headers=headers) as answer:
            if answer.status not in (201, 409):
                raise AssertionError(f"POST {path}: {answer.status} {(await answer.text())[:300]}")
