"""Commands over REST that are not accepted: each is told what is wrong with it, and nothing is stored."""

import itertools
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.api.commanding import COMMANDS, RESTART, SCALE, announce, ask, config_map, stored
from tests.api.fixtures import NOW, Fleet
from tests.api.test_problems import assert_problem

_SCALE = {key: value for key, value in SCALE.items() if key != "cluster_id"}


def _apply(**manifest: Any) -> dict[str, Any]:
    named = {"apiVersion": "v1", "metadata": {"name": "a"}} | manifest
    return {"cluster_id": "prod-eu", "action": "apply", "params": {"manifest": named}}


def _dynamic(**params: Any) -> dict[str, Any]:
    return {"cluster_id": "prod-eu", "action": "dynamic", "params": {"verb": "create"} | params}


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "action", "is missing"),
        ([], "", "is not an object"),
        (SCALE | {"params": {"replicas": -1}}, "params.replicas", "greater than or equal to 0"),
        (SCALE | {"params": {"replicas": "3"}}, "params.replicas", "integer"),
        (SCALE | {"params": {"replicas": True}}, "params.replicas", "integer"),
        (SCALE | {"params": {}}, "params.replicas", "is missing"),
        (SCALE | {"params": {"replicas": 1, "replica": 2}}, "params.replica", "did you mean replicas?"),
        (SCALE | {"params": None}, "params", "is not an object"),
        (SCALE | {"dryrun": True}, "dryrun", "did you mean dry_run?"),
        (SCALE | {"dry_run": "true"}, "dry_run", "boolean"),
        (_SCALE, "target", "names no agent"),
        (SCALE | {"target": {"id": "prod-eu"}}, "target", "beside cluster_id"),
        (_SCALE | {"target": {"kind": "vm", "id": "a"}}, "target.kind", "kubernetes"),
        (SCALE | {"cluster_id": "PROD"}, "cluster_id", "pattern"),
        (SCALE | {"object": {"name": "web"}}, "name", "beside object.name"),
        (SCALE | {"kind": "Deployment"}, "kind", "beside resource"),
        (SCALE | {"resource": "pods"}, "resource", "scale works on deployments, replicasets, statefulsets"),
        (SCALE | {"name": None}, "object.name", "is missing"),
        (SCALE | {"name": ".."}, "name", "is not a name"),
        (SCALE | {"name": "a/b"}, "name", "pattern"),
        (SCALE | {"name": "a\0b"}, "name", "pattern"),
        (SCALE | {"namespace": None}, "object.namespace", "deployments are in a namespace"),
        (SCALE | {"namespace": "Shop"}, "namespace", "pattern"),
        (
            {"cluster_id": "prod-eu", "action": "cordon", "name": "n", "namespace": "shop"},
            "namespace",
            "nodes are in no namespace",
        ),
        (
            {"cluster_id": "prod-eu", "action": "delete", "name": "web", "namespace": "shop"},
            "object.resource",
            "is missing: delete needs an object",
        ),
        (
            {"cluster_id": "prod-eu", "action": "apply", "params": {"manifest": {}}, "name": "web"},
            "name",
            "apply takes no object",
        ),
        (
            {"cluster_id": "prod-eu", "action": "dynamic", "params": {"verb": "watch", "resource": "pods"}},
            "params.verb",
            "'list'",
        ),
        (_apply(kind="Secret"), "params", "Secret objects are not applied through an agent"),
        (_apply(kind="SecretList", items=[{}]), "params", "SecretList objects are not applied"),
        (_apply(kind="List", items=[{"kind": "Secret"}]), "params", "Secret objects are not applied"),
        (
            _apply(kind="TokenReview", apiVersion="authentication.k8s.io/v1"),
            "params",
            "TokenReview objects are not applied",
        ),
        (_apply(kind="secret"), "params", "secret objects are not applied through an agent"),
        (_apply(kind="ConfigMap", metadata="x"), "params.manifest", "metadata is not an object"),
        (
            _dynamic(resource="configmaps", body={"metadata": {"annotations": ["x"]}}),
            "params.body",
            "metadata.annotations is not an object",
        ),
        (_dynamic(resource="secrets", body={}), "params", "secrets are never asked for through an agent"),
        (_dynamic(resource="secrets", verb="get", name="a"), "params", "secrets are never asked for"),
        (_dynamic(resource="configmaps", body={"kind": "Secret"}), "params", "Secret objects are not"),
        (
            _dynamic(resource="tokenreviews", group="authentication.k8s.io", body={}),
            "params",
            "tokenreviews.authentication.k8s.io are never asked for",
        ),
        (SCALE | {"start_within": "8d"}, "start_within", "less than or equal to 604800"),
        (SCALE | {"start_within": "soon"}, "start_within", "is not a duration"),
        (SCALE | {"start_within": "0s"}, "start_within", "greater than 0"),
        (SCALE | {"timeout": "9" * 400 + "s"}, "timeout", "less than or equal to"),
        (SCALE | {"timeout": "25h"}, "timeout", "less than or equal to"),
        (SCALE | {"start_by": "2099-01-01T00:00:00Z"}, "start_by", "more than 7d away"),
        (SCALE | {"start_by": "2099-01-01T00:00:00"}, "start_by", "time zone"),
        (SCALE | {"start_by": 4070908800}, "start_by", "datetime"),
        (SCALE | {"start_by": "9999-12-31T23:59:59-14:00"}, "start_by", "years"),
        (
            SCALE | {"start_by": "2099-01-01T00:00:00Z", "start_within": "5m"},
            "start_by",
            "beside start_within",
        ),
        (SCALE | {"finish_by": "2020-01-01T00:00:00Z"}, "finish_by", "is not after start_by"),
        (SCALE | {"finish_by": "2099-01-01T00:00:00Z"}, "finish_by", "more than 1d after start_by"),
    ],
)
async def test_what_is_wrong_is_named(
    agent: Fleet, api: httpx.AsyncClient, body: Any, field: str, message: str
) -> None:
    """400 with the field's place in the content, before anything is stored."""
    problem = assert_problem(await api.post(COMMANDS, json=body), 400, "invalid-content")
    [error] = problem["errors"]  # type: ignore[misc]
    assert error["parameter"] == field
    assert message in error["message"]
    assert await stored(agent.database) == []


