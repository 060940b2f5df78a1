"""Operations over REST: which clusters are meant, how fast it goes, and what people decide of it."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from schemas.commands import CommandState
from services.persistence.commands import operations
from tests.api.commanding import ALL, announce, end
from tests.api.fixtures import NOW, Fleet
from tests.api.test_problems import assert_problem

OPERATIONS = "/api/v1/operations"
RESTART = {"action": "restart", "kind": "deploy", "namespace": "shop", "name": "web"}
EVERYWHERE = RESTART | {"label_selector": ""}
_SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"key": "hunter2"}}


@pytest.fixture
async def clusters(fleet: Fleet) -> Fleet:
    """Four clusters; two of them are labelled, one is read-only."""
    await announce(fleet, "eu-1", labels={"env": "prod", "region": "eu"})
    await announce(fleet, "eu-2", labels={"env": "test", "region": "eu"})
    await announce(fleet, "us-1", labels={"env": "prod", "region": "us"})
    await announce(fleet, "bare")
    await fleet.beats()
    return fleet


async def ask(api: httpx.AsyncClient, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await api.post(OPERATIONS, json=body, **more)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{OPERATIONS}/{found['id']}"
    return found


def ids(operation: dict[str, Any]) -> list[str]:
    return [turn["target"]["id"] for turn in operation["targets"]]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"clusters": ["us-1", "eu-1"]}, ["us-1", "eu-1"]),
        ({"label_selector": ""}, ["bare", "eu-1", "eu-2", "us-1"]),
        ({"label_selector": "env=prod"}, ["eu-1", "us-1"]),
        ({"label_selector": "region in (eu),env!=prod"}, ["eu-2"]),
        ({"label_selector": "!env"}, ["bare"]),
        ({"clusters": ["us-1", "eu-2", "eu-1"], "label_selector": "env=prod"}, ["us-1", "eu-1"]),
    ],
    ids=str,
)
async def test_which_clusters_are_meant(
    clusters: Fleet, api: httpx.AsyncClient, wanted: dict[str, Any], expected: list[str]
) -> None:
    """Named ones in their order; selected ones by name."""
    assert ids(await ask(api, RESTART | wanted)) == expected


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({}, (1, 0, 600.0)),
        ({"max_unavailable": 3, "max_failures": 2, "timeout": "90s"}, (3, 2, 90.0)),
        ({"max_unavailable": "25%", "max_failures": "25%"}, (1, 1, 600.0)),
        ({"max_unavailable": "30%", "max_failures": "30%"}, (2, 1, 600.0)),
        ({"max_unavailable": "100%", "max_failures": "0%"}, (4, 0, 600.0)),
    ],
    ids=str,
)
async def test_how_fast(
    clusters: Fleet, api: httpx.AsyncClient, strategy: dict[str, Any], expected: tuple[int, int, float]
) -> None:
    """Parts of all clusters are rounded towards going on, and towards stopping."""
    found = (await ask(api, EVERYWHERE | {"strategy": strategy}))["strategy"]
    assert (found["max_unavailable"], found["max_failures"], found["timeout"]) == expected


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (RESTART, 400, "no cluster is named"),
        (RESTART | {"clusters": []}, 400, "clusters"),
        (RESTART | {"clusters": ["eu-1", "eu-1"]}, 400, "eu-1 is there twice"),
        (
            RESTART | {"clusters": [*(f"c{n}" for n in range(9_998)), "c9997"]},
            400,
            "c9997 is there twice",
        ),
        (RESTART | {"clusters": ["eu-1", "eu-9"]}, 404, "nothing was ever heard: eu-9"),
        (RESTART | {"label_selector": "env=dev"}, 400, "selects none of 4 clusters"),
        (RESTART | {"label_selector": "env in"}, 400, "label_selector"),
        (
            EVERYWHERE | {"strategy": {"max_unavailable": 0}},
            400,
            "max_unavailable: 0 is less than 1",
        ),
        (EVERYWHERE | {"strategy": {"max_unavailable": "0%"}}, 400, "strategy.max_unavailable: "),
        (EVERYWHERE | {"strategy": {"max_failures": -1}}, 400, "max_failures: -1 is less than 0"),
        (EVERYWHERE | {"strategy": {"maxUnavailable": 1}}, 400, "strategy.maxUnavailable"),
        (EVERYWHERE | {"action": "restrat"}, 400, "restrat"),
        (EVERYWHERE | {"params": {"x": 1}}, 400, "params.x"),
        (EVERYWHERE | {"cluster_id": "eu-1"}, 400, "cluster_id"),
        (
            {"action": "apply", "label_selector": "", "params": {"manifest": _SECRET}},
            400,
            "params: Secret objects are not applied through an agent",
        ),
    ],
    ids=str,
)
async def test_what_is_refused(
    clusters: Fleet, api: httpx.AsyncClient, body: dict[str, Any], status: int, words: str
) -> None:
    """Before anything is stored, with what is wrong."""
    answer = await api.post(OPERATIONS, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert (await api.get(OPERATIONS)).json()["items"] == []


async def test_one_that_would_refuse_stops_all(clusters: Fleet, api: httpx.AsyncClient) -> None:
    """Nothing is begun anywhere when it is known that it cannot end well."""
    later = NOW + timedelta(seconds=1)
    await announce(clusters, "bare", read_only=True, time=later)
    await announce(clusters, "eu-2", capabilities=[name for name in ALL if name != "act:restart"], time=later)
    answer = await api.post(OPERATIONS, json=EVERYWHERE)
    assert answer.status_code == 409
    assert "2 of 4 would refuse (bare, eu-2)" in answer.json()["detail"]


async def test_its_life(clusters: Fleet, api: httpx.AsyncClient) -> None:
    """Each cluster's turn is seen: waiting, under way, ended with the cluster's own words."""
    made = await ask(api, EVERYWHERE)
    assert made["counts"] == {"waiting": 4}
    assert made["state"] == "running"
    [first] = await operations.step(clusters.database, made["id"])
    shown = (await api.get(f"{OPERATIONS}/{made['id']}")).json()
    assert shown["counts"] == {"waiting": 3, "accepted": 1}
    assert shown["targets"][0]["command_id"] == first
    assert shown["targets"][0]["state"] == "accepted"
    command = (await api.get(f"/api/v1/commands/{first}")).json()
    assert (command["operation_id"], command["cluster_id"]) == (made["id"], "bare")
    listed = (await api.get("/api/v1/commands", params={"operation": made["id"]})).json()["items"]
    assert [one["id"] for one in listed] == [first]
    await end(clusters.database, first, CommandState.FAILED)
    await operations.step(clusters.database, made["id"])
    shown = (await api.get(f"{OPERATIONS}/{made['id']}")).json()
    assert shown["state"] == "paused"
    assert shown["reason"].startswith("1 of 4 did not succeed, last bare (failed)")
    assert [
        item["id"] for item in (await api.get(OPERATIONS, params={"state": "paused"})).json()["items"]
    ] == [made["id"]]
    assert (await api.post(f"{OPERATIONS}/{made['id']}/resume")).json()["state"] == "running"
    assert len(await operations.step(clusters.database, made["id"])) == 1
    paused = await api.post(f"{OPERATIONS}/{made['id']}/pause", json={"reason": "a look"})
    assert (paused.json()["state"], paused.json()["reason"]) == ("paused", "a look")
    canceled = await api.post(f"{OPERATIONS}/{made['id']}/cancel")
    assert canceled.json()["state"] == "canceled"
    assert (await api.post(f"{OPERATIONS}/{made['id']}/cancel")).status_code == 200
    for decision in ("pause", "resume"):
        answer = await api.post(f"{OPERATIONS}/{made['id']}/{decision}")
        assert (answer.status_code, answer.json()["title"]) == (409, "The operation has ended")


async def test_a_key_makes_one(clusters: Fleet, api: httpx.AsyncClient) -> None:
    """The same content under the same key is the same operation; other content is refused."""
    headers = {"Idempotency-Key": "k-1"}
    made = await ask(api, EVERYWHERE, headers=headers)
    assert (await ask(api, EVERYWHERE, headers=headers))["id"] == made["id"]
    answer = await api.post(OPERATIONS, json=RESTART | {"clusters": ["eu-1"]}, headers=headers)
    assert answer.status_code == 422
    assert made["id"] in answer.json()["detail"]
    assert len((await api.get(OPERATIONS)).json()["items"]) == 1


async def test_unknown_ones(clusters: Fleet, api: httpx.AsyncClient) -> None:
    """404 with where to look."""
    for path in ("x", "x/pause", "x/resume", "x/cancel"):
        method = api.get if path == "x" else api.post
        answer = await method(f"{OPERATIONS}/{path}")
        assert (answer.status_code, answer.json()["next"]) == (404, "see what there is: /api/v1/operations")


async def test_clusters_show_their_labels(clusters: Fleet, api: httpx.AsyncClient) -> None:
    """What they can be selected by."""
    items = (await api.get("/api/v1/clusters")).json()["items"]
    assert {item["id"]: item["labels"] for item in items}["eu-1"] == {"env": "prod", "region": "eu"}


async def test_an_operation_whose_commands_no_broker_would_carry(
    clusters: Fleet, api: httpx.AsyncClient
) -> None:
    """413 at once, as a single one: accepted, each of its commands would only fail."""
    metadata, data = {"name": "a"}, {"a": "x" * 1_030_000}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    wanted = {"action": "apply", "params": {"manifest": manifest}, "clusters": ["eu-1", "us-1"]}
    assert_problem(await api.post(OPERATIONS, json=wanted), 413, "content-too-large")


async def test_what_is_large_is_listed_without_its_params(clusters: Fleet, api: httpx.AsyncClient) -> None:
    """By its id it is whole, and so is the answer to whoever has asked for it."""
    metadata, data = {"name": "a"}, {"a": "x" * 900_000}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    params = {"manifest": manifest, "namespace": "shop"}
    made = await ask(api, {"action": "apply", "params": params, "clusters": ["eu-1"], "dry_run": True})
    assert made["params"] == params
    assert (await api.get(f"{OPERATIONS}/{made['id']}")).json() == made
    answer = await api.get(OPERATIONS)
    [listed] = answer.json()["items"]
    assert listed == {k: v for k, v in made.items() if k != "targets"} | {"params": None}
    assert len(answer.content) < 4096
