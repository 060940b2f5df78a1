"""What the api answers an agent's calls with, and makes of chunks that come twice, late or from elsewhere."""

import asyncio
import itertools
import time
from typing import Any

import pytest

from schemas import registry, subjects
from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.ids import kubernetes
from schemas.logs import (
    MAX_CHUNK,
    LogError,
    LogPiece,
    LogPosition,
    LogsPublished,
    LogsRequested,
    LogsTaken,
)
from services.api.logs import session as sessions
from services.api.logs.session import BUFFER, AgentSilent, LogsRefused, Session
from services.runtime.bus.client import Bus
from tests.bus.fixtures import Connect

CLUSTER = kubernetes("a")


@pytest.fixture
async def api_bus(bus: Connect) -> Bus:
    return await bus("api")


def session(bus: Bus, **asked: Any) -> Session:
    return Session(
        bus,
        CLUSTER,
        LogsRequested(session="", namespace="shop", pod="web-0", **asked),
        "/atlhyper/core/api/a",
    )


def chunk(of: Session, sequence: int, *lines: bytes, run: int = 1, **more: Any) -> Envelope:
    pieces = [
        LogPiece(data=line, position=LogPosition(pod="web-0", container="app", lines=sequence))
        for line in lines
    ]
    body = LogsPublished(session="s", run=run, sequence=sequence, opened=True, pieces=pieces, **more)
    return registry.LOGS_PUBLISHED.envelope(body, source=subjects.agent_source(CLUSTER))


async def take(of: Session, envelope: Envelope) -> LogsTaken:
    return registry.LOGS_TAKEN.decode((await of.take(of.subject, envelope)).data)


async def read(of: Session) -> bytes:
    return b"".join([piece async for piece in of.pieces()])


async def test_a_repeat_is_dropped(api_bus: Bus) -> None:
    """The answer to a chunk may be lost, and the chunk comes again: its lines do not."""
    one = session(api_bus)
    for sequence, line in ((0, b"a\n"), (0, b"a\n"), (1, b"b\n"), (0, b"a\n"), (1, b"b\n")):
        taken = await take(one, chunk(one, sequence, line))
        assert not taken.gone
        assert taken.sequence > sequence
    await take(one, chunk(one, 2, ended=True))
    assert await read(one) == b"a\nb\n"


async def test_a_slow_reader_is_told_by_the_credit(api_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room the answer waits a little, and then grants nothing; with room it comes at once."""
    monkeypatch.setattr(sessions, "HOLD", 0.2)
    one = session(api_bus)
    numbers = itertools.count()
    line = b"x" * (MAX_CHUNK - 1) + b"\n"
    for _ in range(BUFFER // MAX_CHUNK - 1):
        assert (await take(one, chunk(one, next(numbers), line))).credit == MAX_CHUNK
    begun = time.monotonic()
    assert (await take(one, chunk(one, next(numbers), line))).credit == 0
    assert time.monotonic() - begun > 0.15
    monkeypatch.setattr(sessions, "HOLD", 60.0)
    asking = asyncio.create_task(take(one, chunk(one, next(numbers))))
    await asyncio.sleep(0.05)
    assert not asking.done()
    await anext(one.pieces())
    async with asyncio.timeout(30):
        assert (await asking).credit == MAX_CHUNK


async def test_what_is_not_of_this_session(api_bus: Bus) -> None:
    """Another run's chunks are refused, another agent's and another type's are not answered."""
    one = session(api_bus)
    assert (await take(one, chunk(one, 0, b"a\n", run=2))).gone
    foreign = chunk(one, 0, b"a\n")
    with pytest.raises(ContractError):
        await one.take(
            one.subject,
            registry.LOGS_PUBLISHED.envelope(LogsPublished(session="", run=1, sequence=0), source="/x"),
        )
    with pytest.raises(ContractError):
        await one.take(one.subject, Envelope(type="io.example", source=foreign.source, data=foreign.data))
    await take(one, chunk(one, 0, ended=True))
    assert await read(one) == b""


async def test_the_end_by_an_error(api_bus: Bus) -> None:
    """What has come is given, then the reason."""
    one = session(api_bus)
    error = LogError(code="failed", message="500 no kubelet")
    await take(one, chunk(one, 0, b"a\n", ended=True, error=error))
    pieces = one.pieces()
    assert await anext(pieces) == b"a\n"
    with pytest.raises(LogsRefused, match="500 no kubelet"):
        await anext(pieces)


async def test_an_agent_that_is_silent_is_asked_anew(api_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another run, where the last chunk ended; of containers without a line yet since the beginning."""
    for name, seconds in (("SILENCE", 0.5), ("REPEAT", 0.1), ("RETURN", 4.0)):
        monkeypatch.setattr(sessions, name, seconds)
    one = session(api_bus, follow=True, tail=5)
    asked: list[LogsRequested] = []

    async def heard(request: LogsRequested) -> None:
        asked.append(request)

    monkeypatch.setattr(one, "_ask", heard)
    keeping = asyncio.create_task(one.keep())
    await take(one, chunk(one, 0))
    await take(one, chunk(one, 1, b"a\n"))
    async with asyncio.timeout(30):
        while not asked or asked[-1].run == 1:
            await asyncio.sleep(0.02)
    again = asked[-1]
    assert (again.run, again.tail) == (2, None)
    assert again.since_seconds is not None
    assert 1 <= again.since_seconds <= 10
    assert [position.lines for position in again.positions] == [1]
    assert (await take(one, chunk(one, 2, b"late\n"))).gone
    await take(one, chunk(one, 0, b"b\n", run=2))
    pieces = one.pieces()
    assert await anext(pieces) == b"a\nb\n"
    with pytest.raises(AgentSilent):  # which does not come back any more
        async with asyncio.timeout(30):
            await anext(pieces)
    keeping.cancel()
