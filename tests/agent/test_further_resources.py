"""Resources that a setting names: also before they are defined, after they are gone, and when large."""

import asyncio
import base64
import json
import secrets
import shutil
from typing import Any

import msgspec
import pytest

from schemas.frames import Phase, Put, content_hash
from schemas.presence import CollectionState
from services.agent.kubernetes.service import follower
from services.cli.cluster.control_plane import ControlPlane, ControlPlaneError
from tests.agent.fixtures import Heard, RunAgent
from tests.agent.test_collection import state_of
from tests.waiting import until


def definition(group: str, *, scope: str = "Namespaced", size: str = "integer") -> dict[str, Any]:
    """A CustomResourceDefinition of widgets."""
    spec = {
        "type": "object",
        "properties": {"size": {"type": size}, "text": {"type": "string"}},
    }
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [version],
        },
    }


def widget(group: str, name: str, **spec: Any) -> dict[str, Any]:
    """A custom resource."""
    return {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def group() -> str:
    """An API group no other test has."""
    return f"{secrets.token_hex(3)}.example.com"


async def create(plane: ControlPlane, obj: dict[str, Any], *options: str) -> None:
    """Create an object; a definition is waited for, until kubectl finds its resource."""
    await asyncio.to_thread(plane.kubectl, "create", "-f", "-", *options, stdin=json.dumps(obj))
    if obj["kind"] != "CustomResourceDefinition":
        return
    resource = obj["metadata"]["name"]
    established = ("wait", "--for=condition=Established", f"crd/{resource}", "--timeout=50s")
    await asyncio.to_thread(plane.kubectl, *established)

    async def served() -> bool:
        try:  # what is established is served, and told by discovery, a moment later
            await asyncio.to_thread(plane.kubectl, "get", resource, "--all-namespaces")
        except ControlPlaneError:
            return False
        return True

    await until(served)


async def delete(plane: ControlPlane, resource: str) -> None:
    """Delete a definition, and with it all its objects."""
    await asyncio.to_thread(plane.kubectl, "delete", "crd", resource, "--timeout=50s")


async def test_a_definition_that_comes_and_goes(
    run_agent: RunAgent,
    control_plane: ControlPlane,
    namespace: str,
    group: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Absent, then there, then gone with all its objects, then back with another schema and scope."""
    monkeypatch.setattr(follower, "ABSENT_PAUSE", 0.5)
    resource = f"widgets.{group}"
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_RESOURCES=f"widgets.v1.{group}",
        AGENT_HEARTBEAT_INTERVAL="500ms",
        AGENT_TIMEOUT_WATCH="2s",
    ) as heard:
        await heard.until(lambda h: state_of(h, resource)[0] == CollectionState.ABSENT)
        await heard.until(lambda h: resource in h.synced())
        await create(control_plane, definition(group))
        await create(control_plane, widget(group, "small", size=1), "-n", namespace)
        await heard.until(lambda h: (namespace, "small") in h.objects(resource))
        await heard.until(lambda h: state_of(h, resource)[0] == CollectionState.SYNCED)
        await delete(control_plane, resource)
        await heard.until(lambda h: not h.objects(resource))
        await heard.until(lambda h: state_of(h, resource)[0] == CollectionState.ABSENT)
        shutil.rmtree(control_plane.folder / "kubectl")  # where kubectl remembers the scope
        await create(control_plane, definition(group, scope="Cluster", size="string"))
        await create(control_plane, widget(group, "large", size="XXL"))
        found = await heard.until(lambda h: h.objects(resource).get(("", "large")))
        await heard.until(lambda h: state_of(h, resource)[0] == CollectionState.SYNCED)
        assert state_of(heard, "pods")[0] == CollectionState.SYNCED
    begins = heard.phases(Phase.BEGIN)
    assert len(begins) == 1
    assert resource in begins[0].scope.resources
    assert msgspec.json.decode(found.body)["spec"] == {"size": "XXL"}
    await delete(control_plane, resource)


async def test_a_definition_that_is_gone_when_the_agent_starts(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, group: str
) -> None:
    """A resource that nobody defines is complete with nothing: what a reader still has of it is swept."""
    resource = f"widgets.{group}"
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_RESOURCES=f"widgets.v1.{group},secrets.v1",
        AGENT_SNAPSHOT_INTERVAL="500ms",
    ) as heard:
        digest = await heard.until(lambda h: [f for f in h.phases(Phase.DIGEST) if resource in f.digest])
        await heard.until(lambda h: state_of(h, "secrets.v1")[0] == CollectionState.OFF)
    assert digest[0].digest[resource].count == 0
    assert "without their values only" in state_of(heard, "secrets.v1")[1]


def whole(heard: Heard, resource: str, name: str) -> bytes:
    """The newest body of an object, put together if it travelled in parts; empty until all are here."""
    items = [
        item
        for frame in heard.frames
        for item in frame.items
        if item.resource == resource and item.name == name and isinstance(item, Put)
    ]
    if not items:
        return b""
    if items[-1].part is None:
        return bytes(items[-1].body)
    last = items[-items[-1].part.count :]
    if [item.part.index for item in last if item.part] != list(range(items[-1].part.count)):
        return b""
    return b"".join(base64.b64decode(msgspec.json.decode(item.body)) for item in last)


@pytest.mark.parametrize("letter", ["x", "<"])
async def test_a_large_object_arrives_whole(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, group: str, letter: str
) -> None:
    """1.4 MiB, listed and then watched; `<` is six bytes on the way from the API server, and in etcd."""
    resource = f"widgets.{group}"
    length = 1_400 * 1024 // (1 if letter == "x" else 6)
    await create(control_plane, definition(group))
    await create(control_plane, widget(group, "big", size=1, text=letter * length), "-n", namespace)
    try:
        async with run_agent(
            AGENT_KUBECONFIG=str(control_plane.kubeconfig),
            AGENT_NAMESPACES=namespace,
            AGENT_RESOURCES=f"widgets.v1.{group}",
            AGENT_SNAPSHOT_INTERVAL="1s",
        ) as heard:
            for size in (1, 2):
                body = await heard.until(
                    lambda h, size=size: (
                        (found := whole(h, resource, "big"))
                        and msgspec.json.decode(found)["spec"]["size"] == size
                        and found
                    )
                )
                assert msgspec.json.decode(body)["spec"]["text"] == letter * length
                digests = len(heard.phases(Phase.DIGEST))
                await heard.until(lambda h, digests=digests: len(h.phases(Phase.DIGEST)) > digests + 1)
                digest = heard.phases(Phase.DIGEST)[-1].digest[resource]
                assert (digest.count, digest.sum) == (1, content_hash(resource, namespace, "big", body))
                change = ["--type=merge", "-p", '{"spec": {"size": 2}}']
                await asyncio.to_thread(
                    control_plane.kubectl, "patch", resource, "big", "-n", namespace, *change
                )
            await heard.until(lambda h: state_of(h, resource)[0] == CollectionState.SYNCED)
    finally:
        await delete(control_plane, resource)
