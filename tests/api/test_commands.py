"""Commands over REST: what is accepted, what is refused, how they stand and how they end."""

import itertools
import json
import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from schemas.commands import Command, CommandCompleted, CommandError, CommandProgressed, CommandState
from services.persistence import tables
from services.persistence.database.engine import Database
from tests.api.commanding import ALL, COMMANDS, RESTART, SCALE, announce, ask, end
from tests.api.fixtures import NOW, Fleet
from tests.api.test_problems import assert_problem

_COMMAND = tables.table_of(tables.Command)
_PART = tables.table_of(tables.CommandPart)
_ABOUT = {"resource": "deployments", "namespace": "shop", "name": "web"}


async def stored(database: Database) -> list[Command]:
    """Every command there is."""
    async with database.read() as session:
        found = await (await session.connection()).execute(sa.select(_COMMAND.c.body))
        return [Command.model_validate_json(row.body) for row in found]


@pytest.fixture
async def agent(fleet: Fleet) -> Fleet:
    """An agent that can do everything, a moment ago."""
    await announce(fleet)
    await fleet.beats()
    return fleet


async def test_empty_is_as_not_there(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """What an answer shows of an object may be sent as it is: a node's namespace and uid are empty."""
    await announce(fleet)
    await fleet.beats()
    about = {"resource": "nodes", "namespace": "", "name": "node-1", "uid": ""}
    made = await ask(api, {"cluster_id": "prod-eu", "action": "cordon", "object": about})
    assert made["object"] == about


async def test_what_is_accepted_is_shown(agent: Fleet, api: httpx.AsyncClient) -> None:
    """202 with the command, which is there by its id and in the list; it names who asked, and the cluster
    that stood behind the id."""
    made = await ask(api)
    assert (made["state"], made["success"], made["attempts"], made["note"]) == ("accepted", None, 0, "")
    assert (made["actor"], made["cluster_id"]) == ("token/tests", "prod-eu")
    assert made["target"] == {"kind": "kubernetes", "id": "prod-eu"}
    assert made["object"] == _ABOUT | {"uid": ""}
    found = await api.get(f"{COMMANDS}/{made['id']}")
    assert (found.status_code, found.json()) == (200, made)
    listed = (await api.get(COMMANDS)).json()
    assert listed["items"] == [{k: v for k, v in made.items() if k not in ("data", "evidence")}]
    [command] = await stored(agent.database)
    assert (command.id, command.instance, command.actor) == (made["id"], "instance-prod-eu", "token/tests")
    assert (command.params, command.dry_run) == ({"replicas": 3}, False)


@pytest.mark.parametrize(
    "about",
    [
        {"object": _ABOUT},
        {"object": {"kind": "Deployment", "namespace": "shop", "name": "web"}},
        {"object": {"resource": "deploy"}, "namespace": "shop", "name": "web"},
        *(
            {"resource": word, "namespace": "shop", "name": "web"}
            for word in ("deploy", "Deployment", "deployments.apps", "deployments.v1.apps", "DEPLOYMENTS")
        ),
        {"kind": "deploy", "namespace": "shop", "name": "web"},
    ],
)
async def test_an_object_may_be_named_as_kubectl_names_it(
    agent: Fleet, api: httpx.AsyncClient, about: dict[str, Any]
) -> None:
    """Whichever form: the same object."""
    made = await ask(api, {"cluster_id": "prod-eu", "action": "restart", **about})
    assert made["object"] == _ABOUT | {"uid": ""}


async def test_what_goes_without_saying(agent: Fleet, api: httpx.AsyncClient) -> None:
    """An action of one resource names it; a target may be written out; times have defaults."""
    target = {"target": {"kind": "kubernetes", "id": "prod-eu"}}
    node = await ask(api, target | {"action": "drain", "name": "node-1"})
    assert node["object"] == {"resource": "nodes", "namespace": "", "name": "node-1", "uid": ""}
    assert _times(node) == (300, 600)
    assert _times(await ask(api)) == (300, 120)
    soon = SCALE | {"start_within": "90s", "timeout": "1h"}
    assert _times(await ask(api, soon)) == (90, 3600)
    at = datetime.fromisoformat(node["created_at"]) + timedelta(hours=3)
    later = SCALE | {"start_by": at.isoformat(), "finish_by": (at + timedelta(minutes=1)).isoformat()}
    made = await ask(api, later)
    assert datetime.fromisoformat(made["start_by"]) == at
    assert datetime.fromisoformat(made["finish_by"]) == at + timedelta(minutes=1)


def _times(command: dict[str, Any]) -> tuple[float, float]:
    created, start, finish = (
        datetime.fromisoformat(command[name]) for name in ("created_at", "start_by", "finish_by")
    )
    return (start - created).total_seconds(), (finish - start).total_seconds()


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
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"a": "x" * 1_030_000},
    }
    body = {"cluster_id": "prod-eu", "action": "apply", "params": {"manifest": manifest}}
    assert_problem(await api.post(COMMANDS, json=body), 413, "content-too-large")
    manifest["data"] = {"a": "x" * 900_000}
    await ask(api, body)


