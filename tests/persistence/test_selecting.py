"""Selectors as conditions of SQL: they find what `matches()` says, on both databases."""

import json
import random
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from schemas.ids import kubernetes
from schemas.kubernetes import KINDS, selectable_fields
from schemas.kubernetes.event import KubernetesEvent
from schemas.selectors import (
    MAX_REQUIREMENTS,
    MAX_VALUES,
    FieldSelector,
    FieldTerm,
    LabelSelector,
    Operator,
    Requirement,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
)
from services.persistence import tables
from services.persistence.database.engine import Database
from services.persistence.events.store import ObservedEvent, store_events
from services.persistence.queries.selecting import field_conditions, label_conditions
from services.persistence.state.applier import FrameApplier
from services.runtime.bus.cursor import Cursor
from tests.persistence.frames import START, FrameSource, Log, apply_all, body_of

KEYS = ["a", "A", "in", "1", "a.b", "a.b/c", "app.kubernetes.io/name", "x_y-z"]
VALUES = ["", "a", "A", "in", "true", "null", "0", "1", "007", "10", "9", "a.b", "a_b", "a%b"]
NUMBERS = ["9223372036854775807", "9223372036854775808", "99999999999999999999", "0" * 30 + "8"]
SEED = 36


def labels_of(randoms: random.Random) -> dict[str, str]:
    some = randoms.sample(KEYS, randoms.randrange(len(KEYS)))
    return {key: randoms.choice(VALUES + NUMBERS) for key in some}


def label_selector(randoms: random.Random) -> LabelSelector:
    requirements = []
    for _ in range(randoms.choice([0, 1, 1, 1, 2, 3])):
        operator, values = randoms.choice(list(Operator)), []
        if operator in (Operator.IN, Operator.NOT_IN):
            values = sorted(randoms.sample(VALUES, randoms.choice([1, 1, 2, 4])))
        elif operator in (Operator.GREATER, Operator.LESS):
            values = [randoms.choice(["0", "1", "008", "10", "9223372036854775807", "9223372036854775806"])]
        requirements.append(Requirement(randoms.choice([*KEYS, "absent"]), operator, tuple(values)))
    return LabelSelector(tuple(requirements))


async def keep(db: Database, *held: tuple[str, str, dict[str, Any]], log: Log | None = None) -> None:
    """All of an agent's objects by resource and namespace, as its frames bring them."""
    log = log or Log()
    source = FrameSource(kubernetes("a"), resources=tuple({resource for resource, *_ in held}))
    for resource, namespace, content in held:
        name = content["metadata"]["name"]
        content["metadata"] |= {"namespace": namespace, "uid": f"uid-{name}"}
        source.held[resource, namespace, name] = msgspec.json.encode(content)
    frames = [source.begin(f"epoch-{log.sequence}"), *source.all()]
    await apply_all(
        FrameApplier(db, source.target.shard),
        [log.receive(source.target, frame) for frame in frames],
        log.cursor,
    )


async def names(db: Database, resource: str, conditions: list[sa.ColumnElement[bool]]) -> list[str]:
    table = tables.table_of(tables.Resource).c
    async with db.read() as connection:
        query = sa.select(table.name).where(table.resource == resource, *conditions).order_by(table.name)
        return list(await connection.scalars(query))


async def by_labels(db: Database, selector: LabelSelector) -> list[str]:
    return await names(db, "pods", label_conditions(selector))


async def by_fields(db: Database, resource: str, text: str) -> list[str]:
    """Their names, which are those of the bodies that `matches` selects."""
    selector, fields = parse_field_selector(text), selectable_fields(resource)
    found = await names(db, resource, field_conditions(resource, selector))
    table = tables.table_of(tables.Resource).c
    async with db.read() as connection:
        query = sa.select(table.name, table.body).where(table.resource == resource).order_by(table.name)
        rows = (await connection.execute(query)).all()

    def selected(body: Any) -> bool:
        return selector.matches(lambda field: fields[field].value(body))

    assert found == [name for name, body in rows if selected(json.loads(body))]
    return found


async def test_labels_are_selected_as_matches_says(db: Database) -> None:
    """300 selectors over 200 sets of labels, and again after a third of the labels has changed."""
    randoms, log = random.Random(SEED), Log()
    held = {f"p{number:03}": labels_of(randoms) for number in range(200)}
    for _ in range(2):
        objects = ({"metadata": {"name": name, "labels": labels}} for name, labels in held.items())
        await keep(db, *(("pods", "n", content) for content in objects), log=log)
        for _ in range(150):
            selector = label_selector(randoms)
            expected = [name for name, labels in held.items() if selector.matches(labels)]
            assert await by_labels(db, selector) == expected, str(selector)
        held |= {name: labels_of(randoms) for name in randoms.sample(sorted(held), 70)}


