"""Agents and clusters as the API shows them."""

from datetime import timedelta

import httpx

from schemas.kubernetes.node import Node
from schemas.kubernetes.pod import Pod, PodStatus
from tests.api.fixtures import NOW, Fleet, meta


async def test_a_cluster_tells_how_it_is(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """State, version, freshness, what the agent can do, each kind's collection and the counts are there."""
    pods = [Pod(metadata=meta(f"web-{n}", "shop"), status=PodStatus(phase="Running")) for n in range(3)]
    epoch = await fleet.state("prod-eu", {"pods": pods, "nodes": [Node(metadata=meta("node-1"))]})
    await fleet.beats()
    collection = {"pods": ("synced", ""), "nodes": ("synced", ""), "secrets": ("forbidden", "may not list")}
    await fleet.heartbeat("prod-eu", collection, epoch=epoch)

    body = (await api.get("/api/v1/clusters/prod-eu")).json()

    assert (body["kind"], body["id"], body["state"]) == ("kubernetes", "prod-eu", "live")
    assert (body["agent_version"], body["platform"], body["instance"]) == (
        "0.1.0",
        "v1.36.3",
        "instance-prod-eu",
    )
    assert body["version"] == 3
    assert body["as_of"] == body["last_seen"] == "2026-11-21T08:00:00Z"
    assert body["read_only"] is True
    assert body["capabilities"] == ["observe:pods"]
    assert (body["epoch"], body["in_sync"], body["resync_reason"]) == (epoch, True, "")
    standing = {entry["resource"]: (entry["state"], entry["reason"]) for entry in body["collection"]}
    assert standing["pods"] == ("synced", "")
    assert standing["secrets"] == ("forbidden", "may not list")
    assert body["summary"]["pods"] == {"Running": 3}


async def test_silence_makes_an_agent_stale_and_then_lost(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """The list tells who is there by the broker's clock; the lost one keeps its last known state."""
    await fleet.beats()
    for cluster, seconds in (("fresh", 0), ("quiet", 35), ("gone", 120)):
        await fleet.heartbeat(cluster, time=NOW - timedelta(seconds=seconds))
    body = (await api.get("/api/v1/clusters")).json()
    assert {item["id"]: item["state"] for item in body["items"]} == {
        "fresh": "live",
        "quiet": "stale",
        "gone": "lost",
    }
    assert (body["continue"], body["remaining"]) == (None, 0)


async def test_agents_and_clusters_are_the_same_list(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """As long as all agents are Kubernetes agents, both paths list the same items."""
    await fleet.heartbeat("a")
    await fleet.heartbeat("b")
    agents = (await api.get("/api/v1/agents")).json()
    assert agents == (await api.get("/api/v1/clusters")).json()
    assert [item["id"] for item in agents["items"]] == ["a", "b"]


async def test_an_empty_fleet_is_an_empty_list(api: httpx.AsyncClient) -> None:
    """Before the first agent: no items, and no moment they speak of."""
    expected = {"items": [], "continue": None, "remaining": 0, "as_of": None}
    assert (await api.get("/api/v1/clusters")).json() == expected
