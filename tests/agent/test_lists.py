"""Whole lists from a real API server: streamed where it can, in pages where it can't; and large clusters."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from schemas.presence import CollectionState
from services.agent.kubernetes.repository import lists
from services.agent.kubernetes.repository.lists import Lists
from services.agent.kubernetes.repository.resources import KubernetesResources
from services.agent.kubernetes.sdk import client as sdk
from services.agent.kubernetes.sdk.interfaces import KubernetesError
from services.cli.cluster.control_plane import ControlPlane
from tests.agent.fixtures import RunAgent
from tests.agent.proxy import Cut, Fault, FaultProxy
from tests.agent.test_bad_answers import status
from tests.agent.test_collection import STATE_KINDS, state_of
from tests.cluster.stored import store_namespaces

CONFIGMAPS = KINDS["configmaps"]


@asynccontextmanager
async def reading(kubeconfig: Path) -> AsyncIterator[Lists]:
    """Lists over a real connection."""
    connection = await sdk.connect(str(kubeconfig), timeout=10, user_agent="test")
    try:
        yield Lists(connection, 10)
    finally:
        await connection.close()


async def listed(reader: Lists, kind: Kind) -> tuple[dict[tuple[str, str], int], str]:
    """Hashes by key, and the version to watch from."""
    found, version = {}, ""
    async for page in reader.pages(kind, ""):
        assert not page.rejected
        found |= {tuple(o.key): o.hash for o in page.objects}
        version = page.resource_version
    return found, version


async def test_streams_and_pages_are_equal(own_control_plane: ControlPlane) -> None:
    """Every kind is streamed by a real API server, Secrets in their Table too, and holds what pages hold."""
    plane = own_control_plane
    plane.kubectl("create", "secret", "generic", "hidden", "-n", "default", "--from-literal=a=1")
    async with reading(plane.kubeconfig) as streamed, reading(plane.kubeconfig) as paged:
        paged._paged = {kind.api_version for kind in KINDS.values()}
        for kind in KINDS.values():
            if kind.resource in ("events", "leases"):
                continue
            stream, version = await listed(streamed, kind)
            assert version.isdecimal()
            assert (await listed(paged, kind))[0] == stream, kind.resource
        assert not streamed._paged
        assert ("default", "hidden") in (await listed(streamed, KINDS["secrets"]))[0]


def ignored(line: bytes) -> bytes:
    """A server that does not know streamed lists: it sends what is there, and then an ordinary bookmark."""
    event = json.loads(line)
    event["object"]["metadata"].pop("annotations", None)
    return json.dumps(event).encode() + b"\n"


@pytest.mark.parametrize("how", ["400", "422", "ignored", "silent"])
async def test_a_server_that_can_not_stream(
    own_control_plane: ControlPlane, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are read instead, at once or with the next attempt, and from then on."""
    if how == "silent":
        monkeypatch.setattr(lists, "STREAM_SILENCE", 3.0)
    own_control_plane.kubectl("create", "configmap", "a", "-n", "default")

    def refuse(request: web.Request) -> web.Response | None:
        return status(int(how), "sendInitialEvents is forbidden")(request)

    async with FaultProxy(own_control_plane, tmp_path) as proxy, reading(proxy.kubeconfig) as reader:
        if how in ("400", "422"):
            fault = proxy.add(Fault("configmaps", answer=refuse, times=1))  # type: ignore[arg-type]
        else:
            lines = {"ignored": ignored, "silent": lambda line: b"" if b'"BOOKMARK"' in line else line}[how]
            fault = proxy.add(Fault("configmaps", lines=lines))
            with pytest.raises(KubernetesError):
                await listed(reader, CONFIGMAPS)
        for _ in range(2):
            found, version = await listed(reader, CONFIGMAPS)
            assert ("default", "a") in found
            assert version.isdecimal()
        assert fault.done
        streams = [r for r in proxy.requests if "sendInitialEvents" in r.query]
        assert len(streams) == 1


