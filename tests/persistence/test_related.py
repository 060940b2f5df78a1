"""Graphs of related objects: what is in them, what is missing, and that nothing makes them endless."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from schemas.frames import Frame
from schemas.ids import kubernetes
from schemas.kubernetes import KINDS
from schemas.kubernetes.base import ObjectMeta, ObjectReference
from schemas.kubernetes.event import KubernetesEvent
from schemas.kubernetes.links import Relation
from services.persistence.database.engine import Database
from services.persistence.events.store import ObservedEvent, store_events
from services.persistence.queries.related import Graph, object_id, related, walk
from services.persistence.state.applier import FrameApplier
from services.runtime.bus.consumer import Cursor
from tests.persistence.frames import START, FrameSource, Log, apply_all

CLUSTER = kubernetes("c1")
WIDGETS = "widgets.example.com"
Object = tuple[str, dict[str, Any]]


def made(resource: str, name: str, namespace: str = "shop", **fields: Any) -> Object:
    """An object of a resource, as its projection has it."""
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    return resource, {"metadata": metadata | fields.pop("metadata", {}), **fields}


def owned_by(kind: str, name: str, group: str = "apps/v1", uid: str = "") -> dict[str, Any]:
    """Metadata of an object with an owner."""
    owner = {"apiVersion": group, "kind": kind, "name": name, "uid": uid or f"uid-{name}", "controller": True}
    return {"ownerReferences": [owner]}


def widget(name: str, namespace: str = "shop", **metadata: Any) -> Object:
    """An object of a resource without a projection."""
    resource, found = made(WIDGETS, name, namespace, metadata=metadata)
    return resource, found | {"apiVersion": "example.com/v1", "kind": "Widget"}


def pod(name: str, namespace: str = "shop", *, labels: dict[str, str] | None = None, **more: Any) -> Object:
    metadata = more.pop("metadata", {}) | {"labels": labels or {"app": "web"}}
    return made("pods", name, namespace, metadata=metadata, spec=more)


def service(name: str, namespace: str = "shop", **selector: str) -> Object:
    return made("services", name, namespace, spec={"selector": selector})


async def fill(db: Database, objects: Iterable[Object], cluster: str = "c1") -> None:
    """A whole epoch of one cluster: exactly these objects."""
    source = FrameSource(kubernetes(cluster), resources=(*KINDS, WIDGETS))
    for resource, found in objects:
        metadata = found["metadata"]
        body = msgspec.json.encode(found)
        if resource in KINDS:
            body = KINDS[resource].encode(KINDS[resource].decode(body))
        source.held[resource, metadata["namespace"], metadata["name"]] = body
    log = Log()
    frames: list[Frame] = [source.begin(f"epoch-{cluster}"), *source.all()]
    received = [log.receive(source.target, frame) for frame in frames]
    await apply_all(FrameApplier(db, source.target.shard), received, log.cursor)


async def observe(db: Database, about: Iterable[dict[str, str]], cluster: str = "c1") -> None:
    """Events, each a second newer than the one before: `e-0`, `e-1`, …"""
    observed = [
        ObservedEvent(
            cluster,
            KubernetesEvent(
                metadata=ObjectMeta(name=f"e.{number}", namespace="shop", uid=f"e-{number}"),
                involved_object=ObjectReference(**involved),
                reason="Tested",
                first_timestamp=START,
                last_timestamp=START + timedelta(seconds=number),
            ),
            "epoch",
            number + 1,
        )
        for number, involved in enumerate(about)
    ]
    for start in range(0, len(observed), 5000):
        await store_events(db, observed[start : start + 5000], Cursor("events", "E", START, start))


async def graph_of(
    db: Database, resource: str, name: str, namespace: str = "shop", *, depth: int = 8, limit: int = 250
) -> Graph:
    async with db.read() as connection:
        found = await related(
            connection, CLUSTER, resource, namespace, name, generic=[WIDGETS], depth=depth, limit=limit
        )
    assert found is not None
    return found


def edges(graph: Graph) -> set[str]:
    """`deployments/shop/web owns replicasets/shop/web-1`, and which of them are of earlier objects."""
    return {
        f"{edge.source} {edge.relation} {edge.target}" + (" formerly" if edge.former else "")
        for edge in graph.edges
    }


def missing(graph: Graph) -> set[str]:
    return {node.id for node in graph.nodes if node.is_missing}


SHOP = [
    made("nodes", "node-1", ""),
    made("deployments", "web", spec={"selector": {"matchLabels": {"app": "web"}}}),
    made(
        "replicasets",
        "web-1",
        metadata=owned_by("Deployment", "web"),
        spec={"selector": {"matchLabels": {"app": "web"}}},
    ),
    pod(
        "web-1-a",
        metadata=owned_by("ReplicaSet", "web-1"),
        nodeName="node-1",
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        containers=[{"name": "web", "envFrom": [{"configMapRef": {"name": "settings"}}]}],
    ),
    pod("lonely", labels={"app": "other"}, nodeName="node-1"),
    service("web", app="web"),
    service("other", app="other"),
    made("ingresses", "web", spec={"defaultBackend": {"service": {"name": "web"}}}),
    made(
        "horizontalpodautoscalers",
        "web",
        spec={"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    ),
    made("configmaps", "settings", data={"a": "b"}),
    made("persistentvolumeclaims", "data", spec={"volumeName": "disk"}),
    made(
        "persistentvolumes",
        "disk",
        "",
        spec={"claimRef": {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data"}},
    ),
]
POD = "pods/shop/web-1-a"
DEPLOYED = {
    "deployments/shop/web owns replicasets/shop/web-1",
    f"replicasets/shop/web-1 owns {POD}",
    "horizontalpodautoscalers/shop/web scales deployments/shop/web",
    f"services/shop/web selects {POD}",
    f"deployments/shop/web selects {POD}",
    f"replicasets/shop/web-1 selects {POD}",
    "ingresses/shop/web routes-to services/shop/web",
    f"{POD} runs-on nodes/_/node-1",
    f"{POD} mounts persistentvolumeclaims/shop/data",
    f"{POD} uses configmaps/shop/settings",
    "persistentvolumeclaims/shop/data binds persistentvolumes/_/disk",
}
OWNERS = {
    "deployments/shop/web owns replicasets/shop/web-1",
    f"replicasets/shop/web-1 owns {POD}",
    "horizontalpodautoscalers/shop/web scales deployments/shop/web",
}


@pytest.mark.parametrize(
    ("resource", "name", "expected"),
    [
        ("deployments", "web", DEPLOYED),
        ("replicasets", "web-1", DEPLOYED),
        ("pods", "web-1-a", DEPLOYED),
        (
            "horizontalpodautoscalers",
            "web",
            DEPLOYED,
        ),
        (
            "services",
            "web",
            {f"services/shop/web selects {POD}", "ingresses/shop/web routes-to services/shop/web"}
            | {f"{POD} runs-on nodes/_/node-1"}
            | OWNERS,
        ),
        (
            "ingresses",
            "web",
            {f"services/shop/web selects {POD}", "ingresses/shop/web routes-to services/shop/web"}
            | {f"{POD} runs-on nodes/_/node-1"}
            | OWNERS,
        ),
        (
            "nodes",
            "node-1",
            {f"{POD} runs-on nodes/_/node-1", "pods/shop/lonely runs-on nodes/_/node-1"} | OWNERS,
        ),
        ("configmaps", "settings", {f"{POD} uses configmaps/shop/settings"} | OWNERS),
        (
            "persistentvolumes",
            "disk",
            {"persistentvolumeclaims/shop/data binds persistentvolumes/_/disk"}
            | {f"{POD} mounts persistentvolumeclaims/shop/data"}
            | OWNERS,
        ),
    ],
)
async def test_the_graph_of_each_kind(db: Database, resource: str, name: str, expected: set[str]) -> None:
    """Owners to the first, what is owned to the last, and what belongs to both; nobody's siblings.

    A cluster with objects of the same names beside it adds nothing.
    """
    await fill(db, SHOP)
    more = pod("web-1-b", metadata=owned_by("ReplicaSet", "web-1"), nodeName="node-1")
    await fill(db, [*SHOP, more, service("also", app="web")], "c2")
    namespace = "" if resource in ("nodes", "persistentvolumes") else "shop"
    graph = await graph_of(db, resource, name, namespace)
    assert edges(graph) == expected
    assert (missing(graph), graph.truncated, graph.root) == (set(), {}, object_id(resource, namespace, name))
    assert graph.nodes[0].id == graph.root
    assert {node.id for node in graph.nodes} == {end for edge in graph.edges for end in edge[:2]}


async def test_owners_of_one_name_are_told_apart_by_cluster(db: Database) -> None:
    """What an owner of the same name has in another cluster is not found, and takes no place."""
    owner = made("replicasets", "web-1")
    mine = pod("mine", metadata=owned_by("ReplicaSet", "web-1"))
    await fill(db, [owner, mine])
    await fill(
        db, [owner, *(pod(f"a-{n}", metadata=owned_by("ReplicaSet", "web-1")) for n in range(5))], "c2"
    )
    graph = await graph_of(db, "replicasets", "web-1", limit=1)
    assert edges(graph) == {"replicasets/shop/web-1 owns pods/shop/mine"}
    assert graph.truncated == {}


async def test_depth_is_how_far_it_goes(db: Database) -> None:
    """One step leads to what the object is related to itself; each further one adds what is next."""
    await fill(db, SHOP)
    await observe(db, [{"kind": "ReplicaSet", "namespace": "shop", "name": "web-1"}])
    assert edges(await graph_of(db, "deployments", "web", depth=1)) == {
        "deployments/shop/web owns replicasets/shop/web-1",
        f"deployments/shop/web selects {POD}",
        "horizontalpodautoscalers/shop/web scales deployments/shop/web",
    }
    second = edges(await graph_of(db, "deployments", "web", depth=2))
    assert f"replicasets/shop/web-1 owns {POD}" in second
    assert "events/shop/e-0 concerns replicasets/shop/web-1" in second
    assert "ingresses/shop/web routes-to services/shop/web" not in second


async def test_what_is_related_is_so_from_both_ends(db: Database) -> None:
    """An edge of one object's graph is in that of the other, for every object there is."""
    odd = [
        made(
            "persistentvolumes", "reserved", "", spec={"claimRef": {"namespace": "shop", "name": "waiting"}}
        ),
        made("persistentvolumeclaims", "waiting"),
        made("persistentvolumeclaims", "late", spec={"volumeName": "disk"}),
        made(
            "ingresses",
            "odd",
            spec={
                "rules": [
                    {
                        "http": {
                            "paths": [
                                {
                                    "backend": {
                                        "resource": {"apiGroup": "x"}
                                        | {"kind": "ConfigMap", "name": "settings"}
                                    }
                                }
                            ]
                        }
                    }
                ],
                "tls": [{"secretName": "tls"}],
            },
        ),
        made("secrets", "tls"),
        made("horizontalpodautoscalers", "odd", spec={"scaleTargetRef": {"kind": "Widget", "name": "w"}}),
        widget("w"),
        pod("owned-by-a-node", metadata=owned_by("Node", "node-1", "v1"), nodeName="node-1"),
        pod("expressed", labels={"tier": "db"}),
        made(
            "daemonsets",
            "expressed",
            spec={
                "selector": {
                    "matchExpressions": [
                        {"key": "tier", "operator": "In", "values": ["db", "cache"]},
                        {"key": "canary", "operator": "DoesNotExist"},
                    ]
                }
            },
        ),
        made(
            "jobs",
            "negative",
            spec={"selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}},
        ),
    ]
    await fill(db, [*SHOP, *odd])
    await observe(
        db,
        [
            {"kind": "Node", "name": "node-1", "uid": "node-1"},
            {"kind": "Node", "name": "node-1", "namespace": "default"},
            {"kind": "Widget", "name": "w", "namespace": "shop", "api_version": "example.com/v1"},
            {"kind": "Deployment", "name": "web", "namespace": "shop", "api_version": "apps/v1"},
        ],
    )
    keys = [
        (resource, found["metadata"]["namespace"], found["metadata"]["name"])
        for resource, found in [*SHOP, *odd]
    ]
    keys += [("events", "shop", f"e-{number}") for number in range(4)]
    touching: dict[str, set[str]] = {}
    for resource, namespace, name in keys:
        graph = await graph_of(db, resource, name, namespace)
        touching[graph.root] = {edge for edge in edges(graph) if graph.root in edge.split(" ")}
        assert missing(graph) == set()
    for root, some in touching.items():
        for edge in some:
            source, _, target = edge.split(" ")
            assert edge in touching[source], (root, edge)
            assert edge in touching[target], (root, edge)
    found = set().union(*touching.values())
    assert {
        "persistentvolumeclaims/shop/waiting binds persistentvolumes/_/reserved",
        "persistentvolumeclaims/shop/late binds persistentvolumes/_/disk",
        "ingresses/shop/odd routes-to configmaps/shop/settings",
        "ingresses/shop/odd uses secrets/shop/tls",
        f"horizontalpodautoscalers/shop/odd scales {WIDGETS}/shop/w",
        "nodes/_/node-1 owns pods/shop/owned-by-a-node",
        "daemonsets/shop/expressed selects pods/shop/expressed",
        "jobs/shop/negative selects pods/shop/expressed",
        "events/shop/e-0 concerns nodes/_/node-1",
        "events/shop/e-1 concerns nodes/_/node-1",
        f"events/shop/e-2 concerns {WIDGETS}/shop/w",
    } <= found


async def test_owners_of_any_kind(db: Database) -> None:
    """Owner links reach resources without a projection, cluster-scoped ones too, and heed the API group."""
    await fill(
        db,
        [
            widget("top", ""),
            made("deployments", "web", metadata=owned_by("Widget", "top", "example.com/v1")),
            made("services", "web"),
            made("configmaps", "not-its", metadata=owned_by("Service", "web", "knative.example/v1")),
            made("configmaps", "its", metadata=owned_by("Service", "web", "v1")),
        ],
    )
    graph = await graph_of(db, "deployments", "web")
    assert edges(graph) == {f"{WIDGETS}/_/top owns deployments/shop/web"}
    assert edges(await graph_of(db, "services", "web")) == {"services/shop/web owns configmaps/shop/its"}
    lonely = await graph_of(db, "configmaps", "not-its")
    (node,) = [node for node in lonely.nodes if node.is_missing]
    assert (node.id, node.resource) == ("Service.knative.example/shop/web", "")


async def test_cyclic_owners_end(db: Database) -> None:
    """Owners that own each other, and an object that owns itself, are shown as that, once."""
    await fill(
        db,
        [
            made("deployments", "a", metadata=owned_by("Deployment", "b")),
            made("deployments", "b", metadata=owned_by("Deployment", "c")),
            made("deployments", "c", metadata=owned_by("Deployment", "a")),
            made("deployments", "self", metadata=owned_by("Deployment", "self")),
        ],
    )
    ring = {f"deployments/shop/{a} owns deployments/shop/{b}" for a, b in ("ba", "cb", "ac")}
    for name in "abc":
        assert edges(await graph_of(db, "deployments", name, depth=16)) == ring
    itself = await graph_of(db, "deployments", "self", depth=16)
    assert edges(itself) == {"deployments/shop/self owns deployments/shop/self"}
    assert len(itself.nodes) == 1


async def test_an_earlier_object_of_the_name_is_told_apart(db: Database) -> None:
    """An Event or an owner reference with another uid is about an object that was there before."""
    await fill(db, [pod("a", metadata=owned_by("ReplicaSet", "r", uid="old")), made("replicasets", "r")])
    about = {"kind": "Pod", "namespace": "shop", "name": "a"}
    await observe(db, [about | {"uid": "uid-a"}, about | {"uid": "old"}, about])
    assert edges(await graph_of(db, "pods", "a")) == {
        "replicasets/shop/r owns pods/shop/a formerly",
        "events/shop/e-0 concerns pods/shop/a",
        "events/shop/e-1 concerns pods/shop/a formerly",
        "events/shop/e-2 concerns pods/shop/a",
    }


async def test_what_is_named_and_not_there_is_missing(db: Database) -> None:
    """Every kind of link leads somewhere, be it to nothing."""
    await fill(
        db,
        [
            pod(
                "a",
                metadata=owned_by("ReplicaSet", "r"),
                nodeName="n",
                volumes=[
                    {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "p", "projected": {"sources": [{"secret": {"name": "token"}}]}},
                ],
                imagePullSecrets=[{"name": "pull"}],
            )
        ],
    )
    graph = await graph_of(db, "pods", "a")
    assert missing(graph) == {
        "replicasets/shop/r",
        "nodes/_/n",
        "persistentvolumeclaims/shop/claim",
        "persistentvolumeclaims/shop/a-e",
        "secrets/shop/token",
        "secrets/shop/pull",
    }
    assert {node.uid for node in graph.nodes if node.id == "replicasets/shop/r"} == {"uid-r"}
    assert {"replicasets", "nodes", "secrets", "services", "events"} <= set(graph.searched)


async def test_a_limit_is_told(db: Database) -> None:
    """Each relation adds so many objects at most; how many it has left out is counted."""
    names = [f"p-{number:02}" for number in range(30)]
    owner = owned_by("ReplicaSet", "web-1")
    pods = [pod(name, metadata=owner, nodeName="node-1", labels={"app": "many"}) for name in names]
    services = [service(f"s-{number:02}", app="many") for number in range(12)]
    await fill(db, [*SHOP, *pods, *services])
    graph = await graph_of(db, "replicasets", "web-1", depth=1, limit=7)
    assert graph.truncated == {Relation.OWNS: 25}  # of 31 pods and a Deployment
    assert len(graph.nodes) == 1 + 7 + 1  # one more pod is selected
    for resource, name, namespace, left_out in (
        ("nodes", "node-1", "", {Relation.RUNS_ON: 25}),
        ("services", "s-00", "shop", {Relation.SELECTS: 23}),
        ("pods", "p-00", "shop", {Relation.SELECTS: 5}),
    ):
        graph = await graph_of(db, resource, name, namespace, depth=1, limit=7)
        assert graph.truncated == left_out, resource
    assert (await graph_of(db, "replicasets", "web-1", limit=1000)).truncated == {}


async def test_many_events_are_bounded(db: Database) -> None:
    """Of an object's Events the newest are shown, the rest is counted to a bound; of its pods' a few each."""
    await fill(db, SHOP)
    about = [{"kind": "Pod", "namespace": "shop", "name": "web-1-a"}] * 12_000
    about += [{"kind": "Deployment", "namespace": "shop", "name": "web", "api_version": "apps/v1"}] * 2
    await observe(db, about)

    graph = await graph_of(db, "pods", "web-1-a", limit=50)
    shown = {edge.source for edge in graph.edges if edge.relation is Relation.CONCERNS}
    assert shown == {f"events/shop/e-{number}" for number in range(11_950, 12_000)}
    assert graph.truncated == {Relation.CONCERNS: 10_000}

    graph = await graph_of(db, "deployments", "web")
    shown = {edge.source for edge in graph.edges if edge.relation is Relation.CONCERNS}
    assert shown == {f"events/shop/e-{number}" for number in range(11_990, 12_002)}
    assert graph.truncated == {Relation.CONCERNS: 10_000}


async def test_labels_narrow_what_is_looked_into(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pods have too many values to search for, what selects others by other keys is not looked into."""
    monkeypatch.setattr(walk, "CANDIDATES", 3)
    owner = owned_by("ReplicaSet", "many")
    await fill(
        db,
        [
            made("replicasets", "many"),
            *(pod(f"p-{n:02}", labels={"app": f"v-{n}"}, metadata=owner) for n in range(12)),
            *(service(f"a-{n}", tier=f"v-{n}") for n in range(12)),
            service("z", app="v-3"),
        ],
    )
    graph = await graph_of(db, "replicasets", "many")
    assert "services/shop/z selects pods/shop/p-03" in edges(graph)
    assert graph.truncated == {}


async def test_each_selector_has_its_pods(db: Database) -> None:
    """More services than one statement asks about, all labels of each, and a limit of each one's own."""
    paths = [{"backend": {"service": {"name": f"s-{n:02}"}}} for n in range(30)]
    await fill(
        db,
        [
            made("ingresses", "all", spec={"rules": [{"http": {"paths": paths}}]}),
            *(service(f"s-{n:02}", app=f"a-{n}", tier="web", zone="x") for n in range(30)),
            *(pod(f"p-{n:02}", labels={"app": f"a-{n}", "tier": "web", "zone": "x"}) for n in range(30)),
            *(pod(f"not-{n:02}", labels={"app": f"a-{n}", "tier": "db", "zone": "x"}) for n in range(30)),
            pod("p-00", "elsewhere", labels={"app": "a-0", "tier": "web", "zone": "x"}),
        ],
    )
    selects = {edge for edge in edges(await graph_of(db, "ingresses", "all")) if " selects " in edge}
    assert selects == {f"services/shop/s-{n:02} selects pods/shop/p-{n:02}" for n in range(30)}


async def test_statements_do_not_grow_with_the_graph(db: Database) -> None:
    """A hundred pods with Events take as many statements as one: one for each step."""
    owner, about = owned_by("ReplicaSet", "web-1"), {"kind": "Pod", "namespace": "shop"}
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    async def asked() -> int:
        await graph_of(db, "deployments", "web", limit=1000)
        statements.clear()
        await graph_of(db, "deployments", "web", limit=1000)
        return sum(not text.startswith("BEGIN") for text in statements)

    await fill(db, SHOP)
    await observe(db, [about | {"name": "web-1-a"}])
    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        few = await asked()
        names = [f"p-{number:02}" for number in range(100)]
        pods = [pod(name, metadata=owner, nodeName="node-1", labels={"app": "web"}) for name in names]
        await fill(db, [*SHOP, *pods])
        await observe(db, [about | {"name": name} for name in names])
        many = await asked()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    assert few == many
    assert many <= 9


async def test_names_are_only_names(db: Database) -> None:
    """Percent signs, quotes, markup and wildcards in names find what they say, and nothing else."""
    names = ["100%", "<b>x</b>", "it's", "a_b", "a*b", "ünï", "back\\slash", 'quo"te']
    await fill(
        db,
        [
            *(made("configmaps", name) for name in names),
            *(
                pod(f"pod-{name}", containers=[{"envFrom": [{"configMapRef": {"name": name}}]}])
                for name in names
            ),
            *(pod(f"of-{name}", metadata=owned_by("ReplicaSet", name)) for name in names),
            *(made("replicasets", name) for name in names),
            made("configmaps", "axb"),
        ],
    )
    for name in names:
        assert edges(await graph_of(db, "configmaps", name)) == {
            f"pods/shop/pod-{name} uses configmaps/shop/{name}"
        }
        assert edges(await graph_of(db, "replicasets", name)) == {
            f"replicasets/shop/{name} owns pods/shop/of-{name}"
        }
    assert edges(await graph_of(db, "configmaps", "axb")) == set()


async def test_an_object_that_cannot_be_read_is_there(db: Database) -> None:
    """Its links are unknown; it is shown all the same, and in nobody's way."""
    source = FrameSource(CLUSTER, resources=("pods", "services"))
    source.held["pods", "shop", "broken"] = b'{"metadata":{"name":"broken","namespace":"shop"},"spec":"x"}'
    source.held["services", "shop", "broken"] = b'{"spec":{"selector":{"app":1}}}'
    source.held["pods", "shop", "sound"] = KINDS["pods"].encode(
        KINDS["pods"].decode(msgspec.json.encode(pod("sound")[1]))
    )
    log = Log()
    frames = [log.receive(CLUSTER, frame) for frame in (source.begin("e"), *source.all())]
    await apply_all(FrameApplier(db, CLUSTER.shard), frames, log.cursor)
    for resource, name in (("pods", "broken"), ("services", "broken"), ("pods", "sound")):
        assert edges(await graph_of(db, resource, name)) == set()


async def test_nothing_is_found_in_other_places(db: Database) -> None:
    """What is not stored is None; an Event is found by its uid only."""
    await fill(db, SHOP)
    await observe(db, [{"kind": "Pod", "namespace": "shop", "name": "gone"}])
    async with db.read() as connection:
        for resource, namespace, name in (
            ("pods", "shop", "none"),
            ("pods", "", "web-1-a"),
            ("events", "shop", "e.0"),
            ("events", "", "e-0"),
        ):
            found = await related(
                connection, CLUSTER, resource, namespace, name, generic=[], depth=8, limit=250
            )
            assert found is None
    assert missing(await graph_of(db, "events", "e-0")) == {"pods/shop/gone"}
