"""Agents and clusters as the API shows them."""

import asyncio
from datetime import timedelta

import httpx

from schemas.kubernetes.node import Node
from schemas.kubernetes.pod import Pod, PodStatus
from services.api.app import create_app
from services.api.watch.hub import Hub
from services.persistence.database.engine import Database
from services.persistence.presence.clockwatch import ClockWatch
from services.runtime.health import Health
from services.runtime.tasks import cancelled
from tests.api.fixtures import NOW, Fleet, meta
from tests.tokens import AUTHORIZED
from tests.waiting import until


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


async def test_who_else_uses_an_id_is_shown(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """An agent that stands by is told beside the one that serves, whose state it does not touch."""
    epoch = await fleet.state("prod-eu", {"pods": []})
    await fleet.beats()
    await fleet.heartbeat("prod-eu", {"pods": ("synced", "")}, epoch=epoch)
    assert (await api.get("/api/v1/clusters/prod-eu")).json()["rival"] is None
    later = NOW + timedelta(seconds=1)
    reason = "another agent serves kubernetes/prod-eu; give one of them an id of its own"
    await fleet.heartbeat("prod-eu", epoch="older", time=later, status="standby", last_error=reason)
    body = (await api.get("/api/v1/clusters/prod-eu")).json()
    assert body["rival"] == {
        "seen": "2026-11-21T08:00:01Z",
        "version": "0.1.0",
        "instance": "instance-prod-eu",
        "reason": reason,
    }
    assert (body["state"], body["last_seen"], body["in_sync"]) == ("live", "2026-11-21T08:00:00Z", True)
    assert body["health"]["last_error"] == ""


async def test_clock_that_stands_is_told(fleet: Fleet, hub: Hub) -> None:
    """Without a beat of a master no state changes any more: each answer says so, and as of when."""
    watch = ClockWatch(fleet.database, silent=1.0)
    watching = asyncio.create_task(watch.run())
    app = create_app(fleet.database, Health("api"), hub, clock=watch)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=AUTHORIZED) as api:
        await fleet.beats()
        await fleet.heartbeat("prod-eu")

        async def stands(path: str) -> bool:
            clock = (await api.get(f"/api/v1{path}")).json()["clock"]
            assert clock["as_of"] == "2026-11-21T08:00:00Z"
            return str(clock["stands"]).endswith("the masters or the broker are away")

        for path in ("/agents", "/clusters", "/clusters/prod-eu"):
            await until(lambda path=path: stands(path))
    await cancelled(watching)


async def test_agents_and_clusters_are_the_same_list(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """As long as all agents are Kubernetes agents, both paths list the same items."""
    await fleet.heartbeat("a")
    await fleet.heartbeat("b")
    agents = (await api.get("/api/v1/agents")).json()
    assert agents == (await api.get("/api/v1/clusters")).json()
    assert [item["id"] for item in agents["items"]] == ["a", "b"]


async def test_agents_come_in_pages(either_url: str) -> None:
    """By kind and id, none twice, none left out; also where only frames or only heartbeats have come."""
    async with Database(either_url) as database:
        fleet, app = Fleet(database), create_app(database, Health("api"), Hub(database))
        for cluster in ("b", "d", "a-1"):
            await fleet.heartbeat(cluster)
        for cluster in ("d", "a", "c"):
            await fleet.state(cluster, {"pods": []})
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=AUTHORIZED
        ) as api:
            pages, token = [], None
            while token or not pages:
                answer = await api.get(
                    "/api/v1/agents", params={"limit": 2, **({"continue": token} if token else {})}
                )
                body = answer.json()
                pages.append(([item["id"] for item in body["items"]], body["remaining"]))
                token = body["continue"]
            assert pages == [(["a", "a-1"], 3), (["b", "c"], 1), (["d"], 0)]
            whole = (await api.get("/api/v1/agents")).json()
            assert [item["version"] for item in whole["items"]] == [2, 0, 0, 2, 2]
            first = (await api.get("/api/v1/agents", params={"limit": 2})).json()["continue"]
            other = await api.get("/api/v1/clusters", params={"limit": 2, "continue": first})
            assert other.status_code == 400
            assert "belongs to another query" in other.json()["detail"]


async def test_an_empty_fleet_is_an_empty_list(api: httpx.AsyncClient) -> None:
    """Before the first agent: no items, and no moment they speak of."""
    clock = {"as_of": None, "continuous_since": None, "stands": ""}
    expected = {"items": [], "continue": None, "remaining": 0, "clock": clock, "as_of": None}
    assert (await api.get("/api/v1/clusters")).json() == expected
