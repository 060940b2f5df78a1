"""`GET /clusters/{id}/snapshot`: everything of one moment, streamed, and never a part that looks whole."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import make_url

from schemas.kubernetes import KINDS
from schemas.kubernetes.node import Node
from schemas.kubernetes.pod import Pod
from schemas.kubernetes.snapshot import ClusterSnapshot
from services.api.http.limits import Limits
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.database.postgresql import Limits as PostgresqlLimits
from tests.api.fixtures import NOW, Fleet, meta
from tests.api.processes import environment, process
from tests.api.raw import listening
from tests.api.test_problems import assert_problem
from tests.bus.fixtures import RunningBroker
from tests.tokens import AUTHORIZED
from tests.waiting import until

_PATH = "/api/v1/clusters/prod-eu/snapshot"
_ROWS = 100_000
_SOME = 15_000
_MIB = 1 << 20


async def _fill(fleet: Fleet, pods: int = 3) -> None:
    epoch = await fleet.state(
        "prod-eu",
        {
            "pods": [Pod(metadata=meta(f"web-{n}", "shop")) for n in range(pods)],
            "nodes": [Node(metadata=meta("node-1"))],
        },
    )
    await fleet.beats()
    await fleet.heartbeat(
        "prod-eu",
        {"pods": ("synced", ""), "nodes": ("synced", ""), "secrets": ("forbidden", "no")},
        epoch=epoch,
    )
    await fleet.event("prod-eu", "e1", minutes_ago=2)
    await fleet.event("prod-eu", "e2", minutes_ago=1)
    await fleet.state("prod-us", {"pods": [Pod(metadata=meta("other", "shop"))]})


def _multiply(url: str, rows: int) -> None:
    """Copies of the one pod there is, straight in the file: the write side would take minutes."""
    with closing(sqlite3.connect(str(make_url(url).database))) as file, file:
        columns = [row[1] for row in file.execute("PRAGMA table_info(resource)")]
        values = ", ".join("'copy-' || n" if name == "name" else f'"{name}"' for name in columns)
        file.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
            f"INSERT INTO resource SELECT {values} FROM resource, numbers WHERE resource = 'pods' "
            "AND target_id = 'prod-eu'",
            (rows - 1,),
        )


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> str:
    """A database whose cluster has 15,000 pods of a kilobyte: more than a connection's buffers take."""
    return _of_pods(shutil.copy(empty_database, tmp_path_factory.mktemp("some") / "api.db"), _SOME)


def _of_pods(file: Path, pods: int) -> str:
    url = f"sqlite+aiosqlite:///{file}"

    async def fill() -> None:
        async with Database(url) as database:
            metadata = meta("web-0", "shop")
            metadata.annotations = {"note": "x" * 800}
            await Fleet(database).state("prod-eu", {"pods": [Pod(metadata=metadata)]})

    asyncio.run(fill())
    _multiply(url, pods)
    return url


