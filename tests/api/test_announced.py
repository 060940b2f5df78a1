"""What an agent has announced of its actions: shown, and what its commands are held against."""

from copy import deepcopy
from datetime import timedelta
from typing import Any

import httpx
import pytest

from schemas.actions import ACTIONS
from schemas.ids import AgentKind, Target, kubernetes
from schemas.presence import ActionSchemas
from services.api.app import create_app
from services.api.commands import announced
from services.api.commands.accepting import Intent
from services.api.commands.announced import check_known, unknown_to
from services.api.http.problems import ProblemError
from services.api.watch.hub import Hub
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.presence import announcements
from services.runtime.health import Health
from tests.api.commanding import COMMANDS, SCALE, announce, ask, stored
from tests.api.fixtures import NOW, Fleet
from tests.api.test_problems import assert_problem
from tests.tokens import AUTHORIZED

OURS: ActionSchemas = {name: action.schema() for name, action in ACTIONS[AgentKind.KUBERNETES].items()}
OPERATIONS = "/api/v1/operations"
CAREFUL = SCALE | {"params": {"replicas": 3, "current_replicas": 2}}
LATER = NOW + timedelta(seconds=1)


def older() -> ActionSchemas:
    """Of an agent from before `scale` took `current_replicas`."""
    schemas = deepcopy(OURS)
    del schemas["scale"]["properties"]["current_replicas"]
    return schemas


@pytest.fixture
async def either(either_url: str) -> Any:
    """An API on SQLite and on PostgreSQL, and what fills its database."""
    async with Database(either_url) as database:
        app = create_app(database, Health("api"), Hub(database))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", headers=AUTHORIZED
        ) as api:
            yield Fleet(database), api


async def test_one_agent_shows_it_and_lists_do_not(either: tuple[Fleet, httpx.AsyncClient]) -> None:
    """The schemas as they were announced, by whichever path; lists stay small."""
    fleet, api = either
    await announce(fleet, actions=older())
    for path in ("/clusters", "/agents/kubernetes"):
        assert (await api.get(f"/api/v1{path}/prod-eu")).json()["actions"] == older()
    for path in ("/clusters", "/agents"):
        [item] = (await api.get(f"/api/v1{path}")).json()["items"]
        assert "actions" not in item
    await announce(fleet, time=LATER)
    assert (await api.get("/api/v1/clusters/prod-eu")).json()["actions"] == older()


