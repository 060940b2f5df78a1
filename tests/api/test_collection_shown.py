"""What an agent's heartbeat says of each resource, and what rows there are while an epoch is on its way."""

from datetime import timedelta

import httpx
from msgspec import Raw

from schemas.frames import Frame, Phase, Put, Scope
from schemas.ids import kubernetes
from schemas.kubernetes import KINDS
from schemas.kubernetes.pod import Pod
from schemas.presence import Collection, Health, Heartbeat
from services.persistence.presence.store import Sign
from tests.api.fixtures import NOW, Fleet, meta

TARGET = kubernetes("prod-eu")
PODS = "/api/v1/clusters/prod-eu/pods"


def pods(*names: str) -> list[Pod]:
    return [Pod(metadata=meta(name, "shop")) for name in names]


async def test_each_collection_is_shown_as_it_was_told(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """State, reason, number of objects, full lists and the age of the last event: of the cluster, and beside
    a list of its rows.
    """
    epoch = await fleet.state("prod-eu", {"pods": pods("web-0")})
    await fleet.beats()
    told = Collection(
        resource="pods",
        state="failing",
        reason="503 not now",
        objects=7,
        relists=3,
        last_event_at=NOW - timedelta(seconds=42),
    )
    health = Health(healthy=True, status="running", start_time=NOW)
    body = Heartbeat(version="0.1.0", epoch=epoch, interval=15, health=health, collection=[told])
    await fleet._presence([Sign(TARGET, body, NOW)], [])
    wanted = {
        "resource": "pods",
        "state": "failing",
        "reason": "503 not now",
        "objects": 7,
        "relists": 3,
        "last_event_at": "2026-11-21T07:59:18Z",
        "synced_at": "2026-11-21T08:00:00Z",
    }
    assert (await api.get("/api/v1/clusters/prod-eu")).json()["collection"] == [wanted]
    assert (await api.get(PODS)).json()["collection"] == wanted


async def test_a_cluster_that_is_being_swept_answers(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Between a new epoch's begin and its `synced` the rows of the old one are there, changed ones in their
    new state, and all of them can be listed, counted and related; with `synced` what is gone goes.
    """
    await fleet.state("prod-eu", {"pods": pods("gone", "kept")})
    await fleet.beats()
    (new,) = pods("new")
    put = Put(
        resource="pods",
        namespace="shop",
        name="new",
        uid=new.metadata.uid,
        body=Raw(KINDS["pods"].encode(new)),
    )
    begin = Frame(
        epoch="next",
        sequence=1,
        phase=Phase.BEGIN,
        instance="instance-prod-eu",
        scope=Scope(resources=["pods"]),
    )
    await fleet.frames(TARGET, [begin, Frame(epoch="next", sequence=2, phase=Phase.DATA, items=[put])])
    await fleet.heartbeat("prod-eu", {"pods": ("listing", "")}, epoch="next")

    listed = (await api.get(PODS)).json()
    assert [row["name"] for row in listed["items"]] == ["gone", "kept", "new"]
    assert listed["collection"]["state"] == "listing"
    fleet_wide = (await api.get("/api/v1/resources/pods")).json()
    assert fleet_wide["incomplete"] == 1
    assert (await api.get("/api/v1/clusters/prod-eu")).json()["in_sync"] is False
    for path in (f"{PODS}/shop/gone", f"{PODS}/shop/gone/related", "/api/v1/clusters/prod-eu/snapshot"):
        assert (await api.get(path)).status_code == 200, path

    await fleet.frames(TARGET, [Frame(epoch="next", sequence=3, phase=Phase.SYNCED, synced=["pods"])])
    assert [row["name"] for row in (await api.get(PODS)).json()["items"]] == ["new"]
    assert (await api.get(f"{PODS}/shop/gone")).status_code == 404
