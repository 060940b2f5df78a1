"""Objects by label, field, owner and text, and how the database finds them."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from schemas.frames import Frame
from schemas.ids import kubernetes
from schemas.selectors import parse_field_selector, parse_label_selector
from services.persistence import queries
from services.persistence.database.engine import Connection, Database
from services.persistence.queries import ResourceFilter, paging
from services.persistence.state.applier import FrameApplier
from tests.persistence.frames import FrameSource, Log, apply_all

PODS = 600


def obj(name: str, namespace: str = "shop", owner: tuple[str, str] | None = None, **more: Any) -> bytes:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": more.pop("labels", {})}
    if owner:
        metadata["ownerReferences"] = [
            {"kind": owner[0], "name": owner[1], "uid": "u", "controller": True, "apiVersion": "v1"}
        ]
    return msgspec.json.encode({"metadata": metadata, **more})


@pytest.fixture
async def connection(db: Database) -> AsyncIterator[Connection]:
    """Two clusters: a Deployment, a CronJob, what they own, and many pods of nobody."""
    for cluster in ("a", "b"):
        resources = ("pods", "replicasets", "deployments", "jobs", "cronjobs", "nodes")
        source = FrameSource(kubernetes(cluster), resources=resources)
        for resource, name, owner in (
            ("deployments", "web", None),
            ("replicasets", "web-1", ("Deployment", "web")),
            ("replicasets", "web-2", ("Deployment", "web")),
            ("cronjobs", "tidy", None),
            ("jobs", "tidy-1", ("CronJob", "tidy")),
            ("pods", "web-1-a", ("ReplicaSet", "web-1")),
            ("pods", "web-2-a", ("ReplicaSet", "web-2")),
            ("pods", "tidy-1-a", ("Job", "tidy-1")),
            ("pods", "mirror", ("Node", "node-1")),
        ):
            source.held[resource, "shop", name] = obj(name, owner=owner)
        source.held["replicasets", "blog", "web-1"] = obj("web-1", "blog", ("Deployment", "web"))
        source.held["pods", "blog", "web-1-b"] = obj("web-1-b", "blog", ("ReplicaSet", "web-1"))
        source.held["nodes", "", "node-1"] = obj("node-1", "")
        for number in range(PODS):
            labels = {"app": f"app-{number % 60}", "tier": "web" if number % 2 else "db"}
            if number % 7 == 0:
                labels["canary"] = "yes"
            body = obj(
                f"p{number:03}",
                labels=labels,
                spec={"nodeName": f"node-{number % 5}"},
                status={"phase": "Running" if number % 3 else "Pending"},
            )
            source.held["pods", "shop", f"p{number:03}"] = body
        log, applier = Log(), FrameApplier(db, source.target.shard)
        frames: list[Frame] = [source.begin("e"), *source.all(100)]
        await apply_all(applier, [log.receive(source.target, frame) for frame in frames], log.cursor)
    if not db.is_sqlite:  # by itself it does so within a minute
        async with db.write() as connection:
            await connection.exec_driver_sql("ANALYZE resource")
    async with db.read() as connection:
        yield connection


async def found(
    connection: Connection, sort: str = "", limit: int = 10_000, **where: Any
) -> list[tuple[str, str]]:
    """(cluster, name) of all pages."""
    rows, token = [], ""
    while True:
        filter_ = ResourceFilter(**({"resource": "pods"} | where))
        page = await queries.list_resources(connection, filter_, sort=sort, limit=limit, continue_=token)
        rows += [msgspec.json.decode(item) for item in page.items]
        if not (token := page.continue_):
            return [(row["cluster"], row["name"]) for row in rows]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("app=app-7", lambda n: n % 60 == 7),
        ("app in (app-1,app-2)", lambda n: n % 60 in (1, 2)),
        ("tier=web,app=app-7", lambda n: n % 60 == 7),
        ("canary", lambda n: n % 7 == 0),
        ("canary,tier=web", lambda n: n % 7 == 0 and n % 2),
        ("tier=web,!canary", lambda n: n % 2 and n % 7),
        ("tier,tier!=web", lambda n: n % 2 == 0),
        ("app=none", lambda _: False),
    ],
)
async def test_labels(connection: Connection, text: str, holds: Any) -> None:
    """A label selector finds the same rows in the same order whatever leads, in pages of any size."""
    expected = [("a", f"p{n:03}") for n in range(PODS) if holds(n)]
    both = expected + [("b", name) for _, name in expected]
    labels = parse_label_selector(text)
    one = (kubernetes("a"),)
    assert await found(connection, labels=labels, targets=one) == expected
    assert await found(connection, labels=labels) == both
    assert await found(connection, labels=labels, limit=37) == both
    assert await found(connection, labels=labels, sort="-name", targets=one, limit=50) == expected[::-1]
    assert sorted(await found(connection, labels=labels, sort="node", limit=70)) == both
    assert await found(connection, labels=labels, namespace="none") == []


async def test_labels_with_other_filters(connection: Connection) -> None:
    """All that is asked for holds together."""
    where = {
        "labels": parse_label_selector("tier=web"),
        "fields": parse_field_selector("status.phase=Pending"),
        "node": "node-3",
        "q": "P00",
        "targets": (kubernetes("b"),),
    }
    expected = [("b", f"p{n:03}") for n in range(10) if n % 2 and n % 3 == 0 and n % 5 == 3]
    assert expected
    assert await found(connection, **where) == expected


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (("ReplicaSet", "web-2"), ["web-2-a"]),
        (("ReplicaSet", "web-1"), ["web-1-b", "web-1-a"]),
        (("Deployment", "web"), ["web-1-b", "web-1-a", "web-2-a"]),
        (("CronJob", "tidy"), ["tidy-1-a"]),
        (("Node", "node-1"), ["mirror"]),
        (("Deployment", "tidy"), []),
        (("deployment", "web"), []),
    ],
)
async def test_owners(connection: Connection, owner: tuple[str, str], names: list[str]) -> None:
    """An owner's objects are found directly and through the chain, in each cluster its own."""
    assert await found(connection, owner=owner, targets=(kubernetes("a"),)) == [("a", name) for name in names]
    both = [(cluster, name) for cluster in ("a", "b") for name in names]
    assert await found(connection, owner=owner) == both
    assert await found(connection, owner=owner, limit=1) == both