async def test_what_is_secret_in_parameters_is_not_shown(agent: Fleet, api: httpx.AsyncClient) -> None:
    """It goes to the agent as it was given; whoever reads the command, or repeats the call, sees none."""
    widget = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "a"},
        "spec": {"token": "hunter2"},
    }
    patch = [{"op": "replace", "path": "/spec/token", "value": "aHVudGVyMg=="}]
    patching = {
        "verb": "patch",
        "group": "example.com",
        "resource": "widgets",
        "namespace": "shop",
        "name": "a",
    }
    wanted = [
        {"action": "apply", "params": {"manifest": widget, "namespace": "shop"}},
        {"action": "dynamic", "params": patching | {"patch_type": "json", "body": patch}},
    ]
    shown = []
    for each in wanted:
        key = {"idempotency-key": str(uuid.uuid4())}
        for _ in range(2):
            answer = await api.post(COMMANDS, json={"cluster_id": "prod-eu", **each}, headers=key)
            assert answer.status_code == 202, answer.text
            shown.append(answer.json())
        shown.append((await api.get(answer.headers["location"])).json())
    shown += (await api.get(COMMANDS)).json()["items"]
    for item in shown:
        assert item["params"]["namespace"] == "shop"
        assert "hunter2" not in str(item)
        assert "aHVudGVyMg==" not in str(item)
    applied, patched = sorted(await stored(agent.database), key=lambda command: command.action)
    assert applied.params["manifest"] == widget
    assert patched.params["body"] == patch


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


async def test_a_key_makes_a_request_repeatable(agent: Fleet, api: httpx.AsyncClient) -> None:
    """The same content under one key is the same command, as it stands by then; other content is refused."""
    key = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    made = await ask(api, headers=key)
    turned = dict(reversed(SCALE.items()))
    assert (await ask(api, turned, headers=key)) == made
    other = await api.post(COMMANDS, json=SCALE | {"params": {"replicas": 4}}, headers=key)
    assert made["id"] in str(assert_problem(other, 422, "key-reused")["detail"])
    await end(agent.database, made["id"])
    again = await api.post(COMMANDS, json=SCALE, headers=key)
    assert (again.status_code, again.json()["state"]) == (200, "succeeded")
    assert again.headers["location"] == f"{COMMANDS}/{made['id']}"
    assert len(await stored(agent.database)) == 1
    assert (await ask(api))["id"] != made["id"]


async def test_what_was_accepted_stays_so(agent: Fleet, api: httpx.AsyncClient) -> None:
    """Asked again under its key, it is the same command, though by now the agent would be known to refuse."""
    key = {"Idempotency-Key": "k"}
    made = await ask(api, headers=key)
    await announce(agent, read_only=True, time=NOW + timedelta(seconds=1))
    assert_problem(await api.post(COMMANDS, json=SCALE), 409, "not-capable")
    assert (await ask(api, headers=key))["id"] == made["id"]


@pytest.mark.parametrize("key", ["", " ", "a\tb", "x" * 256, "schlüssel"])
async def test_a_key_that_is_none(agent: Fleet, api: httpx.AsyncClient, key: str) -> None:
    """400: it would not be what its sender takes it for."""
    answer = await api.post(COMMANDS, json=SCALE, headers={"Idempotency-Key": key.encode()})
    assert_problem(answer, 400, "invalid-parameter")
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


