"""How much is answered at a time, and for how long an answer may be taken."""

import asyncio
import json
import logging

import httpx
import pytest

from schemas.kubernetes.base import ObjectMeta
from schemas.kubernetes.pod import Pod
from services.api.http.limits import Limits
from services.api.settings import ApiSettings
from services.persistence import queries
from services.runtime.settings import load
from tests.api.fixtures import Fleet, meta
from tests.api.raw import listening
from tests.api.test_problems import assert_problem
from tests.tokens import AUTHORIZATION
from tests.waiting import until

_PODS = "/api/v1/clusters/prod-eu/pods?limit=10000&view=full"


def test_the_settings_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not set is what tests without settings have; each has its variable."""
    assert load(ApiSettings).limits == Limits()
    variables = {
        "API_MAX_BODY": "7",
        "API_MAX_URL": "2000",
        "API_MAX_HEADERS": "3000",
        "API_MAX_REQUESTS": "4",
        "API_MAX_SNAPSHOTS": "5",
        "API_RECEIVE_TIMEOUT": "6s",
        "API_ANSWER_TIMEOUT": "1m",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load(ApiSettings).limits == Limits(
        body=7, url=2000, headers=3000, requests=4, snapshots=5, receive=6, answer=60
    )


async def test_more_at_a_time_than_may_be_are_told_to_come_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with `Retry-After` at once, instead of a queue that grows; probes are answered all the same."""
    go_on, entered = asyncio.Event(), 0
    list_agents = queries.list_agents

    async def slow(*arguments, **more):  # type: ignore[no-untyped-def]
        nonlocal entered
        entered += 1
        await go_on.wait()
        return await list_agents(*arguments, **more)

    monkeypatch.setattr(queries, "list_agents", slow)
    async with listening(fleet.database, Limits(requests=3)) as served:
        held = [asyncio.create_task(served.client.get("/api/v1/clusters")) for _ in range(3)]
        await until(lambda: entered == 3)
        refused = await served.client.get("/api/v1/events")
        assert_problem(refused, 503, "too-many-requests")
        assert refused.headers["retry-after"] == "1"
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await served.client.get(path)).status_code == 200
        go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200] * 3
        assert (await served.client.get("/api/v1/clusters")).status_code == 200


async def test_an_answer_that_does_not_come_is_given_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first byte it becomes a 503 that says so."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(queries, "list_agents", never)
    async with listening(fleet.database, Limits(answer=0.2)) as served:
        body = assert_problem(await served.client.get("/api/v1/clusters"), 503, "too-slow")
    assert "API_ANSWER_TIMEOUT" in str(body["next"])


async def test_a_slow_reader_of_a_big_answer_is_cut_off(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has not taken in time is not kept for it; it sees less than `Content-Length` promised."""
    annotations = {"note": "x" * 40_000}
    pods = [Pod(metadata=_with(annotations, meta(f"web-{n}", "shop"))) for n in range(400)]
    await fleet.state("prod-eu", {"pods": pods})
    async with listening(fleet.database, Limits(answer=12.0, requests=1)) as served:
        reader, writer = await asyncio.open_connection(served.host, served.port, limit=1024)
        writer.write(f"GET {_PODS} HTTP/1.1\r\nHost: localhost\r\n".encode() + AUTHORIZATION + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        with caplog.at_level(logging.WARNING):
            await until(lambda: "answer broken off" in caplog.text)
        assert (await served.client.get("/api/v1/clusters")).status_code == 200  # its place is free
        content = await reader.read(1 << 30)
        while piece := await reader.read(1 << 30):
            content += piece
        with pytest.raises(json.JSONDecodeError):
            json.loads(content)
        writer.close()


def _with(annotations: dict[str, str], metadata: ObjectMeta) -> ObjectMeta:
    metadata.annotations = annotations
    return metadata


async def test_a_list_of_ten_thousand_is_one_answer(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """The most that one page holds; more is refused with what to do, never cut."""
    body = assert_problem(
        await api.get("/api/v1/clusters/prod-eu/pods?limit=100000"), 400, "invalid-parameter"
    )
    assert "10000" in str(body["detail"])
