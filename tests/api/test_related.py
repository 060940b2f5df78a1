"""What is related to an object, over HTTP: ids, rows, reasons, and what is no object."""

from datetime import timedelta
from urllib.parse import quote

import httpx
import msgspec
import pytest
from msgspec import Raw

from schemas.frames import Frame, Phase, Put, Scope
from schemas.ids import kubernetes
from schemas.kubernetes.container import Container, EnvFromSource, NamedSource, PodSpec
from schemas.kubernetes.network import Service, ServiceSpec
from schemas.kubernetes.pod import Pod
from tests.api.fixtures import NOW, Fleet, meta

CLUSTER = "/api/v1/clusters/prod-eu"
WEB = "pods/shop/web-0"


def web(name: str = "web-0", namespace: str = "shop", **spec: object) -> Pod:
    return Pod(metadata=meta(name, namespace, labels={"app": "web"}), spec=PodSpec(**spec))


def using(secret: str, config_map: str) -> list[Container]:
    sources = [
        EnvFromSource(secret_ref=NamedSource(name=secret)),
        EnvFromSource(config_map_ref=NamedSource(name=config_map)),
    ]
    return [Container(name="web", env_from=sources)]


def service() -> Service:
    return Service(metadata=meta("web", "shop"), spec=ServiceSpec(selector={"app": "web"}))


