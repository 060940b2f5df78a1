"""Liveness, readiness, metrics and the access log."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from schemas import topology
from services.api.app import create_app
from services.api.watch.hub import Hub
from services.persistence.database import probe
from services.persistence.database.engine import Database
from services.persistence.database.probe import DatabaseProbe
from services.runtime.bus.client import connect
from services.runtime.health import Health
from services.runtime.tasks import cancelled
from tests.api.fixtures import Bus, Fleet
from tests.api.processes import environment, process
from tests.api.test_problems import assert_problem
from tests.bus.fixtures import RunningBroker
from tests.tokens import ACTOR, AUTHORIZED
from tests.waiting import until


async def test_alive_and_ready(api: httpx.AsyncClient) -> None:
    """All is well: `ok`; `?verbose` names the checks."""
    assert (await api.get("/livez")).text == "ok\n"
    assert (await api.get("/readyz")).text == "ok\n"
    assert (await api.get("/readyz?verbose")).text == "[+] database ok\n[+] bus ok\nok\n"


async def test_without_the_bus_it_is_not_ready_but_answers(
    fleet: Fleet, api: httpx.AsyncClient, bus_state: Bus
) -> None:
    """Readiness names the bus and why; the rows are served all the same, and it stays alive."""
    await fleet.heartbeat("prod-eu")
    bus_state.trouble = "connection refused"
    body = assert_problem(await api.get("/readyz"), 503, "not-ready")
    assert body["detail"] == "bus: connection refused"
    assert (await api.get("/livez")).status_code == 200
    assert (await api.get("/api/v1/clusters")).json()["items"]


async def test_without_the_database_it_is_not_ready_but_alive(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would not bring the database back, so liveness does not look at it; it heals by itself."""
    monkeypatch.setattr(probe, "INTERVAL", 0.5)
    away = tmp_path / "away"
    async with Database(f"sqlite+aiosqlite:///{away / 'x.db'}") as database:
        watch, health = DatabaseProbe(database), Health("api")
        health.check("database", watch.health)
        watching = asyncio.create_task(watch.run())
        transport = httpx.ASGITransport(create_app(fleet.database, health, Hub(fleet.database)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=AUTHORIZED
        ) as api:
            told = f"database {away / 'x.db'}: it cannot be opened"
            await until(lambda: watch.health() == told)
            body = assert_problem(await api.get("/readyz"), 503, "not-ready")
            assert body["detail"] == f"database: {told}"
            assert (await api.get("/livez")).status_code == 200
            away.mkdir()
            await until(lambda: watch.health() is None)
            assert (await api.get("/readyz")).text == "ok\n"
        await cancelled(watching)


async def test_readiness_sees_that_dead_letters_are_not_kept(
    own_broker: RunningBroker, database_url: str
) -> None:
    """A stream that is gone leaves database and bus well; the check of its consumer says what to do."""
    async with connect(own_broker.settings(), "operator", name="test") as operator:
        await operator.api(f"$JS.API.STREAM.DELETE.{topology.DEAD_LETTERS.name}")
    variables = environment(own_broker, database_url, API_LISTEN="127.0.0.1:0")
    async with (
        process(**variables) as (_, lines),
        httpx.AsyncClient(base_url=str(lines[-1]["address"]), headers=AUTHORIZED, timeout=40) as client,
    ):

        async def told() -> bool:
            answer = await client.get("/readyz")
            return answer.status_code == 503 and answer.json()["detail"].startswith("dead letters: no stream")

        await until(told)


async def test_metrics_count_by_route_and_not_by_path(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """However many paths are asked for, the series stay as many as there are routes."""
    await fleet.state("prod-eu", {"pods": []})
    for number in range(5):
        await api.get(f"/api/v1/clusters/prod-eu/pods/shop/not-there-{number}")
        await api.get(f"/no-such-path/{number}")
    answer = await api.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    lines = [line for line in answer.text.splitlines() if line.startswith("atlhyper_api_requests_total")]
    route = "/api/v1/clusters/{id}/{resource}/{namespace}/{name}"
    assert [line for line in lines if f'method="GET",route="{route}",status="404"' in line]
    assert [line for line in lines if 'method="GET",route="(none)",status="404"' in line]
    assert "not-there-1" not in answer.text
    assert "/no-such-path" not in answer.text


async def test_one_access_line_without_the_query(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Method, path, status, duration and actor, for routes there are and are not; no query, no header."""
    with caplog.at_level(logging.INFO):
        await api.get("/api/v1/events?q=hunter2")
        await api.get("/api/v1/events", headers={"Authorization": "Bearer hunter2"})
        await api.get("/nothing%0Ahere?token=hunter2")
    lines = [record.msg for record in caplog.records if record.name == "services.api.http.access"]
    shown = ("method", "path", "status", "actor")
    assert [tuple(line[name] for name in shown) for line in lines] == [  # type: ignore[index]
        ("GET", "/api/v1/events", 200, ACTOR),
        ("GET", "/api/v1/events", 401, None),
        ("GET", "/nothing%0Ahere", 404, ACTOR),
    ]
    assert all(line["seconds"] > 0 for line in lines)  # type: ignore[index]
    assert "hunter2" not in caplog.text


async def test_an_address_leads_on(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """What `up` prints can be opened: each path of the index is answered."""
    await fleet.beats()
    epoch = await fleet.state("eu", {"pods": []})
    await fleet.heartbeat("eu", {"pods": ("synced", "")}, epoch=epoch)
    index = (await api.get("/")).json()
    for path in index["paths"].keys() - {"/api/v1/watch"}:
        assert (await api.get(path)).status_code == 200, path
