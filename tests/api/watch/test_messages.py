"""What `GET /watch` sends, and what it refuses."""

import httpx
import pytest
from msgspec import Raw

from schemas.frames import Put
from schemas.ids import SHARDS
from tests.api.watch.changing import Cluster
from tests.api.watch.following import Replica, follow
from tests.tokens import AUTHORIZED
from tests.waiting import until


async def test_changes_come_as_the_lists_show_them(one: Replica, cluster: Cluster) -> None:
    """`put` has the row of the list, `delete` what identifies it; both by agent, resource and name."""
    async with follow(one.url) as reader:
        await reader.synced()
        await cluster.put("web-2", status="Pending")
        await cluster.delete("web-0")
        await cluster.fleet.event("prod-eu", "e1")
        await reader.until(lambda reader: len(reader.messages) >= 4)
        async with httpx.AsyncClient(base_url=one.url, headers=AUTHORIZED, timeout=40) as client:
            items = (await client.get("/api/v1/clusters/prod-eu/pods")).json()["items"]
            events = (await client.get("/api/v1/events")).json()["items"]
    _, added, gone, event = reader.messages
    about = {"agent_kind": "kubernetes", "cluster": "prod-eu", "resource": "pods", "namespace": "shop"}
    [web2] = [item for item in items if item["name"] == "web-2"]
    rev = added.data["rev"]
    assert (added.event, added.data) == (
        "put",
        about | {"name": "web-2", "uid": "uid-shop-web-2", "rev": rev, "item": web2},
    )
    assert (gone.event, gone.data) == (
        "delete",
        about | {"name": "web-0", "uid": "uid-shop-web-0", "rev": rev + 1},
    )
    assert (event.event, event.data["resource"], event.data["item"]) == ("put", "events", events[0])


async def test_it_begins_with_a_position_and_is_left_alone_by_proxies(one: Replica, cluster: Cluster) -> None:
    """The first block gives the position without dispatching anything; nothing may store or transform it."""
    async with follow(one.url) as reader:
        await reader.synced()
    headers = reader.response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    retry, position = reader.blocks[0].split("\n")
    assert 1000 <= int(retry.removeprefix("retry: ")) <= 3000
    assert position == f"id: {reader.messages[0].id}"
    assert reader.messages[0].data["as_of"] == "2026-11-21T08:00:00Z"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"web-0", "web-1", "db-0", "e1"}),
        ("cluster=prod-us", {"db-0"}),
        ("cluster=prod-eu,prod-us&resource=pods", {"web-0", "web-1", "db-0"}),
        ("resource=events", {"e1"}),
        ("resource=pods,events&namespace=shop", {"web-0", "web-1", "e1"}),
        ("namespace=none", set()),
        ("cluster=not-there-yet", set()),
    ],
)
async def test_filters_hold_for_what_is_there_and_for_what_changes(
    one: Replica, cluster: Cluster, query: str, expected: set[str]
) -> None:
    """`initial` sends every matching row, then `synced`; afterwards the same filter holds."""
    us = await Cluster(cluster.fleet, "prod-us").start()
    await us.put("db-0", namespace="data")
    await cluster.fleet.event("prod-eu", "e1")
    async with follow(one.url, f"{query}&initial=true") as reader:
        await reader.synced()
        assert {message.name for message in reader.of("put")} == expected
        assert reader.messages[-1].event == "synced"
        await us.delete("db-0", namespace="data")
        await cluster.delete("web-1")
        async with follow(one.url, since=reader.position) as all_of_it:
            await all_of_it.until(lambda reader: len(reader.of("delete")) == 2)
        expected &= {"db-0", "web-1"}
        await reader.until(lambda reader: {message.name for message in reader.of("delete")} == expected)


async def test_the_full_view_adds_the_projection(one: Replica, cluster: Cluster) -> None:
    """From the database and from the ring alike; a body of several lines stays one line."""
    body = b'{\n "metadata": {"name": "odd", "namespace": "shop", "uid": "u"},\r\n "status": {}}'
    async with follow(one.url, "view=full&initial=true") as reader, follow(one.url) as summary:
        await reader.synced()
        await summary.synced()
        await cluster.change(Put(resource="pods", namespace="shop", name="odd", uid="u", body=Raw(body)))
        await reader.until(lambda reader: reader.messages[-1].name == "odd")
        await summary.until(lambda reader: reader.messages[-1].name == "odd")
    assert [message.data["item"]["object"]["metadata"]["name"] for message in reader.of("put")] == [
        *("web-0", "web-1", "odd")
    ]
    assert "object" not in summary.messages[-1].data["item"]


@pytest.mark.parametrize(
    ("query", "header", "parameter"),
    [
        ("since=17", "", "since"),
        ("since=v1.", "", "since"),
        ("since=v1.0-0", "", "since"),
        ("since=v1." + "-".join(["-1"] * SHARDS), "", "since"),
        ("since=v1." + "-".join(["0"] * (SHARDS + 1)), "", "since"),
        ("since=v2." + "-".join(["0"] * SHARDS), "", "since"),
        ("since=v1." + "-".join(["ffffffffffffffff"] * SHARDS), "", "since"),
        ("since=" + "9" * 10_000, "", "since"),
        ("lastEventId=%00%0a", "", "lastEventId"),
        ("lastEventId=%0a", "", "lastEventId"),
        ("", "0192-foreign", "Last-Event-ID"),
        ("", "ä", "Last-Event-ID"),
        ("cluster=NOT%20ONE", "", "cluster"),
        ("cluster=", "", "cluster"),
        ("resource=../x", "", "resource"),
        ("resource=pods&resource=nodes", "", "resource"),
        ("view=wide", "", "view"),
        ("initial=perhaps", "", "initial"),
        ("name=web-0", "", "name"),
    ],
)
async def test_what_cannot_be_asked_is_a_problem(
    api: httpx.AsyncClient, query: str, header: str, parameter: str
) -> None:
    """400 with the parameter and a next step, before anything is sent."""
    headers = {b"Last-Event-ID": header.encode()} if header else {}
    answer = await api.get(f"/api/v1/watch?{query}", headers=headers)
    assert answer.status_code == 400
    problem = answer.json()
    assert [error["parameter"] for error in problem["errors"]] == [parameter]
    assert problem["next"]


async def test_an_empty_last_event_id_is_none(one: Replica, cluster: Cluster) -> None:
    """Browsers' polyfills send one."""
    async with follow(one.url, "lastEventId=&since=") as reader:
        await reader.synced()


async def test_head_has_an_end(one: Replica, cluster: Cluster) -> None:
    """The headers of GET, and the connection is free again."""
    async with httpx.AsyncClient(base_url=one.url, timeout=20, headers=AUTHORIZED) as client:
        for _ in range(2):
            answer = await client.head("/api/v1/watch")
            assert answer.headers["content-type"].startswith("text/event-stream")
    await until(lambda: one.hub._readers == 0)
