"""When an agent counts as stale or lost: by the broker's clock, and never over a gap in it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import kubernetes
from schemas.presence import Health, Heartbeat
from services.persistence import presence, queries
from services.persistence.engine import Database
from services.persistence.presence import AgentState, Beat, Sign, advance, agent_state
from tests.persistence.frames import START, Log


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (0, AgentState.LIVE),
        (16, AgentState.LIVE),
        (31, AgentState.LIVE),
        (32, AgentState.STALE),
        (45, AgentState.STALE),
        (45.1, AgentState.LOST),
        (50, AgentState.LOST),
    ],
)
def test_state_by_age(age: float, state: AgentState) -> None:
    """At an interval of 15 s: stale after two missed heartbeats, lost after three."""
    assert agent_state(at(0), 15, at(age), at(-100)) is state


def test_lost_is_shown_within_50_seconds() -> None:
    """With a beat every 5 s, in any phase, the first beat that shows the loss comes at 50 s at the latest."""
    for phase in range(5):
        beats = (at(phase + 5 * number) for number in range(30))
        shown = next(now for now in beats if agent_state(at(0), 15, now, at(-100)) is AgentState.LOST)
        assert shown <= at(50)


def test_an_agent_that_said_goodbye_is_stopping_then_lost() -> None:
    assert agent_state(at(0), 15, at(40), at(-100), stopping=True) is AgentState.STOPPING
    assert agent_state(at(0), 15, at(46), at(-100), stopping=True) is AgentState.LOST


def test_no_verdict_over_a_gap() -> None:
    """After an hour in which the master's own beats are missing too, agents get their three intervals."""
    latest, since = advance((at(0), at(-100)), [Beat(at(3600), 5)])
    assert (latest, since) == (at(3600), at(3600))
    assert agent_state(at(-3), 15, latest, since) is AgentState.LIVE
    later, since = advance((latest, since), [Beat(at(3600 + 5 * number), 5) for number in range(1, 11)])
    assert agent_state(at(-3), 15, later, since) is AgentState.LOST


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=30), st.integers(0, 30))
def test_clock_depends_on_the_beats_not_on_their_batches(times: list[float], cut: int) -> None:
    """The clock never goes back, and it is the same however the beats were fetched."""
    beats = [Beat(at(seconds), 5) for seconds in times]
    whole = advance(None, beats)
    if 0 < cut < len(beats):
        assert advance(advance(None, beats[:cut]), beats[cut:]) == whole
    assert whole[0] == max(beat.time for beat in beats)
    assert whole[1] <= whole[0]


def heartbeat(**fields: object) -> Heartbeat:
    health = Health(healthy=True, status="running", start_time=datetime(2026, 11, 1, tzinfo=UTC))
    return Heartbeat.model_validate({"version": "1", "interval": 15, "health": health} | fields)


async def test_agents_are_judged_by_the_stored_clock(db: Database) -> None:
    """The database shows an agent's last heartbeat and the state that follows from the master's beats."""
    target = kubernetes("c1")
    beats = [Beat(at(5 * number), 5) for number in range(8)]
    await presence.store(db, [Sign(target, heartbeat(instance="uid"), at(0))], beats, Log().cursor)
    async with db.read() as session:
        (status,) = await queries.list_agents(session)
    assert (status.state, status.last_seen) == (AgentState.STALE, at(0))
    assert status.heartbeat is not None
    assert status.heartbeat.instance == "uid"
    await presence.store(db, [], [Beat(at(50), 5)], Log().cursor)
    async with db.read() as session:
        status = await queries.get_agent(session, target) or status
        assert await queries.get_agent(session, kubernetes("c2")) is None
    assert status.state is AgentState.LOST


async def test_late_heartbeat_does_not_overwrite_a_newer_one(db: Database) -> None:
    """A repeat of an earlier message leaves the newer one in place."""
    target = kubernetes("c1")
    await presence.store(db, [Sign(target, heartbeat(version="2"), at(30))], [], Log().cursor)
    await presence.store(db, [Sign(target, heartbeat(version="1"), at(15))], [], Log().cursor)
    async with db.read() as session:
        status = await queries.get_agent(session, target)
    assert status is not None
    assert status.heartbeat is not None
    assert (status.heartbeat.version, status.last_seen) == ("2", at(30))


async def test_without_a_clock_nobody_is_lost(db: Database) -> None:
    """Before the first beat of a master there is no present to judge by."""
    await presence.store(db, [Sign(kubernetes("c1"), heartbeat(), at(0))], [], Log().cursor)
    async with db.read() as session:
        (status,) = await queries.list_agents(session)
    assert status.state is AgentState.LIVE
