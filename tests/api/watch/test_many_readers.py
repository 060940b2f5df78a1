"""Readers that are too many, too slow, or gone."""

import asyncio
import socket

import httpx
import pytest
from prometheus_client import REGISTRY

from services.api.watch import hub as hubs
from services.api.watch import stream
from tests.api.watch.changing import Cluster, big
from tests.api.watch.following import Replica, follow, replica
from tests.tokens import AUTHORIZATION, AUTHORIZED
from tests.waiting import until


async def test_too_many_readers_are_turned_away_and_gone_ones_noticed(
    database_url: str, cluster: Cluster
) -> None:
    """503 with Retry-After; a reader that leaves, or vanishes, gives its place back."""
    async with replica(database_url, max_readers=2) as one, follow(one.url) as first:
        await first.synced()
        async with (
            follow(one.url) as second,
            httpx.AsyncClient(base_url=one.url, headers=AUTHORIZED, timeout=40) as client,
        ):
            await second.synced()
            refused = await client.get("/api/v1/watch")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["type"] == "urn:atlhyper:problem:too-many-readers"
        await until(lambda: one.hub._readers == 1)
        async with follow(one.url) as third:
            await third.synced()


async def slow_reader(url: str) -> socket.socket:
    """A connection with a small buffer that reads until it is synced and then nothing."""
    address = httpx.URL(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (address.host, address.port))
    await loop.sock_sendall(
        connection,
        b"GET /api/v1/watch?initial=true&view=full HTTP/1.1\r\nHost: localhost\r\n" + AUTHORIZATION + b"\r\n",
    )
    received = b""
    while b"event: synced" not in received:
        received += await loop.sock_recv(connection, 4096)
    return connection


@pytest.mark.timeout(180)
async def test_a_slow_reader_slows_nobody_and_misses_nothing(
    one: Replica, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It falls out of the ring, goes on from the database, and has all in the end."""
    monkeypatch.setattr(hubs, "RING_CHANGES", 50)
    behind = REGISTRY.get_sample_value("atlhyper_watch_behind_total") or 0
    slow = await slow_reader(one.url)
    with slow:
        async with follow(one.url) as quick:
            await quick.synced()
            for number in range(40):
                await cluster.change(*(big(f"pod-{n}", f"R{number}") for n in range(10)))
                one.hub._nudged.set()
                last = f"R{number}"
                await quick.until(
                    lambda reader, last=last: any(last in block for block in reader.blocks[-10:])
                )
        assert one.hub._changes <= 60  # the last batch stays whatever its size
        received = b""
        async with asyncio.timeout(40):
            while received.count(b'"status":"R39"') < 10:
                received += await asyncio.get_running_loop().sock_recv(slow, 1 << 20)
    assert (REGISTRY.get_sample_value("atlhyper_watch_behind_total") or 0) > behind


async def test_a_reader_that_takes_nothing_is_dropped(
    one: Replica, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a time it loses its place, and is counted."""
    monkeypatch.setattr(stream, "STUCK", 0.3)
    dropped = REGISTRY.get_sample_value("atlhyper_watch_dropped_total") or 0
    with await slow_reader(one.url):
        assert one.hub._readers == 1
        for number in range(30):
            await cluster.change(*(big(f"pod-{n}-{number}", "Running") for n in range(10)))
        await until(lambda: one.hub._readers == 0)
    assert REGISTRY.get_sample_value("atlhyper_watch_dropped_total") == dropped + 1