@pytest.mark.parametrize(
    ("body", "first"),
    [
        (SCALE | {f"more{n:05}": 1 for n in range(50_000)}, "more00000"),
        (
            _SCALE | {"target": {"id": "prod-eu"} | {f"more{n:05}": 1 for n in range(50_000)}},
            "target.more00000",
        ),
        (SCALE | {"params": {"replicas": 1} | {f"more{n:05}": 1 for n in range(50_000)}}, "params.more00000"),
    ],
    ids=["content", "target", "params"],
)
async def test_of_many_errors_the_first_are_told(
    agent: Fleet, api: httpx.AsyncClient, body: Any, first: str
) -> None:
    """The others are counted: one request makes neither the API work for long, nor its answer large."""
    answer = await api.post(COMMANDS, json=body)
    problem = assert_problem(answer, 400, "invalid-content")
    errors: Any = problem["errors"]
    assert (len(errors), errors[0]["parameter"]) == (21, first)
    assert errors[-1] == {"parameter": "", "message": "and 49980 more"}
    assert str(problem["detail"]).endswith("; and 49980 more")
    assert len(answer.content) < 8192


async def test_a_name_that_is_not_known_is_not_repeated_whole(agent: Fleet, api: httpx.AsyncClient) -> None:
    """Of one that is a content by itself the beginning says which is meant."""
    answer = await api.post(COMMANDS, json=SCALE | {"x" * 900_000: 1})
    assert_problem(answer, 400, "invalid-content")
    assert len(answer.content) < 2048


async def test_an_action_that_is_not_known(agent: Fleet, api: httpx.AsyncClient) -> None:
    """400 with the one that was meant and all there are; for a kind of agent without any, that."""
    problem = assert_problem(
        await api.post(COMMANDS, json=SCALE | {"action": "scael"}), 400, "unknown-action"
    )
    assert str(problem["next"]).startswith("did you mean scale? there are: apply, cordon, delete, ")
    host = _SCALE | {"target": {"kind": "host", "id": "web-1"}}
    problem = assert_problem(await api.post(COMMANDS, json=host), 400, "unknown-action")
    assert problem["next"] == "there are: none yet"


async def test_a_cluster_that_was_never_heard_of(agent: Fleet, api: httpx.AsyncClient) -> None:
    """404 with those there are."""
    answer = await api.post(COMMANDS, json=SCALE | {"cluster_id": "prod-ue"})
    assert "prod-eu" in str(assert_problem(answer, 404, "unknown-agent")["next"])
    assert await stored(agent.database) == []


