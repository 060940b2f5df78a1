"""Every refusal is an RFC 9457 problem that names what is wrong and what to do."""

import logging
from pathlib import Path

import httpx
import pytest

from schemas.kubernetes.pod import Pod
from services.api.app import create_app
from services.api.http import problems
from services.api.watch.hub import Hub
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.runtime.health import Health
from tests.api.fixtures import Fleet, meta
from tests.tokens import AUTHORIZED

_PODS = "/api/v1/clusters/prod-eu/pods"


def assert_problem(answer: httpx.Response, status: int, name: str) -> dict[str, object]:
    """The shape that every problem has."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body["type"] == f"urn:atlhyper:problem:{name}"
    assert body["status"] == status
    assert body["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert all(isinstance(body[member], str) and body[member] for member in ("title", "detail", "next"))
    return body


@pytest.mark.parametrize(
    ("path", "parameter", "message"),
    [
        (f"{_PODS}?limit=0", "limit", "is not from 1 to 10000"),
        (f"{_PODS}?limit=10001", "limit", "is not from 1 to 10000"),
        (f"{_PODS}?limit=many", "limit", "int"),
        (f"{_PODS}?limit=1e3", "limit", "'1e3' is not an integer"),
        ("/api/v1/clusters/prod-eu/logs/shop/web-0?tail=1e3", "tail", "'1e3' is not an integer"),
        ("/api/v1/clusters/prod-eu/logs/shop/web-0?tail=-1", "tail", "is not from 0 to 2147483647"),
        (f"{_PODS}?limit=-1", "limit", "is not from 1 to 10000"),
        (f"{_PODS}?limit=", "limit", "int"),
        (f"{_PODS}?limit=1&limit=2", "limit", "more than once"),
        (f"{_PODS}?view=all", "view", "is not one of summary, full"),
        (f"{_PODS}?continue=nonsense", "continue", "not one that was given out"),
        (f"{_PODS}?continue=W10", "continue", "not one that was given out"),
        (f"{_PODS}?continue={'x' * 5000}", "continue", "length"),
        (f"{_PODS}?page=2", "page", "unknown parameter"),
        (f"{_PODS}?Limit=2", "Limit", "unknown parameter"),
        (f"{_PODS}?namespace=a%00b", "namespace", "NUL"),
        (f"{_PODS}/shop/a%00b", "name", "NUL"),
        (f"{_PODS}?namespace={'x' * 254}", "namespace", "length"),
        ("/api/v1/clusters?sort=id", "sort", "unknown parameter"),
        ("/api/v1/clusters/PROD", "id", "a-z, 0-9 and '-'"),
        ("/api/v1/clusters/a%0A/pods", "id", "a-z, 0-9 and '-'"),
        ("/api/v1/agents/vm/a", "kind", "is not one of kubernetes, host, terraform"),
        ("/api/v1/events?since=yesterday", "since", "date"),
        ("/api/v1/events?since=2026-11-21T08:00:00", "since", "time zone"),
        ("/api/v1/events?until=2026-11-21T08:00:00", "until", "time zone"),
        ("/api/v1/events?since=9999-12-31T23:59:59-14:00", "since", "years"),
        ("/api/v1/events?since=0001-01-01T00:00:00%2B14:00", "since", "years"),
        ("/api/v1/events?until=9999-12-31T23:59:59-14:00", "until", "years"),
        ("/api/v1/events?until=0001-01-01T00:00:00%2B14:00", "until", "years"),
        ("/api/v1/events?until=0.5", "until", "date"),
        ("/api/v1/events?since=1795248000", "since", "date"),
        ("/api/v1/events?cluster=a,,b", "cluster", "a-z, 0-9 and '-'"),
        ("/api/v1/events?continue=%F0%9F%98%80", "continue", "not one that was given out"),
        ("/api/v1/dead-letters?continue=x", "continue", "not one that was given out"),
        ("/readyz?loud", "loud", "unknown parameter"),
        (f"{_PODS}/shop/web-0/live?format=xml", "format", "is not one of json, yaml"),
    ],
)
async def test_a_bad_parameter_is_named(
    fleet: Fleet, api: httpx.AsyncClient, path: str, parameter: str, message: str
) -> None:
    """400, with the parameter's own name and what is wrong with it."""
    await fleet.state("prod-eu", {"pods": []})
    body = assert_problem(await api.get(path), 400, "invalid-parameter")
    [error] = body["errors"]  # type: ignore[misc]
    assert error["parameter"] == parameter
    assert message in error["message"]
    assert parameter in str(body["detail"])