async def test_nodes_have_their_rows(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Each node has the row that a list has of it, each Event its own; the id is its path in the cluster."""
    await fleet.state("prod-eu", {"pods": [web()], "services": [service()]})
    await fleet.event("prod-eu", "e1")
    answer = (await api.get(f"{CLUSTER}/{WEB}/related")).json()
    nodes = {node["id"]: node for node in answer["nodes"]}
    assert [*nodes] == [WEB, "services/shop/web", "events/shop/uid-shop-e1"]
    listed = (await api.get(f"{CLUSTER}/pods")).json()
    assert nodes[WEB]["row"] == listed["items"][0]
    assert nodes["events/shop/uid-shop-e1"]["row"] == (await api.get("/api/v1/events")).json()["items"][0]
    assert {node["cluster"] for node in nodes.values()} == {"prod-eu"}
    assert answer["edges"] == [
        {"from": "events/shop/uid-shop-e1", "to": WEB, "relation": "concerns"},
        {"from": "services/shop/web", "to": WEB, "relation": "selects"},
    ]
    assert (answer["as_of"], answer["position"]) == (listed["as_of"], listed["position"])
    for id_ in nodes:
        again = (await api.get(f"{CLUSTER}/{id_}/related")).json()
        assert again["root"] == id_
        assert [edge for edge in answer["edges"] if id_ in edge.values()] == [
            edge for edge in again["edges"] if id_ in edge.values()
        ]


async def test_both_paths_answer_alike(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """The short form is the long one; what has not changed is not sent again."""
    await fleet.state("prod-eu", {"pods": [web()]})
    short = await api.get(f"{CLUSTER}/{WEB}/related")
    long = await api.get(f"/api/v1/agents/kubernetes/prod-eu/resources/{WEB}/related")
    assert (short.status_code, short.content) == (200, long.content)
    again = await api.get(f"{CLUSTER}/{WEB}/related", headers={"if-none-match": short.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await fleet.event("prod-eu", "e1")
    changed = await api.get(f"{CLUSTER}/{WEB}/related", headers={"if-none-match": short.headers["etag"]})
    assert changed.status_code == 200


async def test_what_is_missing_says_why(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Not collected, forbidden, not yet listed, or of a kind that nobody knows."""
    epoch = await fleet.state("prod-eu", {"pods": [web(containers=using("keys", "settings"), node_name="n")]})
    owner = {"apiVersion": "apps.example.com/v2", "kind": "Rollout", "name": "web", "uid": "u"}
    body = msgspec.json.encode(
        {"metadata": {"name": "rolled", "namespace": "shop", "uid": "r", "ownerReferences": [owner]}}
    )
    put = Put(resource="pods", namespace="shop", name="rolled", uid="r", body=Raw(body))
    await fleet.frames(kubernetes("prod-eu"), [Frame(epoch=epoch, sequence=4, phase=Phase.DATA, items=[put])])
    refused = 'secrets is forbidden: User "agent" cannot list resource "secrets"'
    collection = {"pods": ("synced", ""), "nodes": ("synced", ""), "secrets": ("forbidden", refused)}
    await fleet.heartbeat("prod-eu", collection, epoch=epoch)
    answer = (await api.get(f"{CLUSTER}/{WEB}/related")).json()
    assert {node["id"]: node["why"] for node in answer["nodes"] if node["missing"]} == {
        "nodes/_/n": "nodes are listing",
        "secrets/shop/keys": f"secrets are forbidden: {refused}",
        "configmaps/shop/settings": "configmaps are off: its agent does not collect this resource",
    }
    states = {entry["resource"]: entry["state"] for entry in answer["collections"]}
    assert states["secrets"] == "forbidden"
    assert states["services"] == "off"  # so that no service selects it says nothing
    rolled = (await api.get(f"{CLUSTER}/pods/shop/rolled/related")).json()
    (node,) = [node for node in rolled["nodes"] if node["missing"]]
    assert (node["id"], node["resource"]) == ("Rollout.apps.example.com/shop/web", "")
    assert node["why"] == "the kind Rollout is not collected, or there is no object of it"


async def test_a_namespace_that_is_not_collected_is_told(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """What lies outside of the namespaces of its agent is missing for that reason, the rest is not there."""
    resources = ["persistentvolumes", "persistentvolumeclaims"]
    frames = [
        Frame(
            epoch="e",
            sequence=1,
            phase=Phase.BEGIN,
            instance="instance-prod-eu",
            scope=Scope(resources=resources, namespaces=["shop"]),
        )
    ]
    for number, namespace in enumerate(("shop", "elsewhere")):
        reference = {"kind": "PersistentVolumeClaim", "namespace": namespace, "name": "data"}
        body = msgspec.json.encode({"metadata": {"name": f"disk-{number}"}, "spec": {"claimRef": reference}})
        put = Put(resource="persistentvolumes", name=f"disk-{number}", uid=f"u{number}", body=Raw(body))
        frames.append(Frame(epoch="e", sequence=2 + number, phase=Phase.DATA, items=[put]))
    frames.append(Frame(epoch="e", sequence=4, phase=Phase.SYNCED, synced=resources))
    await fleet.frames(kubernetes("prod-eu"), frames)
    await fleet.heartbeat("prod-eu", dict.fromkeys(resources, ("synced", "")), epoch="e")
    for number, why in enumerate(("there is no such object", "the namespace elsewhere is not collected")):
        answer = (await api.get(f"{CLUSTER}/persistentvolumes/_/disk-{number}/related")).json()
        assert [node["why"] for node in answer["nodes"]] == ["", why]


async def test_a_lost_cluster_still_answers(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Its graph is that of when it was last heard, and `as_of` says when that was."""
    epoch = await fleet.state("prod-eu", {"pods": [web()], "services": [service()]})
    await fleet.heartbeat("prod-eu", {"pods": ("synced", "")}, epoch=epoch)
    await fleet.beats(NOW + timedelta(minutes=10))
    assert (await api.get(CLUSTER)).json()["state"] == "lost"
    answer = (await api.get(f"{CLUSTER}/{WEB}/related")).json()
    assert len(answer["nodes"]) == 2
    assert answer["as_of"] == "2026-11-21T08:00:00Z"


async def test_what_is_not_there_is_told(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """An unknown cluster, resource or object is 404 with the next step."""
    await fleet.state("prod-eu", {"pods": [web()]})
    for path, kind, next_step in (
        ("clusters/none/pods/shop/web-0", "unknown-agent", "known of that kind: prod-eu"),
        ("clusters/prod-eu/widgets/shop/web-0", "unknown-resource", "known resources: "),
        (
            "clusters/prod-eu/pods/shop/none",
            "unknown-object",
            "/api/v1/agents/kubernetes/prod-eu/resources/pods",
        ),
        ("clusters/prod-eu/pods/_/web-0", "unknown-object", "Events outlive their objects"),
        ("clusters/prod-eu/events/shop/none", "unknown-object", "an Event is named by its uid"),
        ("clusters/prod-eu/pods/shop/%3Cscript%3E", "unknown-object", "see what there is"),
    ):
        answer = await api.get(f"/api/v1/{path}/related")
        assert answer.status_code == 404, path
        assert answer.json()["type"] == f"urn:atlhyper:problem:{kind}"
        assert next_step in answer.json()["next"], answer.json()


@pytest.mark.parametrize("query", ["depth=0", "depth=17", "limit=0", "limit=1001", "limit=x"])
async def test_a_bad_parameter_is_told(fleet: Fleet, api: httpx.AsyncClient, query: str) -> None:
    await fleet.state("prod-eu", {"pods": [web()]})
    answer = await api.get(f"{CLUSTER}/{WEB}/related?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


@pytest.mark.parametrize("name", ["100%", "<b>web", "a b", "ünï", 'quo"te', "%2e%2e", "a+b&c=d?e#f"])
async def test_names_survive_the_path(fleet: Fleet, api: httpx.AsyncClient, name: str) -> None:
    """An id, percent-encoded, is the path of its object, whatever it is called."""
    await fleet.state("prod-eu", {"pods": [web(name)], "services": [service()]})
    found = (await api.get(f"{CLUSTER}/services/shop/web/related")).json()
    id_ = found["nodes"][1]["id"]
    assert id_ == f"pods/shop/{name}"
    answer = await api.get(f"{CLUSTER}/{quote(id_)}/related")
    assert (answer.status_code, answer.json()["root"]) == (200, id_)
    assert answer.json()["edges"] == found["edges"]