async def test_a_command_that_no_broker_would_carry(agent: Fleet, api: httpx.AsyncClient) -> None:
    """413 at once: accepted, it would only fail."""
    answer = await api.post(COMMANDS, json=config_map(1_030_000))
    assert_problem(answer, 413, "content-too-large")
    await ask(api, config_map(900_000))


async def test_a_beginning_in_the_past(agent: Fleet, api: httpx.AsyncClient) -> None:
    """422, with the time by which that is judged."""
    answer = await api.post(COMMANDS, json=SCALE | {"start_by": "2026-01-01T00:00:00Z"})
    problem = assert_problem(answer, 422, "too-late")
    assert str(problem["detail"]).startswith("start_by: 2026-01-01T00:00:00Z is past; it is 20")
    assert await stored(agent.database) == []


@pytest.mark.parametrize(
    ("content", "type_", "status", "problem", "words"),
    [
        (b'{"action": "scale"', "application/json", 400, "invalid-content", "truncated"),
        (b'{"a": 1, "a": 2}', "application/json", 400, "invalid-content", "'a' is there twice"),
        (b'{"action": {"b": [{"a": 1, "a": 2}]}}', "application/json", 400, "invalid-content", "twice"),
        (b"[" * 101 + b"]" * 101, "application/json", 400, "invalid-content", "100 levels"),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", 400, "invalid-content", "100 levels"),
        (b'{"action": "\xff"}', "application/json", 400, "invalid-content", "UTF-8"),
        (b'{"action": "\\ud800"}', "application/json", 400, "invalid-content", "truncated"),
        (b'{"params": {"replicas": 1e999}}', "application/json", 400, "invalid-content", "range"),
        (b'{"params": {"replicas": NaN}}', "application/json", 400, "invalid-content", "malformed"),
        (b"1" * 10_000, "application/json", 400, "invalid-content", "range"),
        (b"null", "application/json; charset=utf-8", 400, "invalid-content", "is not an object"),
        (b"{}", "application/json; charset=latin-1", 415, "unsupported-media-type", "latin-1"),
        (b"{}", "text/plain", 415, "unsupported-media-type", "text/plain"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported-media-type", "urlencoded"),
        (b"{}", "", 415, "unsupported-media-type", "no type"),
        (b" " * ((1 << 20) + 1), "application/json", 413, "content-too-large", "1048576"),
        (b"", "", 400, "invalid-content", "action: is missing"),
    ],
)
async def test_content_that_cannot_be_read(
    agent: Fleet, api: httpx.AsyncClient, content: bytes, type_: str, status: int, problem: str, words: str
) -> None:
    """A problem each: what is no JSON, what readers might read differently, what is too much."""
    headers = {"content-type": type_} if type_ else {}
    answer = await api.post(COMMANDS, content=content, headers=headers)
    assert words in str(assert_problem(answer, status, problem)["detail"])
    assert await stored(agent.database) == []


async def test_an_agent_that_would_refuse(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """409 at once, with the reason; what changes nothing goes to one that is read-only."""
    times = (NOW + timedelta(seconds=n) for n in itertools.count())
    await announce(fleet, read_only=True, time=next(times))
    problem = assert_problem(await api.post(COMMANDS, json=SCALE), 409, "not-capable")
    assert "read-only" in str(problem["detail"])
    await ask(api, SCALE | {"dry_run": True})
    await ask(api, {"cluster_id": "prod-eu", "action": "get_logs", "namespace": "shop", "name": "web-0"})
    dynamic = {"cluster_id": "prod-eu", "action": "dynamic"}
    await ask(api, dynamic | {"params": {"verb": "get", "resource": "pods", "name": "web-0"}})
    changing = dynamic | {"params": {"verb": "delete", "resource": "pods", "name": "web-0"}}
    assert_problem(await api.post(COMMANDS, json=changing), 409, "not-capable")

    await announce(fleet, capabilities=["observe:pods", "act:restart"], time=next(times))
    problem = assert_problem(await api.post(COMMANDS, json=SCALE), 409, "not-capable")
    assert "it can: restart" in str(problem["next"])
    await ask(api, RESTART)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_what_commands_are_not(agent: Fleet, api: httpx.AsyncClient, method: str) -> None:
    """405 with what they are."""
    answer = await api.request(method, COMMANDS, json={})
    assert_problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["allow"]
