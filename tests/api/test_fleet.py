"""Lists and counts over the fleet: every filter, and what may be missing is said."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from schemas.kubernetes.base import OwnerReference
from schemas.kubernetes.pod import Pod, PodSpec, PodStatus
from schemas.kubernetes.workload import ReplicaSet
from services.api.app import create_app, openapi_file
from services.api.http.document import FILE
from services.api.parameters import MAX_CLUSTERS
from services.api.watch.hub import Hub
from services.persistence import queries
from services.persistence.database.engine import Connection, Database
from services.runtime.health import Health
from tests.api.fixtures import NOW, Fleet, meta
from tests.api.test_problems import assert_problem
from tests.tokens import AUTHORIZED

EVENTS_ONLY = {"type", "reason", "kind", "name", "since", "until"}
CLUSTERS = ("prod-eu", "prod-us", "staging")


def pod(name: str, number: int) -> Pod:
    found = Pod(
        metadata=meta(name, "shop" if number % 2 else "blog"),
        spec=PodSpec(node_name=f"node-{number % 2}"),
        status=PodStatus(phase="Running" if number else "Pending"),
    )
    found.metadata.labels = {"app": "web" if number < 2 else "db"}
    owner = OwnerReference(kind="ReplicaSet", name="web-1", uid="u", controller=True)
    found.metadata.owner_references = [owner] if number == 1 else None
    return found


@pytest.fixture
async def stored(fleet: Fleet) -> None:
    """Three clusters of three pods each: one live, one lost, and one that may not list pods any more."""
    await fleet.beats()
    for cluster in CLUSTERS:
        replica_set = ReplicaSet(metadata=meta("web-1", "shop"))
        web = OwnerReference(kind="Deployment", name="web", uid="u", controller=True)
        replica_set.metadata.owner_references = [web]
        objects = {"pods": [pod(f"p{n}", n) for n in range(3)], "replicasets": [replica_set]}
        epoch = await fleet.state(cluster, objects)  # type: ignore[arg-type]
        time = NOW - timedelta(minutes=5) if cluster == "prod-us" else NOW
        collection = ("forbidden", "pods is forbidden") if cluster == "staging" else ("synced", "")
        await fleet.heartbeat(cluster, {"pods": collection}, epoch=epoch, time=time)


async def names(api: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await api.get(f"/api/v1/resources/pods{query}")
    assert answer.status_code == 200, answer.text
    return [f"{row['cluster']}/{row['name']}" for row in answer.json()["items"]]


def of(*pods: str, clusters: tuple[str, ...] = CLUSTERS) -> list[str]:
    return [f"{cluster}/{name}" for cluster in clusters for name in pods]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", of("p0", "p2", "p1")),  # by namespace first
        ("?cluster=prod-eu", of("p0", "p2", "p1", clusters=("prod-eu",))),
        ("?cluster=staging,prod-eu", of("p0", "p2", "p1", clusters=("prod-eu", "staging"))),
        ("?cluster=staging&cluster=prod-eu", of("p0", "p2", "p1", clusters=("prod-eu", "staging"))),
        ("?namespace=shop", of("p1")),
        ("?labelSelector=app%3Ddb", of("p2")),
        ("?labelSelector=app+in+(web,x),!none", of("p0", "p1")),
        ("?fieldSelector=status.phase%3DPending", of("p0")),
        ("?fieldSelector=spec.nodeName!%3Dnode-0", of("p1")),
        ("?owner=ReplicaSet/web-1", of("p1")),
        ("?owner=Deployment/web", of("p1")),
        ("?node=node-1", of("p1")),
        ("?q=PROD-EU", of("p0", "p2", "p1", clusters=("prod-eu",))),
        ("?q=%25", []),
        ("?sort=-name&cluster=prod-eu", of("p2", "p1", "p0", clusters=("prod-eu",))),
        ("?sort=status&cluster=prod-eu", of("p0", "p2", "p1", clusters=("prod-eu",))),
        ("?labelSelector=&fieldSelector=", of("p0", "p2", "p1")),
    ],
)
@pytest.mark.usefixtures("stored")
async def test_filters(api: httpx.AsyncClient, query: str, expected: list[str]) -> None:
    """Each filter narrows; a page of two at a time is the same list."""
    assert await names(api, query) == expected
    walked: list[str] = []
    token = None
    while True:
        more = {"limit": "2"} | ({"continue": token} if token else {})
        parameters = httpx.QueryParams(query.lstrip("?")).merge(more)
        page = (await api.get("/api/v1/resources/pods", params=parameters)).json()
        walked += [f"{row['cluster']}/{row['name']}" for row in page["items"]]
        assert page["remaining"] == len(expected) - len(walked)
        if (token := page["continue"]) is None:
            break
    assert walked == expected


@pytest.mark.usefixtures("stored")
async def test_one_cluster_takes_the_same_filters(api: httpx.AsyncClient) -> None:
    """`/clusters/{id}/pods` and `/resources/pods?cluster={id}` have the same rows."""
    for query in ("labelSelector=app%3Ddb", "owner=Deployment/web", "node=node-1", "q=p1", "sort=-status"):
        one = (await api.get(f"/api/v1/clusters/prod-eu/pods?{query}")).json()
        fleet = (await api.get(f"/api/v1/resources/pods?cluster=prod-eu&{query}")).json()
        assert one["items"] == fleet["items"] != []


@pytest.mark.usefixtures("stored")
async def test_what_may_be_missing_is_said(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Clusters whose rows are not complete, or whose agent is away, are named with state and reason."""
    body = (await api.get("/api/v1/resources/pods")).json()
    said = [(c["cluster"], c["agent"], c["state"], c["reason"]) for c in body["collections"]]
    assert said == [
        ("prod-us", "lost", "synced", "its agent is lost"),
        ("staging", "live", "forbidden", "pods is forbidden"),
    ]
    assert body["incomplete"] == 2
    assert body["as_of"] == "2026-11-21T08:00:00Z"
    alone = (await api.get("/api/v1/resources/pods?cluster=prod-eu")).json()
    assert (alone["collections"], alone["incomplete"]) == ([], 0)
    secrets = (await api.get("/api/v1/resources/secrets?cluster=prod-eu")).json()
    assert [c["state"] for c in secrets["collections"]] == ["off"]
    for number in range(110):
        await fleet.heartbeat(f"new-{number:03}", {"pods": ("listing", "")})
    many = (await api.get("/api/v1/resources/pods")).json()
    assert (len(many["collections"]), many["incomplete"]) == (100, 112)


