"""The objects that commands are about, and which command comes next.

No controller runs, so nobody but commands changes these objects. Workloads are few, so that several commands
are under way on the same one; pods, nodes, ConfigMaps and revisions are new for each command. What an apply
or a `dynamic` is about is no other's: they name no object, so that none waits for another, and what two of
them have done to one object at a time cannot always be told apart after a crash.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from tests.faults.commands.effects import Change, Place, writes
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
DRAINED = 2
"""Pods of a node that is drained."""
GENERATED = "generated-"
"""How the names begin that the API server has chosen."""
MADE = 60.0
"""Seconds within which the API server has made an object, where it has been asked again and again."""
_IMAGE = "registry.example/app"
_POD = {
    "automountServiceAccountToken": False,
    "containers": [{"name": "main", "image": f"{_IMAGE}:0"}],
    "terminationGracePeriodSeconds": 0,  # no kubelet ends them
}
_REQUESTS = {
    "scale": ("patch", "/scale"),
    "restart": ("patch", ""),
    "update_image": ("patch", ""),
    "rollback": ("patch", ""),
    "cordon": ("patch", ""),
    "delete_pod": ("delete", ""),
}
"""Verb and subresource of the one request that changes the object a command names."""
_NAMED_BY_PARAMS = ("apply", "dynamic")
"""Actions that take no object."""


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
    further: tuple[Change, ...] = ()
    """What it is to change, where that is not one request on the object it names."""
    provable: bool = True
    """Whether an agent that was killed must be able to tell what became of it."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """What it is to change, each once."""
        if self.further:
            return self.further
        verb, part = _REQUESTS[self.action]
        return (Change(verb, self.resource + part, self.namespace, self.name),)

    def body(self) -> dict[str, Any]:
        """Of POST /commands."""
        about = {"resource": self.resource, "namespace": self.namespace or None, "name": self.name}
        return {
            "cluster_id": CLUSTER,
            "action": self.action,
            "object": None if self.action in _NAMED_BY_PARAMS else about,
            "params": self.params,
            "start_within": self.start_within,
            "timeout": self.timeout,
        }


class World:
    """`await world.prepare()`, then `await world.next()` for each command."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        etcd: str,
        dice: random.Random,
        seconds: float,
        *,
        whims: bool = True,
    ) -> None:
        """`etcd`: the address of the API server's store. `seconds`: that a command has to begin, and as many
        from then on to end. `whims`: whether some are to be ended again, or in a hurry.
        """
        self.made: set[Place] = set()
        """What there was before any command."""
        self._etcd = etcd
        self._whims = whims
        self._canceled = CANCELED
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
            self.rollback: 3,
            self.apply: 3,
            self.dynamic: 5,
            self.drain: 1,
        }
        self._requests: dict[Callable[[str], Any], int] = {
            self._create_one: 1,
            self._create_generated: 1,
            self._update: 1,
            self._patch: 3,
            self._delete: 1,
        }
        self._uids: dict[str, str] = {}
        """Of the workloads, by name."""

    async def prepare(self) -> None:
        """The namespace and the workloads. The API server may still be starting."""
        await self._create("/api/v1/namespaces", "Namespace", "v1", NAMESPACE)
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
        for name in WORKLOAD_NAMES:
            labels = {"app": name}
            template = {"metadata": {"labels": labels}, "spec": _POD}
            spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
            await self._create(path, "Deployment", "apps/v1", name, spec=spec)
            self.made.add(Place("deployments", NAMESPACE, name))
            self._uids[name] = (await self.workload(name))["metadata"]["uid"]

    async def next(self) -> Wanted:
        """Whatever the dice say."""
        made: Wanted = await self._dice.choices(list(self._actions), list(self._actions.values()))[0]()
        return made

    @contextmanager
    def more_canceled(self, share: float) -> Iterator[None]:
        """As long as the block lasts at least such a share of the commands is to be ended again."""
        self._canceled = max(CANCELED, share)
        try:
            yield
        finally:
            self._canceled = CANCELED

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
        await self._pod(name)
        return self.wanted("delete_pod", "pods", NAMESPACE, name)

    async def cordon(self) -> Wanted:
        return self.wanted("cordon", "nodes", "", await self._node())

    async def drain(self) -> Wanted:
        """Of a node with pods of its own: one cordon, and one eviction of each."""
        node = await self._node()
        pods = [f"{node}-{number}" for number in range(DRAINED)]
        for pod in pods:
            await self._pod(pod, nodeName=node)
        evictions = (Change("create", "pods/eviction", NAMESPACE, pod) for pod in pods)
        changes = (Change("patch", "nodes", "", node), *evictions)
        return replace(self.wanted("drain", "nodes", "", node, force=True), further=changes)

    async def rollback(self) -> Wanted:
        """To a revision that is no other command's, as the Deployment's controller would have kept it."""
        name, number = self._workload(), self._number()
        labels = {"app": name, "pod-template-hash": str(number)}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": self._uids[name]}
        pod = {**_POD, "containers": [{"name": "main", "image": f"{_IMAGE}:{number}"}]}
        await self._create(
            f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets",
            "ReplicaSet",
            "apps/v1",
            f"{name}-{number}",
            {
                "labels": labels,
                "annotations": {"deployment.kubernetes.io/revision": str(number)},
                "ownerReferences": [{**owner, "controller": True}],
            },
            spec={
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        )
        return self.wanted("rollback", "deployments", NAMESPACE, name, to_revision=number)

    async def apply(self) -> Wanted:
        """Half of them make the object."""
        name = f"config-{self._number()}"
        if self._dice.random() < 0.5:
            await self._config_map(name)
        found = self.wanted("apply", "configmaps", NAMESPACE, name, manifest=_config_map(name))
        return replace(found, further=(Change("patch", "configmaps", NAMESPACE, name),))

    async def dynamic(self) -> Wanted:
        """One request that changes a ConfigMap."""
        request = self._dice.choices(list(self._requests), list(self._requests.values()))[0]
        made: Wanted = await request(f"config-{self._number()}")
        return made

    async def _create_one(self, name: str) -> Wanted:
        return self._request("create", name, name=name, body=_config_map(name))

    async def _create_generated(self, name: str) -> Wanted:
        body = {**_config_map(name), "metadata": {"generateName": GENERATED}}
        return replace(self._request("create", "", body=body), provable=False)

    async def _update(self, name: str) -> Wanted:
        await self._config_map(name)
        return self._request("update", name, name=name, body=_config_map(name))

    async def _patch(self, name: str) -> Wanted:
        await self._config_map(name)
        kind = self._dice.choice(("merge", "strategic", "apply", "json"))
        body: object = _config_map(name)
        if kind == "json":
            body = [{"op": "add", "path": "/data/value", "value": name}]
        found = self._request("patch", name, name=name, patch_type=kind, body=body)
        return replace(found, provable=kind != "json")

    async def _delete(self, name: str) -> Wanted:
        await self._config_map(name)
        return self._request("delete", name, name=name)

    def _request(self, verb: str, name: str, /, **params: Any) -> Wanted:
        """`name` is the one in the audit log."""
        where = {"verb": verb, "resource": "configmaps", "namespace": NAMESPACE}
        found = self.wanted("dynamic", "configmaps", NAMESPACE, name, **where, **params)
        return replace(found, further=(Change(verb, "configmaps", NAMESPACE, name),))

    def wanted(self, action: str, resource: str, namespace: str, name: str, /, **params: Any) -> Wanted:
        """With times and whims."""
        hasty = self._whims and self._dice.random() < HASTY
        cancel = self._whims and self._dice.random() < self._canceled
        within = "1s" if hasty else self._seconds
        return Wanted(action, resource, namespace, name, params, within, self._seconds, cancel)

    async def workload(self, name: str) -> dict[str, Any]:
        """The Deployment as it is now."""
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"
        async with self._session.get(path) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json()
            return found

    async def writes(self) -> Counter[Place]:
        """How often each object of ours was written, by its place; those whose names the API server has
        chosen together under the name that is empty.
        """
        prefixes = [Place(resource, NAMESPACE, "") for resource in ("deployments", "configmaps", "pods")]
        found: Counter[Place] = Counter()
        for place, count in (await writes(self._etcd, [*prefixes, Place("nodes", "", "commands-")])).items():
            found[place._replace(name="") if place.name.startswith(GENERATED) else place] += count
        return found

    def _workload(self) -> str:
        hot = self._dice.random() < HOT
        return WORKLOAD_NAMES[0] if hot else self._dice.choice(WORKLOAD_NAMES)

    def _number(self) -> int:
        self._made += 1
        return self._made

    async def _node(self) -> str:
        name = f"commands-{self._number()}"
        await self._create("/api/v1/nodes", "Node", "v1", name)
        self.made.add(Place("nodes", "", name))
        return name

    async def _pod(self, name: str, **spec: Any) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        await self._create(path, "Pod", "v1", name, spec={**_POD, **spec})
        self.made.add(Place("pods", NAMESPACE, name))

    async def _config_map(self, name: str) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
        await self._create(path, "ConfigMap", "v1", name, data={"before": name})
        self.made.add(Place("configmaps", NAMESPACE, name))

    async def _create(
        self, path: str, kind: str, version: str, name: str, metadata: Mapping[str, Any] = {}, **more: Any
    ) -> None:
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}, **more}
        headers = {"Content-Type": "application/json"}
        async with asyncio.timeout(MADE):
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with self._session.post(path, data=json.dumps(body), headers=headers) as answer:
                        if answer.status in (201, 409):
                            return
                        if answer.status < 500 and answer.status != 429:
                            text = (await answer.text())[:300]
                            raise AssertionError(f"POST {path}: {answer.status} {text}")
                await asyncio.sleep(0.2)


def _config_map(name: str) -> dict[str, Any]:
    """As a command wishes for it."""
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": name}}
