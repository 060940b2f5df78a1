"""Commands over REST: how they stand, how they end, and what of them is shown to whom."""

import json
import uuid
from typing import Any

import httpx
import sqlalchemy as sa

from schemas.commands import CommandCompleted, CommandError, CommandProgressed, CommandState
from services.persistence import tables
from services.persistence.database.engine import Database
from tests.api.commanding import ALL, COMMANDS, RESTART, SCALE, announce, ask, config_map, end, stored
from tests.api.fixtures import NOW, Fleet
from tests.api.test_problems import assert_problem

_COMMAND = tables.table_of(tables.Command)


_PART = tables.table_of(tables.CommandPart)


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
    async with agent.database.write() as connection:
        await connection.execute(
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
    async with database.write() as connection:
        await connection.execute(sa.update(_COMMAND).where(_COMMAND.c.id == id).values(**values))


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
    body = config_map(900_000)
    made = await ask(api, body | {"dry_run": True})
    assert made["params"] == body["params"]
    assert (await api.get(f"{COMMANDS}/{made['id']}")).json() == made
    answer = await api.get(COMMANDS)
    [listed] = answer.json()["items"]
    assert listed == {k: v for k, v in made.items() if k not in ("data", "evidence")} | {"params": None}
    assert len(answer.content) < 4096
