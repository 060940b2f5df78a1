"""The OpenAPI document and the API are the same thing."""

import json
import re
from typing import Any

import httpx
import pytest
import schemathesis
from jsonschema import Draft202012Validator

from schemas.actions import ACTIONS
from schemas.ids import AgentKind
from schemas.kubernetes.pod import Pod
from services.api.app import openapi_file
from services.api.http import problems
from services.api.http.document import FILE as OPENAPI_FILE
from tests.api.fixtures import Fleet, meta
from tests.api.watch.changing import Cluster, forget_tombstones
from tests.api.watch.following import follow, replica

DOCUMENT: dict[str, Any] = json.loads(openapi_file()[OPENAPI_FILE])
PATHS = sorted(DOCUMENT["paths"])
OPERATIONS = [(path, method) for path in PATHS for method in DOCUMENT["paths"][path]]
READ = [path for path, method in OPERATIONS if method == "get"]
WATCH = "/api/v1/watch"
_ELSEWHERE = re.compile(r"/(dead-letters|commands|operations)/\{id\}$|/live$|/logs/")
"""What is there only when something was stored, or an agent answers: tests of their own show it."""


async def test_what_is_served_is_what_is_generated(api: httpx.AsyncClient) -> None:
    """The file in the repository and `/schema/openapi.json` agree; it needs no database to be made."""
    assert (await api.get("/schema/openapi.json")).json() == DOCUMENT
    assert DOCUMENT["openapi"] == "3.1.0"
    assert openapi_file() == openapi_file()


def test_the_paths_are_the_promised_ones() -> None:
    """Every path of this version, and no other."""
    assert PATHS == [
        "/",
        "/api/v1/agents",
        "/api/v1/agents/{kind}/{id}",
        "/api/v1/agents/{kind}/{id}/resources/{resource}",
        "/api/v1/agents/{kind}/{id}/resources/{resource}/{namespace}/{name}",
        "/api/v1/agents/{kind}/{id}/resources/{resource}/{namespace}/{name}/live",
        "/api/v1/agents/{kind}/{id}/resources/{resource}/{namespace}/{name}/related",
        "/api/v1/clusters",
        "/api/v1/clusters/{id}",
        "/api/v1/clusters/{id}/logs/{namespace}",
        "/api/v1/clusters/{id}/logs/{namespace}/{pod}",
        "/api/v1/clusters/{id}/logs/{namespace}/{resource}/{name}",
        "/api/v1/clusters/{id}/snapshot",
        "/api/v1/clusters/{id}/{resource}",
        "/api/v1/clusters/{id}/{resource}/{namespace}/{name}",
        "/api/v1/clusters/{id}/{resource}/{namespace}/{name}/live",
        "/api/v1/clusters/{id}/{resource}/{namespace}/{name}/related",
        "/api/v1/commands",
        "/api/v1/commands/{id}",
        "/api/v1/commands/{id}/cancel",
        "/api/v1/dead-letters",
        "/api/v1/dead-letters/{id}",
        "/api/v1/events",
        "/api/v1/events/{cluster}/{uid}",
        "/api/v1/operations",
        "/api/v1/operations/{id}",
        "/api/v1/operations/{id}/cancel",
        "/api/v1/operations/{id}/pause",
        "/api/v1/operations/{id}/resume",
        "/api/v1/resources/{resource}",
        "/api/v1/summary",
        "/api/v1/watch",
        "/livez",
        "/metrics",
        "/readyz",
    ]


def test_operations_are_named_and_described() -> None:
    """Each operation has an id of its own, a summary and a description."""
    operations = [DOCUMENT["paths"][path][method] for path, method in OPERATIONS]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] and operation["description"] for operation in operations)
    assert all(
        parameter["description"] for operation in operations for parameter in operation.get("parameters", ())
    )


def test_each_parameter_has_an_example() -> None:
    """One that its schema allows; a name that is new needs one in `services.api.examples.PARAMETERS`."""
    for path, method in OPERATIONS:
        for parameter in DOCUMENT["paths"][path][method].get("parameters", ()):
            some = [example["value"] for example in parameter.get("examples", {}).values()]
            some += [parameter["example"]] if "example" in parameter else []
            assert some, f"{parameter['name']} of {path}"
            for example in some:
                _validator(parameter["schema"]).validate(example)


def test_the_document_is_valid() -> None:
    """By the OpenAPI Initiative's own schema of 3.1 and its dialect, and every reference leads somewhere."""
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT))):
        found: Any = DOCUMENT
        for part in reference.split("/"):
            found = found[part]
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_kind_of_problem_is_documented() -> None:
    """With a type and a title of its own; each says what to do next, and comes up in the document."""
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, problems.Kind)]
    assert len({kind.name for kind in kinds}) == len({kind.title for kind in kinds}) == len(kinds)
    assert all(kind.next and kind.detail for kind in kinds)
    kinds.remove(problems.UNKNOWN_PATH)  # which no path of the document answers
    text = json.dumps(DOCUMENT)
    assert [kind.name for kind in kinds if f"urn:atlhyper:problem:{kind.name}" not in text] == []


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_problems_are_documented_with_examples(path: str, method: str) -> None:
    """Every answer that is no success is a problem; its examples are valid, under the status they have."""
    responses = _responses(path, method)
    assert {"400", "405", "406", "413", "414", "415", "431", "500", "503"} <= responses.keys()
    validator = _validator(DOCUMENT["components"]["schemas"]["Problem"])
    for status, response in responses.items():
        if status.startswith(("2", "3")):
            continue
        content = response["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        for example in content["examples"].values():
            validator.validate(example["value"])
            assert str(example["value"]["status"]) == status


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, method in OPERATIONS if path.startswith("/api/")]
)
def test_answers_are_documented_with_examples(path: str, method: str) -> None:
    """The examples of each success, and of what is sent, are of the shape that is documented."""
    operation = DOCUMENT["paths"][path][method]
    bodies = [operation["responses"][status] for status in operation["responses"] if status[0] == "2"]
    shapes = [shape for body in [*bodies, operation.get("requestBody", {})] for shape in _contents(body)]
    assert bodies
    for content in shapes:
        assert content["examples"]
        for example in content["examples"].values():
            _validator(content["schema"]).validate(example["value"])