@pytest.mark.parametrize(
    ("path", "written", "meant"),
    [
        (f"{_PODS}?namespaces=shop", "namespaces", "namespace"),
        (f"{_PODS}?Namespace=shop", "Namespace", "namespace"),
        (f"{_PODS}?labelSelektor=a%3Db", "labelSelektor", "labelSelector"),
        ("/api/v1/events?until_=2026-11-21T08:00:00Z", "until_", "until"),
        ("/readyz?verbos", "verbos", "verbose"),
    ],
)
async def test_the_parameter_that_was_meant_is_named(
    api: httpx.AsyncClient, path: str, written: str, meant: str
) -> None:
    """A typo must not silently give everything."""
    body = assert_problem(await api.get(path), 400, "invalid-parameter")
    assert written in str(body["detail"])
    assert str(body["next"]).startswith(f"write {meant}, or leave it out")


async def test_a_continue_of_another_query_is_refused(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """A token is bound to its filters: with others it would skip rows without a word."""
    await fleet.event("prod-eu", "a")
    await fleet.event("prod-eu", "b")
    token = (await api.get("/api/v1/events?limit=1")).json()["continue"]
    body = assert_problem(
        await api.get(f"/api/v1/events?limit=1&type=Warning&continue={token}"), 400, "invalid-parameter"
    )
    assert "another query" in str(body["detail"])


async def test_rows_that_vanish_between_pages_are_no_error(fleet: Fleet, api: httpx.AsyncClient) -> None:
    """A cluster that is swept meanwhile: the next page holds what is left, which may be nothing."""
    pods = [Pod(metadata=meta(f"web-{number}", "shop")) for number in range(6)]
    await fleet.state("prod-eu", {"pods": pods})
    page = (await api.get(f"{_PODS}?limit=2")).json()
    await fleet.state("prod-eu", {"pods": pods[4:]})
    path = f"{_PODS}?limit=2&continue={page['continue']}"
    assert [item["name"] for item in (await api.get(path)).json()["items"]] == ["web-4", "web-5"]
    await fleet.state("prod-eu", {"pods": []})
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["items"], answer.json()["continue"]) == (200, [], None)


@pytest.mark.parametrize(
    ("path", "name", "hint"),
    [
        ("/nothing", "unknown-path", "/schema/openapi.json"),
        ("/api/v1", "unknown-path", "/schema/openapi.json"),
        ("/api/v2/clusters", "unknown-path", "/schema/openapi.json"),
        ("/api/v1/clusters/staging", "unknown-agent", "prod-eu"),
        ("/api/v1/clusters/staging/pods", "unknown-agent", "prod-eu"),
        ("/api/v1/agents/host/web-1", "unknown-agent", "none yet"),
        ("/api/v1/clusters/prod-eu/pod", "unknown-resource", "pods"),
        ("/api/v1/clusters/prod-eu/pod/shop/web-0", "unknown-resource", "pods"),
        ("/api/v1/clusters/prod-eu/pods/shop/web-9", "unknown-object", "resources/pods"),
        ("/api/v1/clusters/prod-eu/events/shop/x", "unknown-object", "/api/v1/events/prod-eu/"),
        ("/api/v1/events/prod-eu/none", "unknown-object", "/api/v1/events?cluster=prod-eu"),
        ("/api/v1/events/staging/none", "unknown-agent", "prod-eu"),
        ("/api/v1/events?cluster=prod-eu,staging", "unknown-agent", "prod-eu"),
        ("/api/v1/dead-letters/none", "unknown-object", "/api/v1/dead-letters"),
    ],
)
async def test_what_is_not_there_says_what_is(
    fleet: Fleet, api: httpx.AsyncClient, path: str, name: str, hint: str
) -> None:
    """404, and the next step names what there is instead."""
    await fleet.state("prod-eu", {"pods": []})
    assert hint in str(assert_problem(await api.get(path), 404, name)["next"])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
