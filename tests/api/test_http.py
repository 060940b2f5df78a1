"""What is odd HTTP is answered clearly, or as if nothing were odd; never with an error of ours."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio

from schemas.kubernetes.pod import Pod
from services.api.http import protocol
from services.api.http.limits import Limits
from services.persistence import tokens
from services.persistence.database.engine import Database
from tests.api.fixtures import Fleet, meta
from tests.api.raw import Served, listening

_LIST = "/api/v1/clusters/prod-eu/pods"
_LIMITS = Limits(body=1000, url=2048, headers=4096, receive=2.0)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def odd(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> AsyncIterator[Served]:
    """An API with small limits, and a cluster with a pod."""
    file = shutil.copy(empty_database, tmp_path_factory.mktemp("odd") / "api.db")
    with pytest.MonkeyPatch.context() as patch:
        # Between two tests its loop stands still, perhaps in the middle of a look that has two seconds.
        patch.setattr(tokens, "_PATIENCE", 60.0)
        async with Database(f"sqlite+aiosqlite:///{file}") as database:
            await Fleet(database).state("prod-eu", {"pods": [Pod(metadata=meta("web-0", "shop"))]})
            async with listening(database, _LIMITS) as served:
                yield served


def _get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize(
    ("request_", "status", "problem"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "invalid-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello over TLS\r\n\r\n", 400, "invalid-request"),
        (b"GET /\xf0\x9f\x98\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "invalid-request"),
        (b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "invalid-request"),
        (_get(_LIST, "Content-Length: x"), 400, "invalid-request"),
        (_get(_LIST, "Content-Length: -1"), 400, "invalid-request"),
        (_get(_LIST, "Content-Length: 1", "Content-Length: 2"), 400, "invalid-request"),
        (_get(_LIST, "A: " + "x" * 300_000), 431, "headers-too-large"),
        (_get(_LIST, *(f"A{n}: {'x' * 100}" for n in range(50))), 431, "headers-too-large"),
        (_get(f"{_LIST}?namespace={'x' * 2048}"), 414, "uri-too-long"),
        (_get(f"{_LIST}/{'x' * 2048}/y"), 414, "uri-too-long"),
        (_get(f"{_LIST}?namespace=%ff"), 400, "invalid-request"),
        (_get(f"{_LIST}?%c3%28=1"), 400, "invalid-request"),
        (_get(f"{_LIST}/shop/%fe"), 400, "invalid-request"),
        (_get(f"{_LIST}/shop/web%2F0"), 400, "invalid-request"),
        (_get("/api/v1/clusters/"), 404, "unknown-path"),
        (_get("/api/v1/clusters//pods"), 404, "unknown-path"),
        (_get("//api/v1/clusters"), 404, "unknown-path"),
        (_get("/nothing"), 404, "unknown-path"),
        (_get("http://localhost/nothing"), 404, "unknown-path"),
        (_get(f"{_LIST}#here"), 404, "unknown-resource"),
        (_get("/schema/nothing"), 404, "unknown-path"),
        (_get("/schema/openapi.yaml"), 404, "unknown-path"),
        (_get("localhost:80", method="CONNECT"), 404, "unknown-path"),
        (_get(_LIST, "Content-Length: 3") + b"abc", 415, "unsupported-media-type"),
        (_get(_LIST, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n", 415, "unsupported-media-type"),
        (_get(_LIST, "Transfer-Encoding: chunked") + b"zzz\r\n", 400, "invalid-request"),
        (_get(_LIST, "Content-Length: 1001"), 413, "content-too-large"),
        (_get(_LIST, "Content-Length: 1001", method="POST"), 413, "content-too-large"),
        (_get(_LIST, "Content-Length: 1001", "Expect: 100-continue"), 413, "content-too-large"),
        (
            _get(_LIST, "Transfer-Encoding: chunked", method="POST") + b"1f4\r\n" + b"x" * 500 + b"\r\n"
            b"1f5\r\n" + b"x" * 501 + b"\r\n",
            413,
            "content-too-large",
        ),
        (_get(_LIST, "Content-Length: 3", method="POST") + b"abc", 405, "method-not-allowed"),
        (_get(_LIST, "Content-Length: 3"), 408, "request-timeout"),
        (_get(_LIST, "Accept: text/html"), 406, "not-acceptable"),
        (_get(_LIST, "Accept: application/json;q=0, */*"), 406, "not-acceptable"),
        (_get(_LIST, "Accept: nonsense"), 406, "not-acceptable"),
        (_get("/api/v1/watch", "Accept: application/json"), 406, "not-acceptable"),
        (_get("/metrics", "Accept: application/json"), 406, "not-acceptable"),
        (_get(_LIST, method="TRACE"), 405, "method-not-allowed"),
        (_get(_LIST, method="get"), 405, "method-not-allowed"),
    ],
)
async def test_what_is_refused(odd: Served, request_: bytes, status: int, problem: str) -> None:
    """A problem with a next step, whoever noticed: the server, the limits, the framework or a handler."""
    answer = await odd.send(request_)
    assert answer.status == status
    answer.problem(problem)


@pytest.mark.parametrize(
    "request_",
    [
        _get(_LIST, "Expect: 100-continue"),
        _get(_LIST, "Expect: miracles"),
        _get(_LIST, "Range: bytes=0-10"),
        _get(_LIST, "Content-Length: 0"),
        _get(_LIST, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        _get(_LIST, "Accept:"),
        _get(_LIST, "Accept: */*"),
        _get(_LIST, "Accept: application/*"),
        _get(_LIST, "Accept: text/html,application/xhtml+xml,*/*;q=0.8"),
        _get(_LIST, "Accept: APPLICATION/JSON; charset=utf-8; q=0.001"),
        _get(_LIST, "Cookie: a=b", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil.example"),
        _get(f"http://localhost{_LIST}"),
    ],
)
async def test_what_is_overlooked(odd: Served, request_: bytes) -> None:
    """What asks for nothing that could be missed changes nothing: the whole list, as always."""
    answer = await odd.send(request_)
    assert answer.status == 200
    assert [item["name"] for item in json.loads(answer.content)["items"]] == ["web-0"]


async def test_an_old_client_is_answered(odd: Served) -> None:
    """HTTP/1.0, without a Host."""
    answer = await odd.send(b"GET /livez HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.content) == (200, b"ok\n")


async def test_content_in_time_leaves_the_connection_usable(odd: Served) -> None:
    """A refusal closes the connection, or what follows could be read as the next request (RFC 9112, 11.2)."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await odd.send(_get(_LIST, f"Content-Length: {len(hidden)}") + hidden)
    assert answer.status == 415
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("start", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"])
async def test_a_head_that_does_not_come_loses_its_connection(
    odd: Served, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    """Connections that only trickle would add up; also when a byte comes now and then."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.3)
    reader, writer = await asyncio.open_connection(odd.host, odd.port)
    reading = asyncio.create_task(_all(reader))
    async with asyncio.timeout(30):
        writer.write(start)
        while not (await asyncio.wait([reading], timeout=0.05))[0]:
            if start:
                writer.write(b"X")
    writer.close()
    answer = reading.result()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request-timeout" in answer


async def _all(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end; that is a reset where a byte of ours crosses it."""
    content = b""
    with suppress(ConnectionResetError):
        while some := await reader.read(9000):
            content += some
    return content


async def test_a_kept_connection_has_as_long_for_each_head(
    odd: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of a head is counted from its first byte, not from the connection's."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.5)
    reader, writer = await asyncio.open_connection(odd.host, odd.port)
    for _ in range(4):
        writer.write(_get("/livez"))
        assert b"ok" in await reader.read(9000)
        await asyncio.sleep(0.2)  # as a client does that has nothing to ask for a while
    writer.close()


@pytest.mark.parametrize(
    "name",
    [
        "%3Cscript%3Ealert(1)%3C/script%3E".replace("/", "%C2%A0"),
        "100%25",
        "%25zz",
        "%zz",
        "%E2%80%AEgpj.exe",
        "..",
        "%2e%2e",
        "%0d%0aSet-Cookie:%20a=b",
        "%F0%9F%98%80" * 20,
        "'%20OR%201=1%20--",
        "\\",
    ],
)
async def test_odd_names_are_names(odd: Served, name: str) -> None:
    """Markup, percent signs, right-to-left text and line ends are looked for, not found, and told as JSON."""
    for path in (f"{_LIST}/shop/{name}", f"/api/v1/dead-letters/{name}", f"/api/v1/events/prod-eu/{name}"):
        answer = await odd.send(_get(path))
        assert answer.status == 404
        assert unquote(answer.problem("unknown-object")["instance"]) == unquote(path)
        assert "set-cookie" not in answer.headers
        assert answer.headers.get("x-content-type-options") == "nosniff"
    answer = await odd.send(_get(f"{_LIST}?namespace={name}"))
    assert (answer.status, json.loads(answer.content)["items"]) == (200, [])


@pytest.mark.parametrize("path", ["/api/v1/clusters", "/livez", "/api/v1/watch", f"{_LIST}/shop/web-0"])
async def test_options_names_the_methods_of_each_path(odd: Served, path: str) -> None:
    """204 with `Allow`."""
    answer = await odd.send(_get(path, method="OPTIONS"))
    assert answer.status == 204
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/commands", ["GET", "HEAD", "OPTIONS", "POST"]),
        ("/api/v1/commands/x/cancel", ["OPTIONS", "POST"]),
    ],
)
async def test_all_methods_of_a_path_are_named(odd: Served, path: str, methods: list[str]) -> None:
    """Where several handlers share it: to OPTIONS, and with the 405."""
    for method, status in (("OPTIONS", 204), ("DELETE", 405)):
        answer = await odd.send(_get(path, method=method))
        assert (answer.status, sorted(answer.headers["allow"].split(", "))) == (status, methods)
