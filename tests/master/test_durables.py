"""The agents' consumers: what is known of their stream, and who gets one first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from schemas import ids, registry, subjects, topology
from schemas.ids import Target
from services.master.commands import durables, skew
from services.master.commands.durables import Durables
from services.persistence.commands.attempts import Place
from services.persistence.database.engine import Database
from services.runtime.bus.client import ApiError, Bus
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.commanding import command_for
from tests.master.conftest import Fleet
from tests.persistence.sending import beat
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

STREAM = topology.COMMANDS.name
A, B = AGENTS


class Moves:
    """Where commands were to go, and whether the clocks were compared by then."""

    def __init__(self) -> None:
        self.to: list[Place] = []
        self.ahead: list[float | None] = []
        self.durables: Durables | None = None

    async def moving(self, place: Place) -> None:
        self.to.append(place)
        assert self.durables is not None
        self.ahead.append(self.durables.skew.ahead)
        await asyncio.sleep(0.05)


@pytest.fixture
async def master(own_broker: RunningBroker, bus: Connect) -> Bus:
    return await bus("master")


@pytest.fixture
def moves() -> Moves:
    return Moves()


@pytest.fixture
def made(master: Bus, fleet: Fleet, moves: Moves) -> Durables:
    moves.durables = Durables(master, fleet.db, moves.moving, lambda: None)
    return moves.durables


@asynccontextmanager
async def at_work(made: Durables) -> AsyncIterator[None]:
    task = asyncio.create_task(made.run())
    try:
        yield
        assert not task.done(), task.result()
    finally:
        await cancelled(task)


async def test_an_older_answer_does_not_replace_a_newer_one(
    made: Durables, master: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the stream has is what a new consumer may have missed: an older count would prove too much."""
    await made._look_at_stream()
    ask, held, release = master.api, asyncio.Event(), asyncio.Event()

    async def api(subject: str, body: object = None) -> dict[str, Any]:
        answer = await ask(subject, body)
        if not held.is_set():
            held.set()
            await release.wait()
        return answer

    monkeypatch.setattr(master, "api", api)
    older = asyncio.create_task(made._look_at_stream())
    await held.wait()
    command = command_for(A)
    envelope = registry.COMMAND_SENT.envelope(command, source=subjects.service_source("master", "one"))
    await master.publish(subjects.command(A, "scale"), envelope)
    newer = asyncio.create_task(made._look_at_stream())
    await asyncio.wait([newer], timeout=2.0)
    release.set()
    await asyncio.gather(older, newer)
    assert made._last_sequence == 1


async def test_a_move_is_made_once(made: Durables, moves: Moves) -> None:
    """However many look at the same time, as all do whose consumers are gone."""
    await asyncio.gather(*(made._look_at_stream() for _ in range(5)))
    assert moves.to == [made.place]


async def test_each_agent_has_a_consumer_on_a_new_stream(
    own_broker: RunningBroker, bus: Connect, made: Durables, fleet: Fleet
) -> None:
    """Also when it was somebody else who found that the stream is another one."""
    for second, target in enumerate(AGENTS):
        await beat(fleet.db, target, "j1", second)
    operator = await bus("operator")
    async with at_work(made):
        for target in AGENTS:
            await until(lambda target=target: _has_consumer(operator, target))
        await operator.api(f"$JS.API.STREAM.DELETE.{STREAM}")
        await own_broker.apply()
        assert await made.handed(A) is None
        await until(lambda: _has_consumer(operator, B))


async def test_who_has_commands_is_first(
    made: Durables, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet whose consumers are all gone gets them in turn; a command does not wait for those of others."""
    fleet_of = [ids.kubernetes(f"c{number}") for number in range(6)]
    for second, target in enumerate(fleet_of):
        await beat(fleet.db, target, "j1", second)
    monkeypatch.setattr(durables, "AT_ONCE", 1)
    turns: list[Target] = []
    gate, ensure = asyncio.Event(), made.ensure

    async def slow(target: Target) -> None:
        turns.append(target)
        await gate.wait()
        await ensure(target)

    monkeypatch.setattr(made, "ensure", slow)
    async with at_work(made):
        await until(lambda: turns)
        assert not made.has(fleet_of[4])
        gate.set()
        await until(lambda: len(turns) == len(fleet_of))
    assert turns == [fleet_of[number] for number in (0, 4, 1, 2, 3, 5)]


class Slow:
    """Measurements that take too long to tell anything, so many of them."""

    def __init__(self, measured: skew.ClockSkew, times: int) -> None:
        self._measure = measured.measure
        self.left = times

    async def __call__(self, db: Database, broker_time: datetime, asked: float, answered: float) -> None:
        if self.left:
            self.left -= 1
            asked -= 1e6
        await self._measure(db, broker_time, asked, answered)


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_clocks_are_compared_before_anything_is_sent(
    made: Durables, moves: Moves, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """What cannot be told yet is measured again at once."""
    monkeypatch.setattr(skew, "SURE", 1000.0)
    monkeypatch.setattr(made.skew, "measure", Slow(made.skew, times))
    await made._look_at_stream()
    assert len(moves.ahead) == 1
    assert moves.ahead[0] is not None


async def test_slow_answers_do_not_hold_up_commands_for_ever(
    made: Durables, moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go without a comparison, and it is tried again, sooner than the stream would be looked at."""
    slow = Slow(made.skew, 5)
    monkeypatch.setattr(skew, "SURE", 1000.0)
    monkeypatch.setattr(made.skew, "measure", slow)
    monkeypatch.setattr(durables, "STREAM_LOOK", 1e6)
    async with at_work(made):
        await until(lambda: made.place)
        assert moves.ahead == [None]
        await until(lambda: made.skew.ahead is not None)
    assert slow.left == 0


async def _has_consumer(operator: Bus, target: Target) -> bool:
    try:
        await operator.api(f"$JS.API.CONSUMER.INFO.{STREAM}.{target.durable}")
    except ApiError:
        return False
    return True