async def test_other_methods_are_refused(api: httpx.AsyncClient, method: str) -> None:
    """405 with the methods there are, in the header and in words."""
    answer = await api.request(method, "/api/v1/clusters")
    body = assert_problem(answer, 405, "method-not-allowed")
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]
    assert "GET, HEAD, OPTIONS" in str(body["next"])


@pytest.mark.parametrize("path", ["/api/v1/clusters", "/livez", _PODS, "/nothing", f"{_PODS}?limit=0"])
async def test_head_is_get_without_the_content(fleet: Fleet, served: httpx.AsyncClient, path: str) -> None:
    """HEAD has the status and the headers of GET, on every path (RFC 9110, 9.3.2)."""
    await fleet.state("prod-eu", {"pods": []})
    get, head = await served.get(path), await served.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_options_names_the_methods(api: httpx.AsyncClient) -> None:
    """OPTIONS answers with `Allow` and nothing else."""
    answer = await api.options("/api/v1/clusters")
    assert (answer.status_code, answer.content) == (204, b"")
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "evil@127.0.0.1"),
        *("127.0.0.1:99999999", "127.0.0.1:x", "[::1", "::1", ""),
    ],
)
async def test_a_foreign_host_name_is_refused(api: httpx.AsyncClient, host: str) -> None:
    """A page whose name was made to resolve to this machine reads nothing (DNS rebinding).

    What is no host at all is refused as well; where there is no such path, it says so.
    """
    answer = await api.get("/api/v1/clusters", headers={"Host": host})
    assert_problem(answer, 400, "invalid-request")
    assert_problem(await api.get("/nothing", headers={"Host": host}), 404, "unknown-path")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8080"])
async def test_local_names_are_served(api: httpx.AsyncClient, host: str) -> None:
    """A tunnel may end on any local name and port."""
    assert (await api.get("/api/v1/clusters", headers={"Host": host})).status_code == 200


async def test_an_unforeseen_error_keeps_its_words_to_the_log(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 names a reference; the cause is in the log under it, and not in the answer."""

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a detail of ours")

    monkeypatch.setattr(queries, "list_agents", fail)
    with caplog.at_level(logging.ERROR):
        answer = await api.get("/api/v1/clusters")
    body = assert_problem(answer, 500, "internal-error")
    assert "a detail of ours" not in answer.text
    [record] = [record for record in caplog.records if record.name == "services.api.http.answering"]
    assert isinstance(record.msg, dict)
    assert record.msg["reference"] in str(body["detail"])


async def test_a_database_that_is_away_is_not_our_fault(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with `Retry-After`: the same request may succeed later."""

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("database /srv/a.db: another process holds it")

    monkeypatch.setattr(queries, "list_agents", away)
    answer = await api.get("/api/v1/clusters")
    body = assert_problem(answer, 503, "database-unavailable")
    assert (body["detail"], body["next"]) == (
        "database /srv/a.db: another process holds it",
        problems.UNAVAILABLE.next,
    )
    assert answer.headers["retry-after"] == "5"


async def test_a_damaged_database_is_called_so(tmp_path: Path) -> None:
    """What is wrong and what to do, in the words for the person who runs it."""
    file = tmp_path / "letter.db"
    file.write_text("this is a letter, not a database\n" * 100)
    async with Database(f"sqlite+aiosqlite:///{file}") as database:
        transport = httpx.ASGITransport(create_app(database, Health("api"), Hub(database)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=AUTHORIZED
        ) as api:
            body = assert_problem(await api.get("/api/v1/clusters"), 503, "database-unavailable")
    assert body["detail"] == f"database {file}: the file is not a database"
    assert body["next"] == "restore it from a backup or name another file"