async def test_it_is_everything_of_one_cluster(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Each object that the lists show, by resource; what is not collected is said; none of others."""
    await _fill(fleet)
    answer = await api.get(_PATH)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["cluster_id"] == "prod-eu"
    assert body["fetched_at"] == body["as_of"] == NOW.isoformat().replace("+00:00", "Z")
    assert {resource for resource in KINDS if body[resource]} == {"pods", "nodes", "events"}
    assert [pod["metadata"]["name"] for pod in body["pods"]] == ["web-0", "web-1", "web-2"]
    assert [event["metadata"]["name"] for event in body["events"]] == ["e2", "e1"]
    agent = (await api.get("/api/v1/clusters/prod-eu")).json()
    assert [body[name] for name in ("version", "summary", "collection")] == [
        agent[name] for name in ("version", "summary", "collection")
    ]
    for resource in ("pods", "nodes"):
        items = (await api.get(f"/api/v1/clusters/prod-eu/{resource}?view=full")).json()["items"]
        assert [item["object"] for item in items] == body[resource]


async def test_it_is_the_contracts_snapshot(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """It decodes as `schemas`' ClusterSnapshot, with each kind's own type."""
    await _fill(fleet)
    decoded = msgspec.json.decode((await api.get(_PATH)).content, type=ClusterSnapshot)
    assert decoded.pods[0].metadata.uid == "uid-shop-web-0"  # type: ignore[attr-defined]
    assert decoded.fetched_at == NOW
    assert decoded.summary.nodes


async def test_its_position_goes_on_with_the_watch(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """What is in it is not told again."""
    await _fill(fleet)
    body = (await api.get(_PATH)).json()
    listed = (await api.get("/api/v1/clusters/prod-eu/pods")).json()
    assert body["position"] == listed["position"]


async def test_a_cluster_of_which_nothing_has_come(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Empty lists, and no moment; one that nobody knows is a problem."""
    await fleet.heartbeat("new")
    body = (await api.get("/api/v1/clusters/new/snapshot")).json()
    assert (body["fetched_at"], body["version"], body["pods"]) == (None, 0, [])
    assert_problem(await api.get("/api/v1/clusters/none/snapshot"), 404, "unknown-agent")
    assert_problem(await api.get("/api/v1/clusters/NO/snapshot"), 400, "invalid-parameter")


async def test_what_was_added_by_setting_is_there(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """Under `generic`, by resource; an object that could not be read is there by its name."""
    await _fill(fleet)
    database = str(make_url(str(fleet.database._url)).database)
    with closing(sqlite3.connect(database)) as file, file:
        file.execute("UPDATE resource SET resource = 'widgets.example.io' WHERE name = 'web-1'")
        file.execute("UPDATE resource SET body = CAST('null' AS BLOB) WHERE name = 'web-2'")
    body = (await api.get(_PATH)).json()
    assert [item["metadata"]["name"] for item in body["generic"]["widgets.example.io"]] == ["web-1"]
    assert body["pods"][1] == {"metadata": {"namespace": "shop", "name": "web-2", "uid": "uid-shop-web-2"}}


async def test_it_is_not_sent_again_unchanged(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """304 to the tag it had; another once an object, an Event, or what is collected has changed."""
    await _fill(fleet)
    tags = [(await api.get(_PATH)).headers["etag"]]
    same = await api.get(_PATH, headers={"If-None-Match": f'"x", {tags[0]}'})
    assert (same.status_code, same.content) == (304, b"")
    await fleet.event("prod-eu", "e3")
    tags.append((await api.get(_PATH)).headers["etag"])
    later = NOW + timedelta(seconds=15)
    await fleet.heartbeat("prod-eu", {"pods": ("failing", "no")}, time=later)
    tags.append((await api.get(_PATH)).headers["etag"])
    await fleet.state("prod-eu", {"pods": []})
    tags.append((await api.get(_PATH)).headers["etag"])
    assert len(set(tags)) == 4
    head = await api.head(_PATH)
    assert (head.status_code, head.headers["etag"], head.content) == (200, tags[-1], b"")


async def test_it_is_the_same_on_both_databases(either_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its reader takes longer than PostgreSQL lets a transaction stand still."""
    bodies = queries.bodies

    async def slow(*arguments: Any) -> AsyncIterator[Any]:
        async with aclosing(bodies(*arguments)) as found:
            async for portion in found:
                yield portion
                await asyncio.sleep(4.5)

    async with Database(either_url) as database:
        await _fill(Fleet(database), pods=60)
    async with (
        Database(either_url, limits=PostgresqlLimits(idle=4.0)) as database,
        listening(database) as served,
    ):
        body = (await served.client.get(_PATH)).json()
        assert len(body["pods"]) == 60
        monkeypatch.setattr(queries, "bodies", slow)
        assert (await served.client.get(_PATH)).json() == body


@pytest.mark.timeout(180)
async def test_a_hundred_thousand_rows_take_little_memory(
    broker: RunningBroker, tmp_path: Path, empty_database: Path
) -> None:
    """The process does not grow by 64 MiB, and what comes is valid JSON to its last byte."""
    file = shutil.copy(empty_database, tmp_path / "api.db")
    url = await asyncio.to_thread(_of_pods, file, _ROWS)
    variables = environment(broker, url, API_LISTEN="127.0.0.1:0")
    async with (
        process(**variables) as (running, lines),
        httpx.AsyncClient(base_url=str(lines[-1]["address"]), timeout=60, headers=AUTHORIZED) as client,
    ):
        assert (await client.get("/api/v1/clusters/prod-eu")).status_code == 200
        before, most, content = _anonymous(running.pid), 0, bytearray()
        async with client.stream("GET", _PATH, headers={"Accept-Encoding": "identity"}) as answer:
            async for piece in answer.aiter_raw():
                content += piece
                most = max(most, _anonymous(running.pid))
    assert len(content) > 90 * _MIB
    assert most - before < 64 * _MIB
    assert len(json.loads(content)["pods"]) == _ROWS


def _anonymous(pid: int) -> int:
    """Bytes of memory that are the process's own; the mapped file is the kernel's to take back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


async def test_a_reader_that_goes_away_frees_everything(some: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is read for it, its connection to the database is in the pool again, its seat free."""
    bodies, read = queries.bodies, 0

    async def counted(*arguments: Any) -> AsyncIterator[Any]:
        nonlocal read
        async with aclosing(bodies(*arguments)) as found:
            async for portion in found:
                read += len(portion)
                yield portion

    monkeypatch.setattr(queries, "bodies", counted)
    async with Database(some) as database, listening(database, Limits(snapshots=1)) as served:
        for _ in range(5):
            read = 0
            async with served.client.stream("GET", _PATH, headers={"Accept-Encoding": "identity"}) as answer:
                assert answer.status_code == 200
                assert _checked_out(database) == 1
            await until(lambda: _checked_out(database) == 0)
            assert read < _SOME
            await until(lambda: _checkpointed(some))  # a connection that is not kept is closed by its thread
        assert (await served.client.head(_PATH)).status_code == 200


async def test_more_snapshots_than_may_be_are_told_to_come_back(some: str) -> None:
    """They hold connections that lists need."""
    async with (
        Database(some) as database,
        listening(database, Limits(snapshots=2)) as served,
        served.client.stream("GET", _PATH),
        served.client.stream("GET", _PATH),
    ):
        refused = await served.client.get(_PATH)
        assert_problem(refused, 503, "too-many-snapshots")
        assert refused.headers["retry-after"] == "5"
        assert (await served.client.get("/api/v1/clusters/prod-eu/pods")).status_code == 200


async def test_a_reader_that_is_too_slow_is_cut_off(some: str) -> None:
    """As long as it reads, SQLite cannot shorten its write-ahead log; the transfer breaks, visibly."""
    async with (
        Database(some) as database,
        listening(database, Limits(answer=6.0)) as served,
        served.client.stream("GET", _PATH, headers={"Accept-Encoding": "identity"}) as answer,
    ):
        assert not _checkpointed(some)
        await until(lambda: _checked_out(database) == 0)
        await until(lambda: _checkpointed(some))
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()


def _checkpointed(url: str) -> bool:
    """Whether the log can be emptied, after a write."""
    with closing(sqlite3.connect(str(make_url(url).database), timeout=5, isolation_level=None)) as file:
        file.execute("UPDATE resource SET node = 'n' WHERE name = 'copy-1'")
        file.execute("PRAGMA busy_timeout = 0")
        return file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_what_fails_in_the_middle_is_a_broken_transfer(
    some: str, monkeypatch: pytest.MonkeyPatch, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a document that ends early and looks whole."""
    bodies = queries.bodies

    async def failing(*arguments: Any) -> AsyncIterator[Any]:
        portions = 0
        async with aclosing(bodies(*arguments)) as found:
            async for portion in found:
                yield portion
                portions += 1
                if portions == 100:
                    raise RuntimeError("the disk is gone")

    monkeypatch.setattr(queries, "bodies", failing)
    async with Database(some) as database, listening(database) as served:
        with pytest.raises(httpx.RemoteProtocolError):
            await served.client.get(_PATH, headers={"Accept-Encoding": encoding})
        await until(lambda: _checked_out(database) == 0)
        await until(lambda: "answer broken off" in caplog.text)
    assert "the disk is gone" in caplog.text


def _checked_out(database: Database) -> int:
    return int(database._reader.pool.checkedout())  # type: ignore[attr-defined]