async def test_a_stream_that_is_cut_is_no_list(own_control_plane: ControlPlane, tmp_path: Path) -> None:
    """Half a list is an error, or what is missing in it would be deleted."""
    for name in ("a", "b"):
        own_control_plane.kubectl("create", "configmap", name, "-n", "default")

    def cut(line: bytes) -> bytes:
        raise Cut(line)

    async with FaultProxy(own_control_plane, tmp_path) as proxy, reading(proxy.kubeconfig) as reader:
        proxy.add(Fault("configmaps", lines=cut, times=1))
        with pytest.raises(KubernetesError, match="ended before it was whole"):
            await listed(reader, CONFIGMAPS)
        assert ("default", "b") in (await listed(reader, CONFIGMAPS))[0]


async def test_large_objects_come_in_small_pages(own_control_plane: ControlPlane) -> None:
    """Where pages are used, one of large objects is followed by shorter ones: memory is bounded by bytes."""
    values = "x" * 400_000
    for number in range(12):
        own_control_plane.kubectl(
            "create", "configmap", f"big-{number}", "-n", "default", f"--from-literal=a={values[:100_000]}"
        )
    connection = await sdk.connect(str(own_control_plane.kubeconfig), timeout=10, user_agent="test")
    try:
        reader = Lists(connection, 10)
        reader._paged = {"v1"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lists, "PAGE_SIZE", 4)
            patch.setattr(lists, "PAGE_BYTES", 250_000)
            sizes = [len(page.objects) async for page in reader.pages(CONFIGMAPS, "default")]
    finally:
        await connection.close()
    assert sum(sizes) >= 12
    assert set(sizes[1:-1]) == {2}


async def test_many_namespaces(run_agent: RunAgent, own_control_plane: ControlPlane) -> None:
    """10,000 namespaces are one resource among others: no watch each, and all of them arrive, also later."""
    plane, count = own_control_plane, 10_000
    await asyncio.to_thread(store_namespaces, plane, range(count))
    async with run_agent(AGENT_KUBECONFIG=str(plane.kubeconfig)) as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        assert len(heard.objects("namespaces")) >= count
        await asyncio.to_thread(plane.kubectl, "create", "configmap", "new", "-n", f"team-{count - 1}")
        await heard.until(lambda h: (f"team-{count - 1}", "new") in h.objects("configmaps"))
        assert {item.relists for item in heard.heartbeats[-1].collection} <= {0, 1}


async def test_metrics_tell_the_collection(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, unused_tcp_port: int
) -> None:
    """State, age, relists and number of each resource are on /metrics, with bounded labels."""
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_METRICS_LISTEN=f"127.0.0.1:{unused_tcp_port}",
    ) as heard:
        await heard.until(lambda h: h.synced() == STATE_KINDS)
        # Listed, it is not watched yet.
        await heard.until(lambda h: state_of(h, "nodes")[0] == CollectionState.SYNCED)
        url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read().decode())
    prefix = "atlhyper_agent_collection"
    assert f'{prefix}_state{{resource="nodes",state="synced"}} 1.0' in text
    assert f'{prefix}_state{{resource="nodes",state="failing"}} 0.0' in text
    assert f'{prefix}_objects{{resource="nodes"}} 3.0' in text
    assert f'{prefix}_relists_total{{resource="nodes"}} 1.0' in text
    assert f'{prefix}_last_event_timestamp_seconds{{resource="nodes"}} 1.' in text


async def test_versions_are_confirmed(own_control_plane: ControlPlane) -> None:
    """A real API server tells a version that it has from one that it has not reached."""
    connection = await sdk.connect(str(own_control_plane.kubeconfig), timeout=10, user_agent="test")
    try:
        resources = KubernetesResources(connection, page_timeout=10)
        for resource in ("configmaps", "secrets", "pods"):
            _, version = await listed(resources._lists, KINDS[resource])
            await resources.confirm(KINDS[resource], "", version)
            with pytest.raises(KubernetesError, match="Too large resource version"):
                await resources.confirm(KINDS[resource], "", str(int(version) + 1_000_000))
    finally:
        await connection.close()
