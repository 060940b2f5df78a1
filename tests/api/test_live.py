"""An object as it is now: what its agent is asked, and what becomes of the answer."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
import yaml

from schemas.commands import Command, CommandError, CommandState
from schemas.kubernetes import KINDS
from schemas.kubernetes.generic import generic_kind
from tests.api.commanding import COMMANDS, announce, end, stored
from tests.api.fixtures import NOW, Fleet
from tests.api.test_problems import assert_problem

READ = {"object": None, "read_at": "2026-11-21T08:00:00Z"}
"""What `dynamic` gives back of an object."""
LIVE = "/api/v1/clusters/prod-eu/pods/shop/web-0/live"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-0", "annotations": {"note": "ä: #\n- \0", "on": "yes", "time": "2026-11-21"}},
    "spec": {"containers": [{"name": "web", "args": ["" * 3, "0x1f", "1e3", "~"]}]},
    "status": {"phase": "Running", "load": 0.5, "ready": True, "nothing": None, "big": 2**63},
}


@asynccontextmanager
async def answering(fleet: Fleet, **how: Any) -> AsyncIterator[Callable[[], Command]]:
    """An agent that ends the next command so; gives that command."""
    before = {command.id for command in await stored(fleet.database)}
    asked: list[Command] = []

    async def run() -> None:
        while not asked:
            asked.extend(c for c in await stored(fleet.database) if c.id not in before)
            await asyncio.sleep(0.01)
        await end(fleet.database, asked[0].id, **how)

    running = asyncio.create_task(run())
    try:
        yield lambda: asked[0]
        async with asyncio.timeout(40):
            await running
    finally:
        running.cancel()


async def test_the_object_and_when_it_was_read(agent: Fleet, api: httpx.AsyncClient) -> None:
    """JSON as the agent gave it, which was asked for that object, for the one who asks, within the time."""
    async with answering(agent, data=READ | {"object": POD}) as command:
        answer = await api.get(f"{LIVE}?wait=10s")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["object"] == POD
    assert body["command_id"] == command().id
    assert 0 <= body["age"] < 10
    told = (await api.get(f"{COMMANDS}/{command().id}")).json()
    assert body["read_at"] == "2026-11-21T08:00:00Z"
    assert (told["action"], told["actor"], told["object"]["resource"]) == ("dynamic", "token/tests", "")
    assert command().params == {
        "verb": "get",
        "group": "",
        "version": "v1",
        "resource": "pods",
        "namespace": "shop",
        "name": "web-0",
    }
    assert command().start_by - command().created_at == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("query", "accept"),
    [("?format=yaml", "*/*"), ("", "application/yaml"), ("?format=yaml", "application/json")],
)
async def test_yaml_is_the_object_alone(
    agent: Fleet, api: httpx.AsyncClient, query: str, accept: str
) -> None:
    """It means what the JSON means, in the order of its fields, with a comment that says where it is from,
    and how old."""
    async with answering(agent, data=READ | {"object": POD}) as command:
        answer = await api.get(f"{LIVE}{query}", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/yaml")
    assert yaml.safe_load(answer.text) == POD
    first, second, *_ = answer.text.splitlines()
    assert first.startswith("# kubernetes/prod-eu, 20")
    assert first.endswith(command().id)
    age = re.search(r"Z, ([0-9]+\.[0-9]{3})s ago, command ", first)
    assert age
    assert 0 <= float(age[1]) < 10
    assert second == "apiVersion: v1"
    async with answering(agent, data=READ | {"object": POD}):
        both = await api.get(LIVE, headers={"accept": "application/json, application/yaml"})
    assert both.headers["content-type"] == "application/json"
    assert_problem(await api.get(LIVE, headers={"accept": "text/html"}), 406, "not-acceptable")


async def test_every_resource_has_its_group(agent: Fleet, api: httpx.AsyncClient) -> None:
    """By its kind, by its name, or by what was collected of it; cluster-scoped ones have no namespace."""
    for path, expected in (
        ("deployments/shop/web", ("apps", "v1", "deployments", "shop")),
        ("nodes/_/node-1", ("", "v1", "nodes", "")),
        ("widgets.v1beta1.example.com/shop/w", ("example.com", "v1beta1", "widgets", "shop")),
    ):
        before = {command.id for command in await stored(agent.database)}
        answer = await api.get(f"/api/v1/agents/kubernetes/prod-eu/resources/{path}/live?wait=1ms")
        assert_problem(answer, 504, "no-answer")
        [command] = [c for c in await stored(agent.database) if c.id not in before]
        assert tuple(command.params[n] for n in ("group", "version", "resource", "namespace")) == expected
    unknown = await api.get("/api/v1/clusters/prod-eu/widgets.example.com/shop/w/live")
    assert "widgets.v1.example.com" in str(assert_problem(unknown, 404, "unknown-resource")["next"])
    host = await api.get("/api/v1/agents/host/web-1/resources/pods/_/x/live")
    assert_problem(host, 404, "unknown-agent")
    assert_problem(await api.get("/api/v1/clusters/none/pods/shop/web-0/live"), 404, "unknown-agent")


async def test_what_no_agent_reads_is_not_asked_for(agent: Fleet, api: httpx.AsyncClient) -> None:
    """403 at once, with nothing stored: no agent would answer otherwise."""
    for path in ("secrets/shop/held", "tokenreviews.v1.authentication.k8s.io/_/x"):
        problem = assert_problem(
            await api.get(f"/api/v1/clusters/prod-eu/{path}/live"), 403, "cluster-refuses"
        )
        assert "are never asked for through an agent" in str(problem["detail"])
    assert await stored(agent.database) == []


@pytest.mark.parametrize(
    ("state", "error", "status", "problem"),
    [
        (
            "failed",
            CommandError(code="not_found", message='pods "web-0" not found', status=404),
            404,
            "unknown-object",
        ),
        ("failed", CommandError(code="forbidden", message="cannot get", status=403), 403, "cluster-refuses"),
        ("rejected", CommandError(code="not_allowed", message="not Secrets"), 403, "cluster-refuses"),
        ("failed", CommandError(code="unreachable", message="connection refused"), 502, "cluster-fails"),
        (
            "failed",
            CommandError(code="server", message="etcd leader changed", status=500),
            502,
            "cluster-fails",
        ),
        ("failed", CommandError(code="timeout", message="no answer after 60s"), 504, "no-answer"),
        ("rejected", CommandError(code="late", message="came after start_by"), 504, "no-answer"),
        ("expired", None, 504, "no-answer"),
    ],
)
async def test_what_the_cluster_says_instead(
    agent: Fleet, api: httpx.AsyncClient, state: str, error: CommandError | None, status: int, problem: str
) -> None:
    """A problem in its words."""
    async with answering(agent, state=CommandState(state), error=error) as command:
        body = assert_problem(await api.get(LIVE), status, problem)
    assert (error.message if error else "expired") in str(body["detail"])
    if status == 504:
        assert command().id in str(body["next"])


async def test_an_agent_that_does_not_answer(agent: Fleet, api: httpx.AsyncClient) -> None:
    """504 after the time, naming the command; at once and without one when its agent is lost."""
    body = assert_problem(await api.get(f"{LIVE}?wait=20ms"), 504, "no-answer")
    [command] = await stored(agent.database)
    assert body["next"] == f"see what becomes of it: {COMMANDS}/{command.id}"
    assert_problem(await api.get(f"{LIVE}?wait=16s"), 400, "invalid-parameter")
    assert_problem(await api.get(f"{LIVE}?wait=0s"), 400, "invalid-parameter")
    await agent.beats(NOW + timedelta(minutes=5))
    body = assert_problem(await api.get(LIVE), 504, "no-answer")
    assert "its agent is lost" in str(body["detail"])
    assert len(await stored(agent.database)) == 1


async def test_an_agent_that_may_not(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """409 at once; one that is read-only may."""
    await announce(fleet, capabilities=["act:scale"])
    assert_problem(await api.get(LIVE), 409, "not-capable")
    await announce(fleet, read_only=True, time=NOW + timedelta(seconds=1))
    assert_problem(await api.get(f"{LIVE}?wait=1ms"), 504, "no-answer")


async def test_what_was_added_by_setting_says_its_version(
    agent: Fleet, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a resource that only the cluster has, the stored objects name the version."""
    kind = generic_kind("example.com", "v1beta2", "widgets", "Widget", namespaced=True)
    widget = {
        "apiVersion": "example.com/v1beta2",
        "kind": "Widget",
        "metadata": {"name": "a", "namespace": "shop"},
    }
    monkeypatch.setitem(KINDS, kind.resource, kind)
    await agent.state("prod-eu", {kind.resource: [kind.decode(json.dumps(widget).encode())]})
    monkeypatch.delitem(KINDS, kind.resource)
    path = "/api/v1/clusters/prod-eu/widgets.example.com/shop/b/live?wait=1ms"
    assert_problem(await api.get(path), 504, "no-answer")
    [command] = await stored(agent.database)
    asked = [command.params[name] for name in ("group", "version", "resource")]
    assert asked == ["example.com", "v1beta2", "widgets"]
