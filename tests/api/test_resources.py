"""Lists and single objects: what is stored is what is sent, and nothing is silently missing."""

import asyncio
import itertools
from datetime import timedelta

import httpx
import msgspec
import pytest
from msgspec import Raw

from schemas.frames import Frame, Phase, Put
from schemas.ids import kubernetes
from schemas.kubernetes import KINDS
from schemas.kubernetes.node import Node
from schemas.kubernetes.pod import Pod, PodSpec
from services.persistence import queries
from services.persistence.queries import ResourceFilter
from tests.api.fixtures import NOW, Fleet, meta

PODS = [Pod(metadata=meta(f"web-{n}", namespace)) for namespace in ("blog", "shop") for n in range(5)]


class _List(msgspec.Struct):
    items: list[Raw]


async def test_rows_are_sent_byte_for_byte(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """The items of a list are the stored summaries, and `object` is the body as its agent sent it."""
    body = b'{"metadata": {"name":"odd",  "namespace":"shop","uid":"u"},"spec":{},"status":{}}'
    await fleet.state("prod-eu", {"pods": []})
    epoch = await fleet.state("prod-eu", {"pods": []})
    put = Put(resource="pods", namespace="shop", name="odd", uid="u", body=Raw(body))
    await fleet.frames(kubernetes("prod-eu"), [Frame(epoch=epoch, sequence=3, phase=Phase.DATA, items=[put])])
    async with fleet.database.read() as connection:
        stored = await queries.list_resources(connection, ResourceFilter(resource="pods"), limit=10)

    summary = await api.get("/api/v1/clusters/prod-eu/pods")
    full = await api.get("/api/v1/clusters/prod-eu/pods", params={"view": "full"})
    one = await api.get("/api/v1/clusters/prod-eu/pods/shop/odd")

    items = [bytes(item) for item in msgspec.json.decode(summary.content, type=_List).items]
    assert items == stored.items
    expected = items[0][:-1] + b',"object":' + body + b"}"
    assert [bytes(item) for item in msgspec.json.decode(full.content, type=_List).items] == [expected]
    assert one.content.startswith(expected[:-1] + b',"updated_at":')
    assert one.json()["as_of"] == "2026-11-21T08:00:00Z"


async def test_both_paths_answer_alike(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """`/clusters/{id}/…` and `/agents/kubernetes/{id}/resources/…` are one thing."""
    await fleet.state("prod-eu", {"pods": PODS})
    for path in ("", "/shop/web-1"):
        short = await api.get(f"/api/v1/clusters/prod-eu/pods{path}")
        long = await api.get(f"/api/v1/agents/kubernetes/prod-eu/resources/pods{path}")
        assert short.status_code == long.status_code == 200
        assert short.content == long.content
    short, long = await asyncio.gather(
        api.get("/api/v1/clusters/prod-eu"), api.get("/api/v1/agents/kubernetes/prod-eu")
    )
    assert short.content == long.content


async def test_a_namespace_filters(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """`namespace` leaves the others out; what is not there is an empty list with its `as_of`."""
    await fleet.state("prod-eu", {"pods": PODS})
    body = (await api.get("/api/v1/clusters/prod-eu/pods?namespace=shop")).json()
    assert [row["name"] for row in body["items"]] == [f"web-{n}" for n in range(5)]
    empty = (await api.get("/api/v1/clusters/prod-eu/pods?namespace=none")).json()
    assert (empty["items"], empty["continue"], empty["remaining"]) == ([], None, 0)
    assert empty["as_of"] == "2026-11-21T08:00:00Z"


async def test_a_cluster_scoped_object_is_under_an_underscore(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """The namespace in the path of a node is `_`."""
    await fleet.state("prod-eu", {"nodes": [Node(metadata=meta("node-1"))]})
    answer = await api.get("/api/v1/clusters/prod-eu/nodes/_/node-1")
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["namespace"]) == ("node-1", "")


async def test_pages_follow_each_other_while_rows_come_and_go(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """A row that was there all the time is on exactly one page, whatever happens around it."""
    pods = [Pod(metadata=meta(f"web-{n:03}", "shop")) for n in range(0, 60, 2)]
    epoch = await fleet.state("prod-eu", {"pods": pods})
    sequence = itertools.count(4)
    seen: list[str] = []
    token = None
    for step in itertools.count():
        query = {"limit": "7"} | ({"continue": token} if token else {})
        page = (await api.get("/api/v1/clusters/prod-eu/pods", params=query)).json()
        seen += [row["name"] for row in page["items"]]
        token = page["continue"]
        if token is None:
            assert page["remaining"] == 0
            break
        assert page["remaining"] > 0
        late = Pod(metadata=meta(f"web-{2 * step + 1:03}", "shop"))
        put = Put(
            resource="pods",
            namespace="shop",
            name=late.metadata.name,
            uid=late.metadata.uid,
            body=Raw(KINDS["pods"].encode(late)),
        )
        frame = Frame(epoch=epoch, sequence=next(sequence), phase=Phase.DATA, items=[put])
        await fleet.frames(kubernetes("prod-eu"), [frame])
    assert seen == sorted(set(seen))
    assert {pod.metadata.name for pod in pods} <= set(seen)


@pytest.mark.parametrize(
    ("resource", "state", "reason"),
    [
        ("secrets", "forbidden", "secrets is forbidden: cannot list"),
        ("jobs", "failing", "503 Service Unavailable"),
        ("configmaps", "off", "its agent does not collect this resource"),
        ("events", "synced", ""),
    ],
)
async def test_what_is_not_collected_says_so(
    fleet: Fleet, api: httpx.AsyncClient, resource: str, state: str, reason: str
) -> None:
    """A list never looks complete when it is not: `collection` has the state and its reason."""
    epoch = await fleet.state("prod-eu", {"pods": PODS, "events": []})
    await fleet.beats()
    collection = {
        "pods": ("synced", ""),
        "events": ("synced", ""),
        "secrets": ("forbidden", "secrets is forbidden: cannot list"),
        "jobs": ("failing", "503 Service Unavailable"),
    }
    await fleet.heartbeat("prod-eu", collection, epoch=epoch)
    answer = await api.get(f"/api/v1/clusters/prod-eu/{resource}")
    assert answer.status_code == 200
    said = answer.json()["collection"]
    assert (said["resource"], said["state"], said["reason"]) == (resource, state, reason)


async def test_rows_without_a_heartbeat_are_of_unknown_standing(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Frames came but no heartbeat: the rows are served, nobody vouches for the resource."""
    await fleet.state("prod-eu", {"pods": PODS})
    body = (await api.get("/api/v1/clusters/prod-eu/nodes")).json()
    assert body["collection"]["state"] == "unknown"


async def test_a_resource_added_by_setting_is_known_where_it_is_collected(
    fleet: Fleet, api: httpx.AsyncClient
) -> None:
    """`widgets.example.com` exists for the cluster whose agent names it, and for no other."""
    for cluster, collection in (("with", {"widgets.example.com": ("listing", "")}), ("without", {})):
        await fleet.heartbeat(cluster, collection)
    assert (await api.get("/api/v1/clusters/with/widgets.example.com")).status_code == 200
    assert (await api.get("/api/v1/clusters/without/widgets.example.com")).status_code == 404


async def test_events_of_a_cluster_are_its_stored_events(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """`/clusters/{id}/events` holds what `/events?cluster={id}` holds."""
    await fleet.state("prod-eu", {"events": []})
    await fleet.state("prod-us", {"events": []})
    await fleet.event("prod-eu", "a")
    await fleet.event("prod-us", "b")
    short = (await api.get("/api/v1/clusters/prod-eu/events?namespace=shop")).json()
    long = (await api.get("/api/v1/events?cluster=prod-eu&namespace=shop")).json()
    assert short["items"] == long["items"]
    assert [row["name"] for row in short["items"]] == ["a"]


async def test_the_answer_is_as_old_as_its_cluster(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """`as_of` is the broker's time of the last frame of that cluster, not of another."""
    await fleet.state(
        "old", {"pods": [Pod(metadata=meta("p", "shop"), spec=PodSpec())]}, time=NOW - timedelta(hours=1)
    )
    await fleet.state("new", {"pods": []})
    assert (await api.get("/api/v1/clusters/old/pods")).json()["as_of"] == "2026-11-21T07:00:00Z"
    assert (await api.get("/api/v1/clusters/new/pods")).json()["as_of"] == "2026-11-21T08:00:00Z"
    assert (await api.get("/api/v1/clusters")).json()["as_of"] == "2026-11-21T07:00:00Z"