@pytest.mark.usefixtures("stored")
async def test_what_sums_lack_is_said(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """A sum over all resources names the clusters of which any is not complete, and these resources."""
    now = {"pods": ("synced", ""), "replicasets": ("synced", "")}
    await fleet.heartbeat("prod-eu", now, time=NOW + timedelta(seconds=1))
    await fleet.heartbeat("edge", {"nodes": ("synced", ""), "secrets": ("forbidden", "no")})
    body = (await api.get("/api/v1/summary?by=cluster,namespace,state")).json()
    said = [(c["cluster"], c["agent"], c["state"], c["reason"]) for c in body["collections"]]
    assert said == [
        ("edge", "live", "listing", "nodes are listing, secrets are forbidden"),
        ("prod-us", "lost", "listing", "replicasets are listing"),
        ("staging", "live", "forbidden", "pods are forbidden, replicasets are listing"),
    ]
    assert body["incomplete"] == 3
    whole = (await api.get("/api/v1/summary?cluster=prod-eu")).json()
    assert (whole["collections"], whole["incomplete"]) == ([], 0)


@pytest.mark.usefixtures("stored")
async def test_unknown_names_are_refused(api: httpx.AsyncClient) -> None:
    """A cluster or a resource that is not known is a 404 that names it, not an empty list."""
    for path in ("/resources/pods", "/events", "/summary"):
        body = assert_problem(await api.get(f"/api/v1{path}?cluster=prod-eu,nowhere"), 404, "unknown-agent")
        assert "nowhere" in str(body["detail"])
    for path in ("/resources/pod", "/summary?resource=pod"):
        assert_problem(await api.get(f"/api/v1{path}"), 404, "unknown-resource")


@pytest.mark.parametrize(
    ("path", "parameter", "message", "next_step"),
    [
        ("resources/pods?labelSelector=a%3D%3D%3Db", "labelSelector", "character", "write"),
        ("resources/pods?labelSelector=" + "x" * 4097, "labelSelector", "length", ""),
        ("resources/pods?fieldSelector=spec.none%3Da", "fieldSelector", "cannot be selected", "status.phase"),
        ("resources/pods?fieldSelector=x", "fieldSelector", "no operator", "write"),
        ("resources/pods?owner=web", "owner", "is not an owner", "Deployment/web"),
        ("resources/pods?owner=Deployment/", "owner", "is not an owner", "Deployment/web"),
        ("resources/pods?sort=none", "sort", "is no column", "restarts"),
        ("resources/pods?sort=--name", "sort", "is no column", "restarts"),
        ("resources/pods?sort=", "sort", "is no column", "restarts"),
        ("resources/pods?reason=x", "reason", "`events` only", "leave"),
        (
            "resources/pods?cluster=" + ",".join(f"c{n}" for n in range(MAX_CLUSTERS + 1)),
            "cluster",
            "1001",
            "",
        ),
        ("resources/events?labelSelector=a", "labelSelector", "cannot be selected", "leave"),
        ("clusters/prod-eu/events?owner=a/b", "owner", "cannot be selected", "leave"),
        ("events?sort=restarts", "sort", "is no column", "last_seen"),
        ("events?fieldSelector=status.phase%3Da", "fieldSelector", "cannot be selected", "involvedObject"),
        ("events?sort=count&sort=name", "sort", "more than once", "once"),
        ("summary?by=colour", "by", "nothing to count by", "cluster"),
        ("summary?by=cluster,cluster", "by", "twice", "each once"),
        ("summary?by=cluster,node,kind,state", "by", "names 4", "at most 3"),
        ("summary?fieldSelector=status.phase%3Da", "fieldSelector", "`resource`", "name one"),
        ("summary?resource=events", "resource", "not counted", "/api/v1/events"),
    ],
)
@pytest.mark.usefixtures("stored")
async def test_what_cannot_be_asked_is_explained(
    api: httpx.AsyncClient, path: str, parameter: str, message: str, next_step: str
) -> None:
    """400 with the parameter, what is wrong with it, and what could be written instead."""
    body: dict[str, Any] = assert_problem(await api.get(f"/api/v1/{path}"), 400, "invalid-parameter")
    [error] = body["errors"]
    assert error["parameter"] == parameter
    assert message in error["message"]
    assert next_step in body["next"]


@pytest.mark.usefixtures("stored")
async def test_a_continue_belongs_to_its_query(api: httpx.AsyncClient) -> None:
    """With another filter or order it is refused, and says to start again."""
    token = (await api.get("/api/v1/resources/pods?limit=1&sort=status")).json()["continue"]
    for query in ("", "sort=-status", "sort=status&q=p", "sort=status&cluster=prod-eu"):
        answer = await api.get(f"/api/v1/resources/pods?limit=1&{query}&continue={token}".replace("&&", "&"))
        body = assert_problem(answer, 400, "invalid-parameter")
        assert "another query" in str(body["detail"])
        assert "start again" in str(body["next"])
    for damaged in (token[:-3], "x" + token, token * 2):
        answer = await api.get(f"/api/v1/resources/pods?limit=1&sort=status&continue={damaged}")
        assert_problem(answer, 400, "invalid-parameter")


@pytest.mark.usefixtures("stored")
async def test_events_of_the_fleet(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """`/resources/events` answers what `/events` answers, with all its parameters, in any order."""
    await fleet.event("prod-eu", "e1", minutes_ago=3)
    await fleet.event("prod-us", "e2", minutes_ago=2, reason="FailedMount", namespace="blog")
    await fleet.event("prod-eu", "e3", minutes_ago=1, type="Normal", reason="Pulled")
    for query, expected in {
        "": ["e3", "e2", "e1"],
        "sort=last_seen": ["e1", "e2", "e3"],
        "sort=-reason": ["e3", "e2", "e1"],
        "sort=cluster_id": ["e1", "e3", "e2"],
        "type=Warning&kind=Pod&name=web-0": ["e2", "e1"],
        "fieldSelector=reason%3DPulled": ["e3"],
        "cluster=prod-eu&cluster=prod-us&since=2026-11-21T07:58:30Z": ["e3"],
        "node=node-1&until=2026-11-21T07:58:30Z": ["e2", "e1"],
        "q=FAILEDMOUNT": ["e2"],
    }.items():
        short, long = [
            (await api.get(f"/api/v1{p}?{query}")).json() for p in ("/events", "/resources/events")
        ]
        assert short == long
        assert [row["name"] for row in short["items"]] == expected
    one = (await api.get("/api/v1/clusters/prod-eu/events?type=Normal&sort=name")).json()
    assert [row["name"] for row in one["items"]] == ["e3"]


@pytest.mark.parametrize(
    ("query", "groups"),
    [
        ("resource=pods", [{"count": 9}]),
        ("resource=pods&by=cluster", [{"count": 3, "cluster": cluster} for cluster in CLUSTERS]),
        (
            "resource=pods&by=state,namespace&cluster=prod-eu",
            [
                {"count": 1, "state": state, "namespace": namespace}
                for state, namespace in (("Pending", "blog"), ("Running", "blog"), ("Running", "shop"))
            ],
        ),
        ("by=resource", [{"count": 9, "resource": "pods"}, {"count": 3, "resource": "replicasets"}]),
        (
            "by=resource&owner=Deployment/web",
            [{"count": 3, "resource": name} for name in ("pods", "replicasets")],
        ),
        (
            "by=owner&resource=pods&labelSelector=app%3Dweb",
            [{"count": 3, "owner": o} for o in ("", "ReplicaSet/web-1")],
        ),
        ("by=kind&q=p2", [{"count": 3, "kind": "Pod"}]),
        ("by=cluster&resource=pods&limit=1", [{"count": 3, "cluster": "prod-eu"}]),
    ],
)
@pytest.mark.usefixtures("stored")
async def test_summary(api: httpx.AsyncClient, query: str, groups: list[dict[str, Any]]) -> None:
    """Objects are counted by up to three things under the filters of lists, the largest group first."""
    answer = await api.get(f"/api/v1/summary?{query}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    counted = [{k: v for k, v in g.items() if k not in ("desired", "ready")} for g in body["items"]]
    assert counted == groups
    assert body["remaining"] == (2 if "limit" in query else 0)
    assert body["as_of"] == "2026-11-21T08:00:00Z"
    if "resource=pods" in query and "cluster=" not in query:
        assert [entry["cluster"] for entry in body["collections"]] == ["prod-us", "staging"]


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ("/api/v1/clusters/{id}/{resource}", "clusters/prod-eu/pods"),
        ("/api/v1/clusters/{id}/{resource}", "clusters/prod-eu/events"),
        ("/api/v1/resources/{resource}", "resources/pods"),
        ("/api/v1/resources/{resource}", "resources/events"),
        ("/api/v1/events", "events"),
        ("/api/v1/summary", "summary"),
    ],
)
@pytest.mark.usefixtures("stored")
async def test_the_examples_of_parameters_work(api: httpx.AsyncClient, operation: str, path: str) -> None:
    """Each documented example is of its parameter's type, and is answered."""
    document = json.loads(openapi_file()[FILE])
    for parameter in document["paths"][operation]["get"]["parameters"]:
        name = parameter["name"]
        examples = parameter.get("examples", {"": {"value": parameter.get("example")}})
        for example in (entry["value"] for entry in examples.values()):
            schema = parameter["schema"] | {"components": document["components"]}
            Draft202012Validator(schema).validate(example)
            assert example is not None, name
            if parameter["in"] != "query" or name == "continue":
                continue
            value = ",".join(example) if isinstance(example, list) else example
            answer = await api.get(f"/api/v1/{path}", params={name: value})
            [other] = {"events", "objects"} - {"events" if "events" in path else "objects"}
            only = {"events": EVENTS_ONLY, "objects": {"labelSelector", "owner"}}[other]
            needs_resource = path == "summary" and name == "fieldSelector"
            refused = name in only or needs_resource
            assert answer.status_code == (400 if refused else 200), answer.text


async def test_a_slow_query_ends(either_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its time the database ends a query, and its reader is told to narrow it; others go on."""

    async def slow(connection: Connection, *_: object, **__: object) -> None:
        numbers = "SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}"
        count = f"WITH RECURSIVE n(i) AS ({numbers}) SELECT max(i) FROM n"
        assert (await connection.exec_driver_sql(count.format(10))).scalar_one() == 10
        await connection.exec_driver_sql(count.format(10**9))

    monkeypatch.setattr(queries, "list_resources", slow)
    async with Database(either_url, query_timeout=2.0) as database:
        transport = httpx.ASGITransport(create_app(database, Health("api"), Hub(database)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=20, headers=AUTHORIZED
        ) as api:
            for _ in range(3):
                body = assert_problem(await api.get("/api/v1/resources/pods"), 503, "query-timeout")
            assert "2s" in str(body["detail"])
            assert "narrow it" in str(body["next"])
            assert (await api.get("/api/v1/clusters")).status_code == 200
