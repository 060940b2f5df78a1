"""Commands over REST: what is accepted, once, and for whom."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.commanding import COMMANDS, SCALE, announce, ask, end, stored
from tests.api.fixtures import NOW, Fleet
from tests.api.test_problems import assert_problem

_ABOUT = {"resource": "deployments", "namespace": "shop", "name": "web"}


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