async def test_labels_are_data(db: Database) -> None:
    """No key and no value, whatever its characters, is a part of the statement, a path or a pattern."""
    hostile = [
        "'",
        '"',
        "a'b",
        'a"b',
        "\\",
        "$",
        "$.a",
        "[0]",
        "a.b",
        "%",
        "_",
        "?",
        ":a",
        "{}",
        "\n",
        "ü",
        "\0",
        "*",
    ]
    await keep(
        db,
        *(
            ("pods", "n", {"metadata": {"name": f"p{i:02}", "labels": {text: text}}})
            for i, text in enumerate(hostile)
        ),
        ("pods", "n", {"metadata": {"name": "none"}}),
    )
    for index, text in enumerate(hostile):
        name = f"p{index:02}"
        for operator, values in ((Operator.EXISTS, ()), (Operator.IN, (text,))):
            assert await by_labels(db, LabelSelector((Requirement(text, operator, values),))) == [name], repr(
                text
            )
        for operator, values in ((Operator.NOT_EXISTS, ()), (Operator.NOT_IN, (text,))):
            found = await by_labels(db, LabelSelector((Requirement(text, operator, values),)))
            assert name not in found
            assert len(found) == len(hostile)


async def test_the_largest_selectors_are_answered(db: Database) -> None:
    """As many requirements, and as many values, as a selector may have."""
    await keep(db, ("pods", "n", {"metadata": {"name": "p", "labels": {"a": "v999"}}}))
    keys = ",".join(f"!k{number}" for number in range(MAX_REQUIREMENTS - 1))
    values = ",".join(f"v{number}" for number in range(MAX_VALUES))
    assert await by_labels(db, parse_label_selector(f"{keys},a in ({values})")) == ["p"]
    assert await by_labels(db, parse_label_selector(f"{keys},a notin ({values})")) == []
    terms = ",".join(f"status.phase!={number}" for number in range(MAX_REQUIREMENTS))
    assert await by_fields(db, "pods", terms) == ["p"]


POD = {
    "metadata": {"name": "web"},
    "spec": {
        "nodeName": "node-1",
        "restartPolicy": "Never",
        "schedulerName": "own",
        "serviceAccountName": "sa",
        "hostNetwork": True,
    },
    "status": {
        "phase": "Running",
        "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
        "nominatedNodeName": "node-2",
    },
}


@pytest.mark.parametrize(
    ("field", "value", "absent"),
    [
        ("metadata.name", "web", "bare"),
        ("spec.nodeName", "node-1", ""),
        ("spec.host", "node-1", ""),
        ("spec.restartPolicy", "Never", ""),
        ("spec.schedulerName", "own", "default-scheduler"),
        ("spec.serviceAccountName", "sa", ""),
        ("spec.hostNetwork", "true", "false"),
        ("status.phase", "Running", ""),
        ("status.podIP", "10.0.0.1", ""),
        ("status.nominatedNodeName", "node-2", ""),
    ],
)
async def test_a_field_and_its_absence(db: Database, field: str, value: str, absent: str) -> None:
    """What an object has not is empty, or as the API server fills it in; `!=` is the opposite of `=`."""
    await keep(
        db,
        ("pods", "n", msgspec.json.decode(msgspec.json.encode(POD))),
        ("pods", "n", {"metadata": {"name": "bare"}}),
    )
    assert await by_fields(db, "pods", f"{field}={value}") == ["web"]
    assert await by_fields(db, "pods", f"{field}!={value}") == ["bare"]
    assert await by_fields(db, "pods", f"{field}={absent}") == ["bare"]
    assert await by_fields(db, "pods", f"{field}!={absent}") == ["web"]
    assert await by_fields(db, "pods", f"{field}=else") == []