async def test_owners_of_a_namespace(connection: Connection) -> None:
    """The chain stays in its namespace; a Deployment's ReplicaSets are found as well."""
    assert await found(
        connection, owner=("Deployment", "web"), namespace="blog", targets=(kubernetes("a"),)
    ) == [("a", "web-1-b")]
    names = await found(connection, resource="replicasets", owner=("Deployment", "web"))
    assert [name for _, name in names] == ["web-1", "web-1", "web-2"] * 2


@pytest.mark.parametrize(
    ("q", "count"),
    [("WEB-1-", 2), ("tidy-1-A", 1), ("Job/tidy", 1), ("%", 0), ("_", 0), ("blog", 1), ("node-4", PODS // 5)],
)
async def test_text(connection: Connection, q: str, count: int) -> None:
    """`q` is a piece of name, namespace, node or owner in any case; wildcards are data."""
    assert len(await found(connection, q=q, targets=(kubernetes("a"),))) == count


@pytest.mark.parametrize("keyed", [paging.KEYED, 0])
async def test_the_index_leads(connection: Connection, keyed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of a list by label begins with the index over labels, and on SQLite nothing is sorted."""
    monkeypatch.setattr(paging, "KEYED", keyed)
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    sa.event.listen(connection.sync_connection, "before_cursor_execute", note)
    labels = parse_label_selector("app=app-7,tier=web")
    for targets in (None, (kubernetes("a"),), (kubernetes("a"), kubernetes("b"))):
        statements.clear()
        where = ResourceFilter(resource="pods", labels=labels, targets=targets)
        await queries.list_resources(connection, where, limit=5)
        limited = [entry for entry in statements if "LIMIT" in entry[0]]
        assert len(limited) == (2 if keyed else 3)
        if connection.dialect.name == "sqlite":
            for statement, parameters in limited:
                plan = [
                    row[3]
                    for row in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                ]
                plan = [step for step in plan if step.startswith(("SEARCH", "USE"))]
                assert plan[0].startswith("SEARCH found USING PRIMARY KEY (resource=? AND key=? AND value=?")
                assert not [step for step in plan if "TEMP B-TREE" in step], plan
        else:
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = [
                row[0] for row in await connection.exec_driver_sql(f"EXPLAIN {limited[0][0]}", limited[0][1])
            ]
            assert any("ix_resource_labels" in step for step in plan), plan


async def test_counts(connection: Connection) -> None:
    """Groups are counted as the rows are, the largest first, and those beyond the limit by number."""

    async def counted(*by: str, limit: int = 100, **where: Any) -> tuple[dict[Any, int], int]:
        counts = await queries.count_objects(connection, ResourceFilter(**where), by, limit=limit)
        return {tuple(g.values.values()): g.count for g in counts.groups}, counts.remaining

    assert await counted("cluster", resource="pods") == ({("a",): PODS + 5, ("b",): PODS + 5}, 0)
    pods, remaining = await counted("state", "cluster", resource="pods", targets=(kubernetes("b"),))
    assert (pods["Running", "b"], pods["Pending", "b"], remaining) == (400, 200, 0)
    every, _ = await counted("resource")
    assert every == {
        ("pods",): 2 * PODS + 10,
        ("replicasets",): 6,
        ("deployments",): 2,
        ("jobs",): 2,
        ("cronjobs",): 2,
        ("nodes",): 2,
    }
    assert await counted("resource", limit=2) == ({("pods",): 2 * PODS + 10, ("replicasets",): 6}, 4)
    assert await counted() == ({(): 2 * PODS + 24}, 0)
    assert await counted(resource="pods", owner=("Deployment", "web")) == ({(): 6}, 0)
    by_owner, _ = await counted("owner", "namespace", resource="pods", targets=(kubernetes("a"),))
    assert by_owner["Node/node-1", "shop"] == 1
    labelled = await counted("node", resource="pods", labels=parse_label_selector("app=app-7"))
    assert labelled == ({("node-2",): 20}, 0)
    assert await counted("cluster", labels=parse_label_selector("app=app-7")) == ({("a",): 10, ("b",): 10}, 0)