async def test_an_agent_that_has_not_announced(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Null, and its commands are checked by this version's declarations alone."""
    await announce(fleet)
    await fleet.beats()
    assert (await api.get("/api/v1/clusters/prod-eu")).json()["actions"] is None
    await ask(api, CAREFUL)


async def test_a_parameter_that_the_agent_does_not_know(either: tuple[Fleet, httpx.AsyncClient]) -> None:
    """400 with its name and what to do, before anything is stored; without it, the same is accepted."""
    fleet, api = either
    await announce(fleet, actions=older())
    await fleet.beats()
    problem = assert_problem(await api.post(COMMANDS, json=CAREFUL), 400, "invalid-content")
    assert problem["errors"] == [
        {
            "parameter": "params.current_replicas",
            "message": "is not known to kubernetes/prod-eu, whose agent has version 0.1.0",
        }
    ]
    assert problem["next"] == "upgrade the agent, or leave out what it does not know"
    assert await stored(fleet.database) == []
    await ask(api)


async def test_an_agent_that_was_upgraded(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """From its first heartbeat on it is not taken for the one before, whether it has announced or not."""
    await announce(fleet, actions=older())
    await fleet.beats()
    assert (await api.post(COMMANDS, json=CAREFUL)).status_code == 400
    await announce(fleet, version="0.2.0", time=LATER)
    await ask(api, CAREFUL)
    await announce(fleet, version="0.2.0", actions=older(), time=LATER + timedelta(seconds=1))
    assert (await api.post(COMMANDS, json=CAREFUL)).status_code == 400


async def test_an_agent_that_is_lost_may_come_back_as_another(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Its command waits."""
    await announce(fleet, actions=older(), time=NOW - timedelta(minutes=10))
    await fleet.beats()
    await ask(api, CAREFUL)


async def test_an_operation_asks_nobody_for_what_it_does_not_know(
    either: tuple[Fleet, httpx.AsyncClient],
) -> None:
    """One of its clusters is enough; it is named, and nothing is begun anywhere."""
    fleet, api = either
    for cluster, actions in (("new", OURS), ("old", older()), ("silent", None)):
        await announce(fleet, cluster, actions=actions)
    await fleet.beats()
    asked = {name: value for name, value in CAREFUL.items() if name != "cluster_id"}
    everywhere = asked | {"label_selector": ""}
    problem = assert_problem(await api.post(OPERATIONS, json=everywhere), 409, "not-capable")
    assert str(problem["detail"]).startswith("1 of 3 would refuse (old): params.current_replicas: ")
    assert (await api.get(OPERATIONS)).json()["items"] == []
    without = await api.post(OPERATIONS, json=asked | {"clusters": ["new", "silent"]})
    assert without.status_code == 202


async def test_what_thousands_have_announced_alike_is_read_once(
    either: tuple[Fleet, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each text one is fetched, and the parameters are held against it once; each agent has its answer."""
    fleet, api = either
    agents = [f"c{number:04}" for number in range(3000)]
    able = agents[::3]
    await announce(fleet, *able, actions=OURS)
    await announce(fleet, *sorted(set(agents) - set(able)), actions=older())
    await fleet.beats()
    fetched: list[Target] = []
    bodies, unknown, gone_through = announcements._bodies, announced._unknown, 0

    async def counted_bodies(connection: Any, targets: Any) -> Any:
        found = await bodies(connection, targets)
        fetched.extend(found)
        return found

    def counted_unknown(value: Any, *others: Any) -> Any:
        nonlocal gone_through
        gone_through += value == CAREFUL["params"]
        return unknown(value, *others)

    monkeypatch.setattr(announcements, "_bodies", counted_bodies)
    monkeypatch.setattr(announced, "_unknown", counted_unknown)
    asked = {name: value for name, value in CAREFUL.items() if name != "cluster_id"} | {"label_selector": ""}
    problem = assert_problem(await api.post(OPERATIONS, json=asked), 409, "not-capable")
    assert str(problem["detail"]).startswith("2000 of 3000 would refuse (c0001, c0002, c0004, ")
    assert "is not known to kubernetes/c0001, whose agent has version 0.1.0" in str(problem["detail"])
    assert (len(fetched), gone_through) == (2, 2)
    assert (await api.post(OPERATIONS, json=asked | {"clusters": able})).status_code == 202
    assert (len(fetched), gone_through) == (3, 3)


# --- how schemas are read ----------------------------------------------------------------------------

_PORT = {"type": "object", "properties": {"port": {"type": "integer"}}, "additionalProperties": False}
_OBJECT = {"type": "object", "additionalProperties": False}
_DEFINED = {"$defs": {"Port": _PORT}}
_REFERENCE = {"$ref": "#/$defs/Port"}
_MAYBE = {"anyOf": [_REFERENCE, {"type": "null"}]}


_GOOD, _BAD = {"port": 1}, {"port": 1, "prot": 2}
_CASES: list[tuple[dict[str, Any], Any, list[str]]] = [
    (_PORT, _BAD, ["p.prot"]),
    (_REFERENCE, _BAD, ["p.prot"]),
    (_MAYBE, _BAD, ["p.prot"]),
    (_MAYBE, None, []),
    ({"type": "array", "items": _REFERENCE}, [_GOOD, _BAD], ["p.1.prot"]),
    ({"type": "object", "additionalProperties": _REFERENCE}, {"a": _GOOD, "b": _BAD}, ["p.b.prot"]),
    ({"anyOf": [_PORT, _OBJECT]}, _GOOD, []),
    ({"anyOf": [_PORT, _OBJECT]}, _BAD, ["p.prot"]),
    ({"anyOf": [_PORT, {"type": "object"}]}, _BAD, []),
    ({"type": "object"}, _BAD, []),
    ({}, _BAD, []),
    # What is no JSON Schema:
    *(
        (wrong, value, [])
        for wrong in (
            {"anyOf": 1},
            {"anyOf": ["x", None]},
            {"properties": [1]},
            {"properties": {"port": 1, "prot": "x"}},
            {"additionalProperties": [False]},
            {"$ref": 1},
            {"$ref": "#/$defs/Loop"},
            {"$ref": "#/$defs/Itself"},
            {"items": 3, "type": ["object"]},
        )
        for value in (_BAD, [_BAD])
    ),
]


@pytest.mark.parametrize(("schema", "value", "unknown"), _CASES, ids=str)
async def test_names_inside_of_a_parameter(
    fleet: Fleet, schema: dict[str, Any], value: Any, unknown: list[str]
) -> None:
    """They are named by their place. What is no JSON Schema forbids nothing, and breaks nothing."""
    await announce(fleet)
    await fleet.beats()
    async with fleet.database.read() as connection:
        status = await queries.get_agent(connection, kubernetes("prod-eu"))
    assert status is not None
    definitions = _DEFINED["$defs"] | {
        "Loop": {"$ref": "#/$defs/Loop"},
        "Itself": {"anyOf": [{"$ref": "#/$defs/Itself"}] * 100},
    }
    whole = {"properties": {"p": schema}, "additionalProperties": False, "$defs": definitions}
    action = ACTIONS[AgentKind.KUBERNETES]["scale"]
    wish = Intent(action, object=None, params={"p": value}, dry_run=False)  # type: ignore[arg-type]
    found: list[str] = []
    try:
        check_known(status, unknown_to(wish, {status.target: {"scale": whole}})[status.target])
    except ProblemError as problem:
        found = [error.parameter.removeprefix("params.") for error in problem.errors]
    assert found == unknown
