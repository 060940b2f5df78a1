"""Whatever is given for an id, in a path or in a query: the answer says what is wrong with it."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from schemas.control import CommandsChanged
from schemas.envelope import Envelope
from schemas.registry import COMMANDS_CHANGED
from services.api.app import create_app
from services.api.commands.waiting import CommandNews
from services.api.watch.hub import Hub
from services.persistence.database.engine import Database
from services.runtime.health import Health
from tests.api.commanding import COMMANDS, SCALE, announce
from tests.api.fixtures import Fleet
from tests.tokens import AUTHORIZED

IDS = [
    "%C2%A5",  # what is no id of ours, but a character
    "",
    "%00",
    "x" * 64,
    "x" * 65,
    "x" * 254,
    "%22",
    "%27%20OR%201=1--",
    "%60",
    "a.b_c",
    "%20",
    "%0A",
    "%F0%9F%98%80",
    "%FF",  # is no UTF-8
    "%ED%A0%80",  # half a surrogate pair
    "%2F",
    "%2E%2E",
    "{id}",
    "null",
    "_",
    "%25s",
]
OPERATIONS = "/api/v1/operations"
_PODS = "/api/v1/clusters/prod-eu/pods"
ROUTES = [
    ("GET", f"{COMMANDS}/ODD"),
    ("GET", f"{COMMANDS}/ODD?wait=1ms"),
    ("POST", f"{COMMANDS}/ODD/cancel"),
    ("GET", f"{COMMANDS}?cluster=ODD"),
    ("GET", f"{COMMANDS}?operation=ODD"),
    ("GET", f"{COMMANDS}?action=ODD"),
    ("GET", f"{COMMANDS}?actor=ODD"),
    ("GET", f"{COMMANDS}?continue=ODD"),
    ("GET", f"{OPERATIONS}/ODD"),
    ("POST", f"{OPERATIONS}/ODD/pause"),
    ("POST", f"{OPERATIONS}/ODD/resume"),
    ("POST", f"{OPERATIONS}/ODD/cancel"),
    ("GET", f"{OPERATIONS}?continue=ODD"),
    ("GET", "/api/v1/clusters/ODD/pods/shop/web-0/live?wait=1ms"),
    ("GET", "/api/v1/clusters/prod-eu/ODD/shop/web-0/live?wait=1ms"),
    ("GET", f"{_PODS}/ODD/web-0/live?wait=1ms"),
    ("GET", f"{_PODS}/shop/ODD/live?wait=1ms"),
    ("GET", "/api/v1/agents/kubernetes/ODD/resources/pods/shop/web-0/live?wait=1ms"),
    ("GET", "/api/v1/agents/ODD/web-1/resources/pods/shop/web-0/live?wait=1ms"),
]
BODIES: list[tuple[str, dict[str, Any]]] = [
    (COMMANDS, {"cluster_id": "ODD"}),
    (COMMANDS, {"cluster_id": None, "target": {"kind": "kubernetes", "id": "ODD"}}),
    (COMMANDS, {"cluster_id": None, "target": {"kind": "ODD", "id": "prod-eu"}}),
    (COMMANDS, {"name": "ODD"}),
    (COMMANDS, {"namespace": "ODD"}),
    (COMMANDS, {"resource": "ODD"}),
    (COMMANDS, {"uid": "ODD"}),
    (OPERATIONS, {"cluster_id": None, "clusters": ["ODD"]}),
    (OPERATIONS, {"cluster_id": None, "clusters": ["prod-eu"], "name": "ODD"}),
]


class Told:
    """A bus that takes what an api says, and reads it as a master would."""

    name = "api"

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def send(self, _subject: str, envelope: Envelope, **_: object) -> None:
        told: CommandsChanged = COMMANDS_CHANGED.decode(envelope.data)
        self.ids += told.command_ids


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def odd_api(either_url: str, told: Told) -> AsyncIterator[httpx.AsyncClient]:
    """On SQLite and on PostgreSQL, with one agent that takes commands."""
    async with Database(either_url) as database:
        fleet = Fleet(database)
        await announce(fleet)
        await fleet.beats()
        news = CommandNews(database, told)  # type: ignore[arg-type]
        app = create_app(database, Health("api"), Hub(database), news=news)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=AUTHORIZED
        ) as api:
            yield api


async def test_odd_ids_are_answered(odd_api: httpx.AsyncClient, told: Told) -> None:
    """By each path, query and body that takes one: never with a fault of ours, and masters are told only of
    what is stored."""
    faults = []
    for odd in IDS:
        asked = [(method, path.replace("ODD", odd), b"") for method, path in ROUTES]
        asked += [("POST", path, _json(SCALE | body, odd)) for path, body in BODIES]
        for method, path, body in asked:
            headers = {"content-type": "application/json"} if body else {}
            answer = await odd_api.request(method, path, content=body, headers=headers)
            unanswered = answer.status_code == 504 and path.endswith("/live?wait=1ms")
            if answer.status_code >= 500 and not unanswered:
                faults.append((method, path, body, answer.text))
    assert faults == []
    assert told.ids
    for id_ in told.ids:
        kind = COMMANDS if (await odd_api.get(f"{COMMANDS}/{id_}")).status_code == 200 else OPERATIONS
        assert (await odd_api.get(f"{kind}/{id_}")).status_code == 200


def _json(body: dict[str, Any], odd: str) -> bytes:
    """With that in the place of ODD; what is no UTF-8 is half a surrogate pair in JSON."""
    given = {name: value for name, value in body.items() if value is not None}
    return json.dumps(given).replace('"ODD"', json.dumps(unquote(odd, errors="surrogateescape"))).encode()
