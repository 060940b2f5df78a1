"""Readers of logs: slow ones, gone ones, and too many of them."""

import asyncio
import os
import time
from collections.abc import Callable

import pytest

from services.agent.scheduler import logs as scheduler
from services.api.http.limits import Seats
from services.api.logs import metrics
from tests.logs.fixtures import LogPlane, LogSystem, Reader
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

MIB = 1024 * 1024


def sessions() -> float:
    """Readers for whom an agent reads now."""
    return float(scheduler.SESSIONS._value.get())


def sent() -> float:
    return float(scheduler.SENT._value.get())


async def settled(value: Callable[[], float], seconds: float = 4.0) -> float:
    """What a value is once it has stayed the same for so long."""
    last, since = value(), time.monotonic()

    def still() -> bool:
        nonlocal last, since
        if (now := value()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > seconds

    await until(still, 60)
    return last


async def test_a_slow_reader_slows_nobody(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """What it does not take is not read for it: neither api nor agent keeps it. Another reader has it
    all at once, and so has the slow one as soon as it reads on."""
    namespace = await asyncio.to_thread(log_plane.namespace)
    [pod] = await asyncio.to_thread(log_plane.pods, namespace, 1)
    lines = [f"{number} {'x' * 1000}".encode() for number in range(30_000)]
    whole = b"\n".join(lines) + b"\n"
    before = sent()
    async with log_reading.follow(namespace, pod.name) as slow:
        slow.flowing.clear()
        await asyncio.to_thread(pod.log().write, *lines)
        await until(lambda: sent() > before)
        taken = await settled(sent) - before
        assert taken < 12 * MIB  # what sockets hold, and the api's buffer
        async with log_reading.follow(namespace, pod.name) as quick:
            await quick.until(lambda reader: len(reader.data) == len(whole), 100)
            assert bytes(quick.data) == whole
        assert sent() - before - len(whole) < taken + MIB
        slow.flowing.set()
        await slow.until(lambda reader: len(reader.data) == len(whole), 100)
        assert bytes(slow.data) == whole


async def test_when_the_reader_goes_nothing_is_read_any_more(
    log_plane: LogPlane, log_reading: LogSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent ends the session at once, also of a log in which nothing happens."""
    monkeypatch.setattr(scheduler, "KEEPALIVE", 1000.0)  # it would find out by itself, but later
    namespace = await asyncio.to_thread(log_plane.namespace)
    [pod] = await asyncio.to_thread(log_plane.pods, namespace, 1)
    pod.log().write("one")
    begun = sessions()
    async with log_reading.follow(namespace, pod.name) as reader:
        await reader.until(lambda reader: reader.lines == [b"one"])
        assert sessions() == begun + 1
    async with asyncio.timeout(40):
        while sessions() != begun or metrics.READERS._value.get():
            await asyncio.sleep(0.02)


async def test_an_agent_finds_out_that_the_api_is_gone(
    log_plane: LogPlane, log_reading: LogSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word of farewell too: nobody answers its calls."""
    monkeypatch.setattr(scheduler, "KEEPALIVE", 0.2)
    monkeypatch.setattr("services.api.logs.session.Session.farewell", lambda self: asyncio.sleep(0))
    namespace = await asyncio.to_thread(log_plane.namespace)
    [pod] = await asyncio.to_thread(log_plane.pods, namespace, 1)
    begun = sessions()
    async with log_reading.follow(namespace, pod.name):
        assert sessions() == begun + 1
    async with asyncio.timeout(40):
        while sessions() != begun:
            await asyncio.sleep(0.02)


async def test_so_many_readers_at_a_time(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """Further ones are told to come back, by the api and by the agent."""
    namespace = await asyncio.to_thread(log_plane.namespace)
    [pod] = await asyncio.to_thread(log_plane.pods, namespace, 1)
    log_reading.readers._seats = Seats(1)
    async with log_reading.follow(namespace, pod.name):
        answer = await log_reading.get(namespace, pod.name)
        assert (answer.status_code, answer.json()["type"]) == (
            503,
            "urn:atlhyper:problem:too-many-log-readers",
        )
        assert answer.headers["retry-after"]
    log_reading.readers._seats = Seats(10)
    await log_reading.stop_agent()
    os.environ["AGENT_LOG_SESSIONS"] = "0"
    try:
        log_reading.start_agent()
        answer = await log_reading.get(namespace, pod.name)
    finally:
        del os.environ["AGENT_LOG_SESSIONS"]
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:atlhyper:problem:too-many-log-readers")
    assert "AGENT_LOG_SESSIONS" in answer.json()["detail"]


async def test_an_api_that_stops_breaks_the_answer_off(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """So that what has come is not taken for the whole, and another replica is asked for the rest."""
    namespace = await asyncio.to_thread(log_plane.namespace)
    [pod] = await asyncio.to_thread(log_plane.pods, namespace, 1)
    pod.log().write("one")
    async with log_reading.follow(namespace, pod.name) as reader:
        await reader.until(lambda reader: reader.lines == [b"one"])
        log_reading.readers.close()
        await reader.until(lambda reader: reader.ended)
        assert isinstance(reader, Reader)
        assert reader.broken is not None