async def test_of_an_agent_that_has_not_said_nobody_knows(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Accepted; the note says what it waits for, and until when."""
    await fleet.heartbeat("old")
    made = await ask(api, SCALE | {"cluster_id": "old"})
    until = made["start_by"][:19] + "Z"
    assert made["note"] == f"its agent has not said that it takes commands; it waits until {until}"
    await fleet.state("silent", {"pods": []})
    made = await ask(api, SCALE | {"cluster_id": "silent"})
    assert made["note"].startswith("nothing was heard of its agent yet; it waits until ")


async def test_an_agent_that_is_lost(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Accepted, whatever it last said; the note says that it is lost, in the list too."""
    await announce(fleet, read_only=True, time=NOW - timedelta(minutes=10))
    await fleet.beats()
    made = await ask(api)
    assert made["note"].startswith("its agent is lost; it waits until ")
    assert (await api.get(COMMANDS)).json()["items"][0]["note"] == made["note"]


async def test_how_it_ends_is_told(agent: Fleet, api: httpx.AsyncClient) -> None:
    """Success with data; failure with the API server's words; what nobody can tell, with later evidence."""
    good, bad, dark = [(await ask(api))["id"] for _ in range(3)]
    said = ['unknown field "spec.replica"']
    await end(agent.database, good, data={"replicas": 3, "text": "ä\0"}, warnings=said)
    error = CommandError(
        code="conflict", message="the object has been modified", status=409, reason="Conflict"
    )
    await end(agent.database, bad, CommandState.FAILED, error=error)
    await end(agent.database, dark, CommandState.UNKNOWN)
    found = (await api.get(f"{COMMANDS}/{good}")).json()
    assert (found["state"], found["success"], found["error"]) == ("succeeded", True, None)
    assert found["data"] == {"replicas": 3, "text": "ä\0"}
    assert found["executed_at"] <= found["finished_at"]
    assert found["warnings"] == said
    [listed] = (await api.get(f"{COMMANDS}?state=succeeded")).json()["items"]
    assert listed["warnings"] == said
    found = (await api.get(f"{COMMANDS}/{bad}")).json()
    assert (found["state"], found["success"], found["data"]) == ("failed", False, None)
    assert found["error"] == error.model_dump()
    assert "look at the object" in (await api.get(f"{COMMANDS}/{dark}")).json()["note"]
    evidence = CommandCompleted(
        command_id=dark, state=CommandState.SUCCEEDED, success=True, data=[1], executed_at=NOW
    )
    await _set(agent.database, dark, evidence=evidence.model_dump_json().encode())
    found = (await api.get(f"{COMMANDS}/{dark}")).json()
    assert (found["state"], found["evidence"]["state"], found["evidence"]["data"]) == (
        "unknown",
        "succeeded",
        [1],
    )
    assert "evidence" in found["note"]


async def test_large_data_is_whole(agent: Fleet, api: httpx.AsyncClient) -> None:
    """What is more than a message holds was stored in slices, and is one value again."""
    made = (await ask(api))["id"]
    data = {"items": [{"name": f"ä-{number}", "text": "x" * 1000} for number in range(3000)]}
    text = json.dumps(data, ensure_ascii=False)
    slices = [text[at : at + 700_000] for at in range(0, len(text), 700_000)]
    async with agent.database.write() as session:
        await (await session.connection()).execute(
            sa.insert(_PART),
            [{"command_id": made, "index": index, "data": data} for index, data in enumerate(slices)][::-1],
        )
    await end(agent.database, made, parts=len(slices))
    answer = await api.get(f"{COMMANDS}/{made}")
    assert len(answer.content) > 3_000_000
    assert answer.json()["data"] == data


async def test_how_far_it_has_come(agent: Fleet, api: httpx.AsyncClient) -> None:
    """The newest progress, and each moment there is."""
    made = await ask(api, {"cluster_id": "prod-eu", "action": "drain", "name": "node-1"})
    progress = CommandProgressed(
        command_id=made["id"], sequence=2, at=NOW, message="evicted shop/web-0", done=1, total=7
    )
    await _set(
        agent.database,
        made["id"],
        state="running",
        sent_at=NOW,
        started_at=NOW,
        attempts=2,
        progress=progress.model_dump_json().encode(),
    )
    found = (await api.get(f"{COMMANDS}/{made['id']}")).json()
    assert found["progress"] == {
        "sequence": 2,
        "at": "2026-11-21T08:00:00Z",
        "message": "evicted shop/web-0",
        "done": 1,
        "total": 7,
    }
    assert (found["state"], found["attempts"], found["started_at"]) == ("running", 2, "2026-11-21T08:00:00Z")


async def _set(database: Database, id: str, **values: Any) -> None:
    async with database.write() as session:
        await (await session.connection()).execute(
            sa.update(_COMMAND).where(_COMMAND.c.id == id).values(**values)
        )


async def test_its_end_may_be_asked_for(agent: Fleet, api: httpx.AsyncClient) -> None:
    """202 while it goes on, and as often as one likes; 409 when it has ended otherwise; 404 without one."""
    made = await ask(api)
    cancel = f"{COMMANDS}/{made['id']}/cancel"
    answer = await api.post(cancel, json={"reason": "the wrong deployment"})
    assert (answer.status_code, answer.json()["state"]) == (202, "accepted")
    assert answer.json()["cancel_reason"] == "the wrong deployment"
    assert answer.json()["note"] == "its end was asked for"
    since = answer.json()["cancel_requested_at"]
    answer = await api.post(cancel)
    assert (answer.status_code, answer.json()["cancel_requested_at"]) == (202, since)
    assert_problem(await api.post(cancel, json={"why": "x"}), 400, "invalid-content")
    await end(agent.database, made["id"], CommandState.CANCELED)
    answer = await api.post(cancel)
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    done = await ask(api)
    await end(agent.database, done["id"])
    problem = assert_problem(await api.post(f"{COMMANDS}/{done['id']}/cancel"), 409, "command-ended")
    assert problem["detail"] == "the command has ended as succeeded"
    for path in (f"{COMMANDS}/none", f"{COMMANDS}/none?wait=1s"):
        assert_problem(await api.get(path), 404, "unknown-command")
    assert_problem(await api.post(f"{COMMANDS}/none/cancel"), 404, "unknown-command")


async def test_lists_are_filtered(agent: Fleet, api: httpx.AsyncClient) -> None:
    """By cluster, state, action and actor, newest first, in pages; what cannot be a filter is named."""
    await announce(agent, "prod-us", capabilities=ALL)
    made = [await ask(api, SCALE | {"cluster_id": ("prod-eu", "prod-us")[n % 2]}) for n in range(4)]
    made.append(await ask(api, RESTART))
    await end(agent.database, made[0]["id"], CommandState.FAILED)

    async def ids(query: str) -> list[str]:
        return [item["id"] for item in (await api.get(f"{COMMANDS}?{query}")).json()["items"]]

    newest = sorted((each["id"] for each in made), reverse=True)
    assert await ids("") == newest
    first = (await api.get(f"{COMMANDS}?limit=3")).json()
    rest = (await api.get(f"{COMMANDS}?limit=3&continue={first['continue']}")).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == newest
    assert rest["continue"] is None
    assert set(await ids("cluster=prod-us")) == {made[1]["id"], made[3]["id"]}
    assert await ids("state=failed") == [made[0]["id"]]
    assert len(await ids("state=open")) == 4
    assert len(await ids("state=open,failed&state=running")) == 5
    assert await ids("action=restart") == [made[4]["id"]]
    assert await ids("actor=token/nobody") == await ids("operation=none") == []
    assert len(await ids("actor=token/tests")) == 5
    assert_problem(await api.get(f"{COMMANDS}?state=done"), 400, "invalid-parameter")
    assert_problem(await api.get(f"{COMMANDS}?cluster=none"), 404, "unknown-agent")
    assert_problem(
        await api.get(f"{COMMANDS}?continue={first['continue']}&state=open"), 400, "invalid-parameter"
    )


async def test_what_is_large_is_listed_without_its_params(agent: Fleet, api: httpx.AsyncClient) -> None:
    """By its id it is whole, and so is the answer to whoever has asked for it."""
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"a": "x" * 900_000},
    }
    body = {"cluster_id": "prod-eu", "action": "apply", "params": {"manifest": manifest, "namespace": "shop"}}
    made = await ask(api, body | {"dry_run": True})
    assert made["params"] == body["params"]
    assert (await api.get(f"{COMMANDS}/{made['id']}")).json() == made
    answer = await api.get(COMMANDS)
    [listed] = answer.json()["items"]
    assert listed == {k: v for k, v in made.items() if k not in ("data", "evidence")} | {"params": None}
    assert len(answer.content) < 4096


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_what_commands_are_not(agent: Fleet, api: httpx.AsyncClient, method: str) -> None:
    """405 with what they are."""
    answer = await api.request(method, COMMANDS, json={})
    assert_problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["allow"]
