"""Selectors select what the API server selects: the same objects, and the same ones are refused."""

import asyncio
import json
import random
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa

from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from schemas.selectors import SelectorError, parse_field_selector, parse_label_selector
from services.cli.cluster.components import STORE
from services.cli.cluster.control_plane import ControlPlane
from services.persistence import tables
from services.persistence.database.engine import Database
from services.persistence.queries.selecting import field_conditions, label_conditions
from tests.cluster.throwaway import Throwaway
from tests.e2e.selectable import KEYS, SPACES, VALUES, make_objects
from tests.e2e.system import System

pytestmark = [pytest.mark.timeout(900), pytest.mark.cluster]

SEED = 20261121
SELECTORS = 300
WITH_KUBECTL = 30


@dataclass
class Stage:
    """A cluster, and what AtlHyper holds of it."""

    plane: ControlPlane
    http: httpx.Client
    """To the API server."""
    database: Path

    def listed(self, kind: Kind, labels: str = "", fields: str = "") -> set[str]:
        """Names of what the API server selects."""
        response = self.asked(kind, labels, fields)
        assert response.status_code == 200, response.text
        return {item["metadata"]["name"] for item in response.json()["items"]}

    def asked(self, kind: Kind, labels: str = "", fields: str = "", **more: str) -> httpx.Response:
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        return self.http.get(kind.path(), params=selectors | more)

    def kubectl(self, kind: Kind, labels: str, fields: str) -> set[str]:
        """Names of what kubectl shows."""
        words = [
            "get",
            kind.resource,
            "-A",
            "-o",
            "name",
            f"--selector={labels}",
            f"--field-selector={fields}",
        ]
        return {line.partition("/")[2] for line in self.plane.kubectl(*words).split()}

    async def found(self, kind: Kind, labels: str = "", fields: str = "") -> set[str]:
        """Names of the rows that meet our conditions."""
        conditions = field_conditions(kind.resource, parse_field_selector(fields))
        if labels:
            conditions += label_conditions(parse_label_selector(labels))
        return {name for name, _ in await self._rows(kind, *conditions)}

    async def is_held(self, kind: Kind) -> bool:
        """Whether there is a row of each object in its present version."""
        listed = [item["metadata"] for item in self.asked(kind).json()["items"]]
        held = [msgspec.json.decode(body)["metadata"] for _, body in await self._rows(kind)]
        return _versions(listed) == _versions(held)

    async def _rows(self, kind: Kind, *conditions: sa.ColumnElement[bool]) -> Sequence[sa.Row[Any]]:
        if kind.resource == "events":
            table = tables.table_of(tables.Event).c
        else:
            table = tables.table_of(tables.Resource).c
            conditions = (table.resource == kind.resource, *conditions)
        async with Database(f"sqlite+aiosqlite:///{self.database}") as db, db.read() as connection:
            query = sa.select(table.name, table.body).where(*conditions)
            return (await connection.execute(query)).all()


