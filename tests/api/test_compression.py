"""Answers in gzip: for whoever takes them so, and never for the watch."""

import asyncio
import gzip
import json
import zlib

import httpx
import pytest
from litestar.types import Message, Receive, Scope, Send

from schemas.kubernetes.pod import Pod
from services.api.http import compression
from services.api.http.compression import Compression
from tests.api.fixtures import Fleet, meta

_PODS = "/api/v1/clusters/prod-eu/pods"


async def _fill(fleet: Fleet, pods: int) -> None:
    await fleet.state("prod-eu", {"pods": [Pod(metadata=meta(f"web-{n}", "shop")) for n in range(pods)]})


async def _raw(client: httpx.AsyncClient, path: str, accept: str | None) -> tuple[httpx.Response, bytes]:
    """The answer and its content as it was sent."""
    client.headers.pop("accept-encoding", None)
    headers = {} if accept is None else {"Accept-Encoding": accept}
    async with client.stream("GET", path, headers=headers) as answer:
        return answer, b"".join([piece async for piece in answer.aiter_raw()])


@pytest.mark.parametrize(
    ("accept", "compressed"),
    [
        *[(accept, True) for accept in ("gzip", "deflate, gzip;q=0.5", "GZIP", "*", "br;q=1.0, *;q=0.1")],
        *[(a, False) for a in ("identity", "gzip;q=0", "gzip; q=0.0, *", "br", "gzip;q=x", "xgzip", "")],
        (None, False),
    ],
)
async def test_who_takes_it_gets_it(
    fleet: Fleet, served: httpx.AsyncClient, accept: str | None, compressed: bool
) -> None:
    """By `Accept-Encoding` (RFC 9110, 12.5.3); caches are told in either case that it matters."""
    await _fill(fleet, 30)
    answer, content = await _raw(served, _PODS, accept)
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert "Accept-Encoding" in answer.headers["vary"]
    assert int(answer.headers["content-length"]) == len(content)
    assert len(json.loads(gzip.decompress(content) if compressed else content)["items"]) == 30


async def test_what_fits_into_a_packet_is_left_alone(served: httpx.AsyncClient) -> None:
    """It would not be there any earlier."""
    answer, content = await _raw(served, "/livez", "gzip")
    assert ("content-encoding" in answer.headers, content) == (False, b"ok\n")


async def test_a_big_answer_is_compressed_in_pieces(fleet: Fleet, served: httpx.AsyncClient) -> None:
    """Its length is not known before it is sent; it is a fraction, and the same to the byte."""
    await _fill(fleet, 1000)
    _, plain = await _raw(served, f"{_PODS}?limit=1000&view=full", None)
    answer, content = await _raw(served, f"{_PODS}?limit=1000&view=full", "gzip")
    assert "content-length" not in answer.headers
    assert len(plain) > 4 * 65536
    assert len(content) < len(plain) / 5
    assert gzip.decompress(content) == plain


async def test_a_tag_becomes_a_weak_one_and_is_known_again(fleet: Fleet, served: httpx.AsyncClient) -> None:
    """The bytes are others, what they say is not; the answer that nothing has changed varies as well."""
    await _fill(fleet, 30)
    answer, _ = await _raw(served, _PODS, "gzip")
    assert answer.headers["etag"].startswith('W/"')
    headers = {"If-None-Match": answer.headers["etag"], "Accept-Encoding": "gzip"}
    again = await served.get(_PODS, headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    assert "content-encoding" not in again.headers
    assert "Accept-Encoding" in again.headers["vary"]


async def test_a_strong_tag_is_weakened() -> None:
    """RFC 9110, 8.8.1: a strong one promises the same bytes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain"), (b"etag", b'"1"'), (b"vary", b"Origin")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * 5000, "more_body": False})

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Compression(app)), base_url="http://localhost"
    ) as client:
        plain = await client.get("/", headers={"Accept-Encoding": "identity"})
        assert (plain.headers["etag"], plain.headers["vary"]) == ('"1"', "Origin, Accept-Encoding")
        packed = await client.get("/", headers={"Accept-Encoding": "gzip"})
        assert (packed.headers["etag"], packed.text) == ('W/"1"', "x" * 5000)


async def test_the_watch_is_sent_as_it_happens(fleet: Fleet, served: httpx.AsyncClient) -> None:
    """A compressor would hold messages back."""
    async with (
        asyncio.timeout(40),
        served.stream("GET", "/api/v1/watch", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert "content-encoding" not in answer.headers
        async for piece in answer.aiter_raw():
            assert piece.startswith((b"retry:", b"id:", b":", b"event:"))
            return


async def test_others_have_their_turn_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pieces, also when the reader takes all of it at once; what was made is handed on."""
    turns, pieces = 0, list[bytes]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            pieces.append(message["body"])

    monkeypatch.setattr(compression, "_PIECE", 1000)
    task = asyncio.create_task(others())
    compressed = compression._Compressed(send, wanted=True)
    headers = [(b"content-type", b"application/json")]
    await compressed({"type": "http.response.start", "status": 200, "headers": headers})
    await compressed({"type": "http.response.body", "body": b"abcdefg " * 12_500, "more_body": True})
    assert turns >= 100
    await compressed({"type": "http.response.body", "body": b"", "more_body": False})
    assert zlib.decompress(b"".join(pieces), 31) == b"abcdefg " * 12_500
    task.cancel()