async def test_fields_of_the_other_kinds(db: Database) -> None:
    """Numbers and booleans are compared as they are written; all terms have to hold."""
    await keep(
        db,
        ("nodes", "", {"metadata": {"name": "cordoned"}, "spec": {"unschedulable": True}}),
        ("nodes", "", {"metadata": {"name": "open"}}),
        ("jobs", "n", {"metadata": {"name": "done"}, "status": {"succeeded": 12}}),
        ("jobs", "n", {"metadata": {"name": "new"}}),
        ("secrets", "n", {"metadata": {"name": "token"}, "type": "kubernetes.io/tls"}),
        ("namespaces", "", {"metadata": {"name": "going"}, "status": {"phase": "Terminating"}}),
        ("services", "n", {"metadata": {"name": "head"}, "spec": {"clusterIP": "None", "type": "ClusterIP"}}),
        ("pods", "n", POD | {"metadata": {"name": "ip"}}),
        ("widgets.example.com", "n", {"kind": "Widget", "metadata": {"name": "w"}}),
    )
    for resource, text, wanted in [
        ("nodes", "spec.unschedulable=true", ["cordoned"]),
        ("nodes", "spec.unschedulable=false", ["open"]),
        ("nodes", "spec.unschedulable=True", []),
        ("nodes", "spec.unschedulable=1", []),
        ("nodes", "spec.unschedulable!=", ["cordoned", "open"]),
        ("jobs", "status.successful=12", ["done"]),
        ("jobs", "status.successful=0", ["new"]),
        ("jobs", "status.successful=012", []),
        ("secrets", "type=kubernetes.io/tls", ["token"]),
        ("namespaces", "status.phase=Terminating", ["going"]),
        ("services", "spec.clusterIP=None,spec.type=ClusterIP", ["head"]),
        ("services", "spec.clusterIP=None,spec.type=NodePort", []),
        ("pods", "status.podIPs=10.0.0.1", []),
        ("pods", "status.podIPs=", ["ip"]),
        ("pods", "metadata.namespace=n", ["ip"]),
        ("pods", "metadata.namespace!=n", []),
        ("widgets.example.com", "metadata.name!=x,metadata.namespace=n", ["w"]),
        ("pods", "", ["ip"]),
    ]:
        assert await by_fields(db, resource, text) == wanted, (resource, text)


async def test_fields_are_data(db: Database) -> None:
    """A value of any characters is compared and nothing else; so are texts beyond ASCII."""
    texts = ["'", '"', "\\", "%", "_", "a,b=c", "ü", "😀", "\n"]
    phases = (
        ("pods", "n", {"metadata": {"name": f"p{i}"}, "status": {"phase": text}})
        for i, text in enumerate(texts)
    )
    await keep(db, *phases)
    for index, text in enumerate(texts):
        selector = FieldSelector((FieldTerm("status.phase", True, text),))
        assert await names(db, "pods", field_conditions("pods", selector)) == [f"p{index}"], repr(text)
    for text in ("\0", "null", "[", "' OR 1=1 --"):
        for field in ("status.phase", "metadata.name"):
            selector = FieldSelector((FieldTerm(field, True, text),))
            assert await names(db, "pods", field_conditions("pods", selector)) == []


async def test_one_strange_body_breaks_no_list(db: Database) -> None:
    """What an agent sends beside the fields may be nothing that a database reads: its row is one of many."""
    source, log = FrameSource(kubernetes("a")), Log()
    good = body_of("good")
    strange = {
        "utf-8": good[:-1] + b',"x":"\xff"}',
        "nul": good[:-1] + rb',"x":"\u0000 \\u0000","\u0000":1}',
        "number": good[:-1] + b',"x":1e999999}',
        "deep": good[:-1] + b',"x":' + b"[" * 400 + b"]" * 400 + b"}",
        "no-json": b'{"metadata":{"name":"no-json"}',
        "list": b"[]",
        "types": b'{"status":{"phase":["Running"]},"spec":"x"}',
    }
    for name, body in strange.items():
        source.held["pods", "n", name] = body
    source.held["pods", "n", "good"] = good
    frames = [source.begin("epoch-1"), *source.all()]
    received = [log.receive(source.target, frame) for frame in frames]
    await apply_all(FrameApplier(db, source.target.shard), received, log.cursor)
    found = await by_fields(db, "pods", "status.phase=Running")
    assert set(found) == {"good", "nul", "number", "deep"}
    assert len(await by_fields(db, "pods", "status.phase!=x")) == len(source.held)


