"""Who is asked for a new epoch, when, and how many at one time."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.master.resync import Resyncs, Superseding
from services.master.teller import Teller
from services.runtime.tasks import cancelled
from tests.bus.fixtures import Connect
from tests.master.agent import BusAgent
from tests.waiting import until


@pytest.fixture
async def resyncs(bus: Connect) -> AsyncIterator[Resyncs]:
    """Running, with room for one agent at a time."""
    resyncs = Resyncs(Teller(await bus("master")), concurrency=1, interval=0.1, patience=30.0)
    task = asyncio.create_task(resyncs.run())
    yield resyncs
    await cancelled(task)


async def test_one_after_the_other(resyncs: Resyncs, agent: BusAgent, second_agent: BusAgent) -> None:
    """With one place, the second agent is asked only when the first one is in sync again."""
    first, second = agent, second_agent
    resyncs.want(first.source.target, "e1", "gap")
    resyncs.want(second.source.target, "f1", "gap")
    await until(lambda: len(first.heard) >= 3)
    assert second.heard == []
    resyncs.begun(first.source.target)
    await Superseding(resyncs._teller, 60.0).tell(first.source.target, "e1", "e2", "")
    await until(lambda: first.heard[-1][0] == "superseded")  # behind a request that was under way
    asked = len(first.heard)
    await asyncio.sleep(0.6)
    assert (len(first.heard), second.heard) == (asked, [])
    resyncs.in_sync(first.source.target, "e2")
    await until(lambda: second.heard)
    assert second.heard[0] == ("resync", {"epoch": "f1", "reason": "gap"})


async def test_agent_that_does_not_answer_makes_room(
    bus: Connect, agent: BusAgent, second_agent: BusAgent
) -> None:
    """One that is gone keeps its place for a while only, and gets another turn later."""
    resyncs = Resyncs(Teller(await bus("master")), concurrency=1, interval=0.1, patience=0.5)
    task = asyncio.create_task(resyncs.run())
    resyncs.want(agent.source.target, "e1", "gap")
    resyncs.want(second_agent.source.target, "f1", "gap")
    await until(lambda: second_agent.heard)
    asked = len(agent.heard)
    await until(lambda: len(agent.heard) > asked)
    await cancelled(task)


async def test_requests_become_rarer(bus: Connect, agent: BusAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer is asked after twice as long each time, not in a steady beat."""
    teller, told = Teller(await bus("master")), list[float]()
    tell = teller.tell

    async def noted(subject: str, kind: Any, body: Any) -> bool:
        told.append(time.monotonic())
        return await tell(subject, kind, body)

    monkeypatch.setattr(teller, "tell", noted)
    resyncs = Resyncs(teller, concurrency=1, interval=0.1, patience=30.0)
    task = asyncio.create_task(resyncs.run())
    resyncs.want(agent.source.target, "e1", "gap")
    await until(lambda: len(agent.heard) >= 4)
    await cancelled(task)
    assert told[3] - told[2] > 0.25


async def test_lost_agents_do_not_hold_up_the_others(
    bus: Connect, agent: BusAgent, second_agent: BusAgent
) -> None:
    """An agent that never answers rests ever longer between its turns, until it publishes again."""
    resyncs = Resyncs(Teller(await bus("master")), concurrency=1, interval=0.1, patience=0.2)
    task = asyncio.create_task(resyncs.run())
    lost, there = agent, second_agent

    def rests_until() -> float:
        return resyncs._wants[lost.source.target].rests_until

    resyncs.want(lost.source.target, "e1", "gap")
    await until(lambda: rests_until() > time.monotonic() + 6)  # after 0.2, 0.6, 1.4 and 3 s of rest
    asked, rested = len(lost.heard), rests_until()
    resyncs.want(there.source.target, "f1", "gap")
    await until(lambda: there.heard)
    assert rests_until() == rested > time.monotonic()
    resyncs.begun(there.source.target)
    resyncs.in_sync(there.source.target, "f2")
    resyncs.want(lost.source.target, "e1", "gap")
    await until(lambda: len(lost.heard) > asked)
    assert time.monotonic() < rested
    await cancelled(task)


async def test_in_sync_before_it_began_is_the_old_epoch_s(resyncs: Resyncs, agent: BusAgent) -> None:
    """Frames of the epoch that is of no use do not end the asking."""
    resyncs.want(agent.source.target, "e1", "digest disagrees")
    resyncs.in_sync(agent.source.target, "e1")
    await until(lambda: len(agent.heard) >= 2)


async def test_what_a_stray_epoch_lacks_is_not_asked_for_ever(resyncs: Resyncs, agent: BusAgent) -> None:
    """A frame of an epoch nobody knows asks for a resync; the epoch that counts, being whole, ends that."""
    resyncs.want(agent.source.target, "stray", "its begin was not seen")
    await until(lambda: agent.heard)
    resyncs.in_sync(agent.source.target, "e1")
    asked = len(agent.heard)
    await asyncio.sleep(0.5)
    assert len(agent.heard) <= asked + 1


async def test_loser_is_not_told_for_every_frame(bus: Connect, agent: BusAgent) -> None:
    """A hundred frames in a moment make one message."""
    superseding = Superseding(Teller(await bus("master")), 60.0)
    for _ in range(100):
        await superseding.tell(agent.source.target, "e1", "e2", "instance-1")
    await until(lambda: agent.heard)
    await asyncio.sleep(0.2)
    assert agent.heard == [("superseded", {"epoch": "e1", "by": "e2", "instance": "instance-1"})]


async def test_who_may_not_tell_goes_on(bus: Connect, agent: BusAgent) -> None:
    """A refused message is logged and left: what it follows from is committed, and would be repeated."""
    superseding = Superseding(Teller(await bus("api")), 5.0)
    await superseding.tell(agent.source.target, "e1", "e2", "")
    assert agent.heard == []