def _versions(metadata: list[dict[str, Any]]) -> dict[str, str]:
    return {one["uid"]: one["resourceVersion"] for one in metadata}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An API server with the objects, on which nothing acts, and everything of ours attached to it."""
    with Throwaway(tmp_path_factory.mktemp("store"), components=STORE) as plane:
        token = plane.layout.token_file.read_text().split(",", 1)[0]
        with httpx.Client(
            base_url=plane.layout.url("kube-apiserver"),
            verify=ssl.create_default_context(cafile=str(plane.layout.certificate("kube-apiserver"))),
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        ) as http:
            objects = make_objects(random.Random(SEED))
            for resource, contents in objects.items():
                for content in contents:
                    create(http, KINDS[resource], content)
                if resource == "namespaces":
                    for space in SPACES:
                        for name in ("default", "robot"):
                            post(
                                http,
                                f"/api/v1/namespaces/{space}/serviceaccounts",
                                {"metadata": {"name": name}},
                            )
            for number in range(4):  # nobody finishes it, so it stays in that phase
                http.delete(f"/api/v1/namespaces/namespaces-{number}").raise_for_status()
            home = tmp_path_factory.mktemp("home")
            with System(home, plane.kubeconfig, "selected") as system:
                stage = Stage(plane, http, home / "atlhyper.db")
                for kind in KINDS.values():
                    system.until(lambda kind=kind: asyncio.run(stage.is_held(kind)))
                yield stage


def create(http: httpx.Client, kind: Kind, content: dict[str, Any]) -> None:
    """Create it, then give it the status that a cluster at work would."""
    identity = {"apiVersion": kind.api_version, "kind": kind.kind}
    path = kind.path(content["metadata"].get("namespace", ""))
    post(http, path, identity | content)
    if "status" in content:
        response = http.patch(
            f"{path}/{content['metadata']['name']}/status",
            content=json.dumps({"status": content["status"]}),
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert response.status_code == 200, response.text


def post(http: httpx.Client, path: str, content: dict[str, Any]) -> None:
    response = http.post(path, json=content)
    assert response.status_code == 201, response.text


# -- what is selected -------------------------------------------------------------------------------------

FIELD_VALUES = {
    "metadata.name": ["pods-1", "nodes-3", "namespaces-2", "events-5", "jobs-1", "none"],
    "metadata.namespace": [*SPACES, "", "default"],
    "spec.nodeName": ["nodes-1", "nodes-2", ""],
    "spec.host": ["nodes-1", ""],
    "spec.restartPolicy": ["Always", "Never", "always"],
    "spec.schedulerName": ["default-scheduler", "own", ""],
    "spec.serviceAccountName": ["default", "robot", ""],
    "spec.hostNetwork": ["true", "false", "", "True"],
    "status.phase": ["Pending", "Running", "Failed", "Active", "Terminating", ""],
    "status.podIP": ["10.0.0.1", "10.0.0.2", "fd00::1", ""],
    "status.podIPs": ["10.0.0.1", ""],
    "status.nominatedNodeName": ["nodes-1", ""],
    "spec.unschedulable": ["true", "false", "", "1"],
    "spec.clusterIP": ["None", "10.0.0.1", ""],
    "spec.type": ["ClusterIP", "NodePort", ""],
    "status.successful": ["0", "1", "12", "012", ""],
    "involvedObject.kind": ["Pod", "Node", ""],
    "involvedObject.name": ["pods-1", "nodes-1"],
    "involvedObject.namespace": [*SPACES, ""],
    "involvedObject.uid": ["a", "b", ""],
    "involvedObject.apiVersion": ["v1", ""],
    "involvedObject.fieldPath": ["spec.containers{c}", ""],
    "reason": ["Killing", "Pulled", ""],
    "reportingComponent": ["c", "kubelet", ""],
    "source": ["c", "kubelet", ""],
}
TYPES = {"events": ["Normal", "Warning", ""], "secrets": ["Opaque", "example.com/a", ""]}


def label_selector(randoms: random.Random) -> str:
    """In any of the ways in which one can be written."""
    pick = randoms.choice
    gap = pick(["", "", " ", "\t "])

    def requirement() -> str:
        key, value = pick([*KEYS, "absent"]), pick(VALUES)
        values = f",{gap}".join(pick(VALUES) for _ in range(randoms.randrange(4)))
        forms = [
            "{k}{g}={v}",
            "{k}=={g}{v}",
            "{k}!={v}",
            "{k} in {g}({s})",
            "{k} notin ({s}{g})",
            "{k}",
            "!{g}{k}",
        ]
        forms += ["{k}>{g}{n}", "{k}<{n}"]
        return pick(forms).format(
            k=key, v=value, s=values, g=gap, n=pick(["0", "7", "08", "9223372036854775806"])
        )

    return f"{gap},".join(requirement() for _ in range(pick([1, 1, 2, 3])))


def field_selector(randoms: random.Random, kind: Kind) -> str:
    """By one to three of the fields of its kind."""

    def term() -> str:
        field = randoms.choice(kind.selectable).field
        values = TYPES[kind.resource] if field == "type" else FIELD_VALUES[field]
        return f"{field}{randoms.choice(['=', '==', '!='])}{randoms.choice(values)}"

    return ",".join(term() for _ in range(randoms.choice([1, 1, 2, 3])))


async def test_the_same_objects_are_selected(stage: Stage) -> None:
    """300 selectors over nine kinds find in the rows what they find in the cluster, 30 of them by kubectl."""
    print(f"seed {SEED}")
    randoms = random.Random(SEED)
    kinds = [KINDS[resource] for resource in make_objects(random.Random(SEED))] + [KINDS["pods"]] * 3
    some = 0
    for number in range(SELECTORS):
        kind = randoms.choice(kinds)
        by_labels = kind.resource != "events" and randoms.random() < 0.7
        labels = label_selector(randoms) if by_labels else ""
        fields = field_selector(randoms, kind) if not by_labels or randoms.random() < 0.4 else ""
        ask = stage.kubectl if number < WITH_KUBECTL else stage.listed
        wanted = ask(kind, labels, fields)
        assert await stage.found(kind, labels, fields) == wanted, (kind.resource, labels, fields)
        some += 0 < len(wanted) < len(stage.listed(kind)) if number % 3 == 0 else 0
    assert some > SELECTORS / 3 / 3, "a third of those looked at select some, and not all"


def test_kinds_can_be_selected_by_the_same_fields(stage: Stage) -> None:
    """For every kind and every field of any kind, the API server takes it if and only if we do."""
    known = {item.field for kind in KINDS.values() for item in kind.selectable}
    more = {"", "name", "kind", "spec", "metadata.uid", "metadata.labels", "status.replicas", "spec.replicas"}
    not_kept = {"involvedObject.resourceVersion"}
    for kind in KINDS.values():
        ours = {item.field for item in kind.selectable}
        for field in known | more | not_kept:
            taken = stage.asked(kind, fields=f"{field}=x", limit="1").status_code
            assert taken in (200, 400)
            if not (kind.resource == "events" and field in not_kept):
                assert (taken == 200) == (field in ours), (kind.resource, field)


WRONG_LABELS = [
    *(",", "=", "=b", "a,", "a,,b", ",a", "a b", "a=b c", "a=b=c", "a===b", "!", "!!a", "!a=b", "!a in (b)"),
    *("a!b", "a in", "a in b", "a in (b", "a in (b c)", "a in (=)", "a in (b))", "a IN (b)", "a=(b)", "a=>1"),
    *(
        "a>",
        "a>b",
        "a>1.5",
        "a>-1",
        "a<9223372036854775808",
        "-a",
        "a.",
        "a/b/c",
        "/a",
        "a/",
        "A/b",
        "ä",
        "a=-b",
    ),
    *("a=b/c", "a='b'", "a in (b,*)", "k" * 64, f"a={'v' * 64}", f"{'p' * 254}/k", "a=b\0c", "a=b;c", "(a)"),
]
WRONG_FIELDS = [
    *("a", "metadata.name", "metadata.name=a=b", "metadata.name===a", "metadata.name>a", "metadata.name=a\\"),
    *("metadata.name=\\a", "metadata.name in (a)", " metadata.name=a", "metadata.name =a", "Metadata.name=a"),
    *(
        "==a",
        "metadata.name=a;b=c",
        "metadata.name=a,b=c",
        "metadata.name!a",
        "!metadata.name=a",
        "metadata=a",
    ),
]


async def test_the_same_selectors_are_refused(stage: Stage) -> None:
    """What the API server answers with 400 is an error of ours that names the place, and nothing else is."""
    pods = KINDS["pods"]
    for selector in ["a=b\0", "a in (,)", " ", "=,", ",metadata.name=a,", "metadata.name=\\,"]:
        is_field = "metadata" in selector or selector == "=,"
        asked = ("", selector) if is_field else (selector, "")
        assert stage.asked(pods, *asked).status_code == 200, selector
        await stage.found(pods, *asked)
    for labels in WRONG_LABELS:
        assert stage.asked(pods, labels).status_code == 400, labels
        with pytest.raises(SelectorError, match=r"character [1-9]"):
            await stage.found(pods, labels)
    for fields in WRONG_FIELDS:
        assert stage.asked(pods, fields=fields).status_code == 400, fields
        with pytest.raises(SelectorError, match=r"character [1-9]|selected by '"):
            await stage.found(pods, fields=fields)