def test_each_action_has_its_shape() -> None:
    """What may be asked of a cluster's agent is one of as many shapes as there are actions."""
    [content] = _contents(DOCUMENT["paths"]["/api/v1/commands"]["post"]["requestBody"])
    actions = ACTIONS[AgentKind.KUBERNETES]
    one = {"cluster_id": "prod-eu", "resource": "deployments", "namespace": "shop", "name": "web"}
    validator = _validator(content["schema"])
    validator.validate(one | {"action": "scale", "params": {"replicas": 3}})
    for wrong in ({"replicas": -1}, {"replicas": "3"}, {"replica": 3}, {}):
        assert not validator.is_valid(one | {"action": "scale", "params": wrong})
    assert not validator.is_valid(one | {"action": "scael", "params": {"replicas": 3}})
    [together] = [DOCUMENT["components"]["schemas"]["NewCommand"]["oneOf"]]
    shapes = [DOCUMENT["components"]["schemas"][each["$ref"].rpartition("/")[2]] for each in together]
    assert sorted(shape["properties"]["action"]["const"] for shape in shapes) == sorted(actions)


def _contents(body: dict[str, Any]) -> list[dict[str, Any]]:
    return list(body.get("content", {}).values())


@pytest.mark.parametrize("path", READ)
async def test_every_path_answers_as_documented(fleet: Fleet, api: httpx.AsyncClient, path: str) -> None:
    """With things that exist it is 200 and of the documented shape; with others a documented problem."""
    epoch = await fleet.state("prod-eu", {"pods": [Pod(metadata=meta("web-0", "shop"))]})
    await fleet.beats()
    await fleet.heartbeat("prod-eu", {"pods": ("synced", "")}, epoch=epoch)
    await fleet.event("prod-eu", "e1")
    responses = DOCUMENT["paths"][path]["get"]["responses"]
    exists = {
        "kind": "kubernetes",
        "id": "prod-eu",
        "cluster": "prod-eu",
        "resource": "pods",
        "namespace": "shop",
        "name": "web-0",
        "pod": "web-0",
        "uid": "uid-shop-e1",
    }
    # The watch would not end; that it is as documented is shown below.
    query = "?wait=10ms" if path.endswith("/live") else ""
    answer = await (api.head if path == WATCH else api.get)(_fill(path, exists) + query)
    if not _ELSEWHERE.search(path):
        assert answer.status_code == 200
        [(media_type, content)] = responses["200"]["content"].items()
        assert answer.headers["content-type"].startswith(media_type)
        if media_type == "application/json":
            _validator(content["schema"]).validate(answer.json())
    if "{" not in path:
        return
    for nonsense in ("nonsense", "NON SENSE", "%F0%9F%98%80", "..%2F..", "x" * 300):
        answer = await api.get(_fill(path, dict.fromkeys(exists, nonsense)))
        assert str(answer.status_code) in responses
        assert answer.status_code in (400, 404)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_events_of_a_cluster_are_as_documented(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """The list of `events` holds Events where every other resource has rows."""
    await fleet.state("prod-eu", {"events": []})
    await fleet.event("prod-eu", "e1")
    content = DOCUMENT["paths"]["/api/v1/clusters/{id}/{resource}"]["get"]["responses"]["200"]["content"]
    for query in ("", "?view=full"):
        answer = (await api.get(f"/api/v1/clusters/prod-eu/events{query}")).json()
        _validator(content["application/json"]["schema"]).validate(answer)
        assert answer["items"][0]["reason"] == "BackOff"


async def test_the_messages_of_the_watch_are_as_documented(fleet: Fleet, database_url: str) -> None:
    """Each is one of the documented shapes."""
    schema = DOCUMENT["paths"][WATCH]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    cluster = await Cluster(fleet, "prod-eu").start("web-0")
    await fleet.event("prod-eu", "e1")
    async with replica(database_url) as one:
        async with follow(one.url, "initial=true&view=full") as reader:
            await reader.synced()
            await cluster.delete("web-0")
            await reader.until(lambda reader: reader.of("delete"))
        await forget_tombstones(fleet.database, cluster.shard)
        async with follow(one.url, since=reader.messages[0].id) as again:
            await again.synced()
            one.hub.close()
            await again.until(lambda again: again.of("bye"))
    messages = [*reader.messages, *again.messages]
    assert {message.event for message in messages} == {"put", "delete", "synced", "resync", "bye"}
    for message in messages:
        _validator(schema).validate({"event": message.event, "id": message.id, "data": message.data})


def _responses(path: str, method: str) -> dict[str, Any]:
    """Of an operation, by status, those that are shared looked up."""
    shared = DOCUMENT["components"]["responses"]
    own = DOCUMENT["paths"][path][method]["responses"]
    return {
        status: shared[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
        for status, response in own.items()
    }


def _fill(path: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], path)


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": DOCUMENT["components"]})