async def test_events_are_selected_in_their_own_table(db: Database) -> None:
    """By the object they are about, reason, type and reporter; `source` is whichever reporter there is."""
    old = {
        "involvedObject": {"kind": "Pod", "name": "web", "uid": "u1", "fieldPath": "spec"},
        "reason": "Killing",
        "type": "Normal",
        "source": {"component": "kubelet", "host": "n"},
    }
    new = {
        "involvedObject": {"kind": "Node", "name": "n1", "apiVersion": "v1"},
        "reason": "Added",
        "type": "Warning",
        "reportingComponent": "controller",
    }
    observed = []
    for number, (name, content) in enumerate({"old": old, "new": new}.items(), 1):
        content["metadata"] = {
            "name": name,
            "namespace": "n",
            "uid": name,
            "creationTimestamp": START.isoformat(),
        }
        event = KubernetesEvent.decode(msgspec.json.encode(content))
        observed.append(ObservedEvent("a", event, "epoch-1", number))
    await store_events(db, observed, Cursor("test", "EVENTS", START, 1))
    table = tables.table_of(tables.Event).c
    for text, wanted in [
        ("involvedObject.kind=Pod", ["old"]),
        ("involvedObject.uid!=u1", ["new"]),
        ("involvedObject.fieldPath=spec", ["old"]),
        ("involvedObject.apiVersion=", ["old"]),
        ("involvedObject.namespace=", ["new", "old"]),
        ("reason=Added,type=Warning", ["new"]),
        ("source=kubelet", ["old"]),
        ("source=controller", ["new"]),
        ("reportingComponent=", ["old"]),
        ("metadata.name=new,metadata.namespace=n", ["new"]),
    ]:
        conditions = field_conditions("events", parse_field_selector(text))
        async with db.read() as connection:
            query = sa.select(table.name).where(*conditions).order_by(table.name)
            assert list(await connection.scalars(query)) == wanted, text


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ("pods", "spec.containers=x"),
        ("pods", "status.podIP=1,Status.phase=Running"),
        ("pods", "==x"),
        ("nodes", "metadata.namespace="),
        ("deployments", "status.replicas=1"),
        ("replicasets", "status.replicas=1"),
        ("events", "involvedObject.resourceVersion=1"),
        ("widgets.example.com", "spec.size=1"),
    ],
)
def test_a_field_that_selects_nothing_of_a_kind(resource: str, text: str) -> None:
    """It is refused by name, with those that can be selected by."""
    with pytest.raises(SelectorError, match=r"cannot be selected by '") as caught:
        field_conditions(resource, parse_field_selector(text))
    assert "metadata.name" in caught.value.next_step


async def test_what_can_be_selected_by_is_in_the_projection(db: Database) -> None:
    """Every declared path leads to a field of the kind's schema, and both databases take it."""
    for kind in KINDS.values():
        schema = msgspec.json.schema(kind.model)
        for item in kind.selectable:
            for path in item.at:
                at: Any = schema
                for step in path.split("."):
                    at = _resolved(at, schema)
                    at = at["items"] if step.isdecimal() else at["properties"][step]
            text = f"{item.field}=x"
            if kind.resource != "events":
                assert await by_fields(db, kind.resource, text) == []


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in part.get("anyOf", [part]):
        if "$ref" in option:
            return dict(schema["$defs"][option["$ref"].removeprefix("#/$defs/")])
        if option.get("type") == "array":
            return dict(option)
    return part


class Explain(sa.Executable, sa.ClauseElement):
    """How the database goes about a query."""

    inherit_cache = False

    def __init__(self, query: sa.Select[Any]) -> None:
        self.query = query


@compiles(Explain)
def _explain(element: Explain, compiler: Any, **options: Any) -> str:
    word = "EXPLAIN QUERY PLAN" if compiler.dialect.name == "sqlite" else "EXPLAIN"
    return f"{word} {compiler.process(element.query, **options)}"


async def test_an_index_answers_for_labels(db: Database) -> None:
    """Neither database reads the labels of all objects to find few."""
    many = (("pods", "n", {"metadata": {"name": f"p{i}", "labels": {"app": f"a{i}"}}}) for i in range(2000))
    await keep(db, *many)
    conditions = label_conditions(parse_label_selector("app=a7"))
    table = tables.table_of(tables.Resource).c
    query = sa.select(table.name).where(table.resource == "pods", *conditions)
    async with db.write() as connection:
        if not db.is_sqlite:
            await connection.exec_driver_sql("ANALYZE resource")
        plan = str((await connection.execute(Explain(query))).all())
    assert ("label USING PRIMARY KEY" in plan) if db.is_sqlite else ("ix_resource_labels" in plan), plan
