"""The master as a process, on a real broker: from messages to rows, through whatever happens."""

import asyncio
import signal
import time

import msgspec
import pytest
import sqlalchemy as sa

from schemas import subjects, topology
from services.persistence import queries, tables
from services.persistence.presence.liveness import AgentState
from services.persistence.queries import EventFilter
from services.runtime.bus.client import Bus
from tests.bus.fixtures import Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.master.conftest import Fleet, MasterProcess
from tests.persistence.frames import FrameSource, body_of
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


async def events_of(fleet: Fleet) -> dict[object, object]:
    async with fleet.db.read() as connection:
        page = await queries.list_events(connection, EventFilter(), limit=10_000)
    decoded = [msgspec.json.decode(item) for item in page.items]
    return {item["uid"]: item["count"] for item in decoded}


async def dead_letters(bus: Bus) -> int:
    info = await bus.api(f"$JS.API.STREAM.INFO.{topology.DEAD_LETTERS.name}")
    return int(info["state"]["messages"])


async def test_state_heartbeats_and_events_become_rows(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """What an agent publishes is what a query finds: objects, whether it is there, Events; and as of when."""
    source = agent.source
    await agent.beat()
    await agent.send(source.begin("e1"), source.put("p1"), source.put("p2"), source.synced(), source.digest())
    await agent.observe("u1", 1, 1)
    await agent.observe("u1", 4, 2)
    await fleet.until_rows(source)

    async def complete() -> bool:
        status = await fleet.status(source.target)
        counts = await events_of(fleet)
        return bool(status and status.version == 5 and status.heartbeat and counts == {"u1": 4})

    await until(complete)
    status = await fleet.status(source.target)
    assert status is not None
    assert (status.state, status.in_sync, status.epoch) == (AgentState.LIVE, True, "e1")
    assert status.as_of is not None
    assert abs(status.as_of.timestamp() - time.time()) < 30
    await agent.send(source.delete("p1"))
    await fleet.until_rows(source)


async def test_gap_is_healed_by_a_resync_that_is_asked_for_until_it_begins(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """A missing frame makes the master ask, again and again; the new epoch ends the asking."""
    source = agent.source
    await agent.send(source.begin("e1"), source.put("p1"), source.synced())
    source.put("lost on the way")
    await agent.send(source.put("p2"))
    await until(lambda: len(agent.heard) >= 3)
    assert {what for what, _ in agent.heard} == {"resync"}
    assert agent.heard[0][1] == {"epoch": "e1", "reason": "frame 4 of the epoch is missing"}
    await agent.send(source.begin("e2"), *source.all(), source.digest())
    await fleet.until_rows(source)
    asked = len(agent.heard)
    await asyncio.sleep(1.0)
    assert len(agent.heard) <= asked + 1


async def test_wrong_digest_is_healed_by_a_resync(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """A row that differs from what the agent holds, whatever the cause, is found and asked for."""
    source = agent.source
    await agent.send(source.begin("e1"), source.put("p1"), source.synced())
    await fleet.until_rows(source)
    async with fleet.db.write() as connection:
        await connection.execute(
            sa.update(tables.table_of(tables.Resource)).values(
                hash=tables.table_of(tables.Resource).c.hash + 1
            )
        )
    await agent.send(source.digest())
    await until(lambda: agent.heard)
    assert agent.heard[0][1]["reason"] == "digest disagrees: pods: other content in 1 objects"


async def test_unreadable_frame_is_kept_as_a_dead_letter_and_asked_for(
    master: MasterProcess, fleet: Fleet, agent: BusAgent, bus: Connect
) -> None:
    """A frame that cannot be read stops nobody: it is set aside, its agent is asked, others go on."""
    source = agent.source
    await agent.send(source.begin("e1"), source.put("p1"), source.synced())
    await agent.send_bytes(b"no frame")
    await until(lambda: agent.heard)
    assert agent.heard[0][0] == "resync"
    assert agent.heard[0][1]["reason"].startswith("a frame could not be read")
    assert await dead_letters(await bus("reader")) == 1
    await agent.send(source.begin("e2"), *source.all())
    await fleet.until_rows(source)


async def test_event_that_cannot_be_a_row_is_set_aside(
    master: MasterProcess, fleet: Fleet, agent: BusAgent, bus: Connect
) -> None:
    """One bad Event in a batch costs no other one."""
    for number in range(5):
        await agent.observe(f"u{number}", 1, number + 1)
    await agent.observe("", 1, 6)
    await agent.observe("u9", 1, 7)

    async def all_others() -> bool:
        return set(await events_of(fleet)) == {"u0", "u1", "u2", "u3", "u4", "u9"}

    await until(all_others)
    assert await dead_letters(await bus("reader")) == 1


async def test_older_epoch_is_told_that_it_has_lost(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """Of two agents under one id the older one is told so, and its frames change nothing."""
    loser, winner = agent.source, FrameSource(agent.source.target, resources=("pods",))
    await agent.send(loser.begin("e1"), loser.put("old"), loser.synced())
    await agent.send(winner.begin("e2"), winner.put("new"), winner.synced())
    await agent.send(loser.put("older"))
    await until(lambda: agent.heard)
    assert agent.heard[0] == ("superseded", {"epoch": "e1", "by": "e2", "instance": "instance-1"})
    await fleet.until_rows(winner)


async def test_silent_agent_is_lost_by_the_master_s_beats(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """The master's beats move the clock; an agent whose heartbeats stop goes from live to lost."""
    await agent.beat(interval=6.0)  # so that each state lasts longer than a machine may stand still
    seen: list[AgentState] = []

    async def lost() -> bool:
        status = await fleet.status(agent.source.target)
        if status and status.state not in seen:
            seen.append(status.state)
        return AgentState.LOST in seen

    await until(lost, 90)
    assert seen == [AgentState.LIVE, AgentState.STALE, AgentState.LOST]


async def test_master_killed_at_any_moment_loses_nothing(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """kill -9 several times while state and Events arrive: rows and counts end exact, each frame once."""
    source = agent.source
    source.held = {("pods", "ns", f"p{number}"): body_of(f"p{number}", "ns") for number in range(3000)}

    async def publish() -> None:
        await agent.send(source.begin("e1"), *source.all(size=100))
        for number in range(200):
            await agent.send(
                source.put(f"p{number}", body_of(f"p{number}", "ns", state="Failed"), namespace="ns")
            )
            await agent.observe(f"u{number % 20}", number // 20 + 1, number + 1)
        await agent.send(source.digest())

    async def kill() -> None:
        for pause in (1.5, 1.2, 1.0):
            await asyncio.sleep(pause)
            await master.stop(signal.SIGKILL)
            await master.start()

    await asyncio.gather(publish(), kill())
    await fleet.until_rows(source)

    async def counted() -> bool:
        return await events_of(fleet) == {f"u{number}": 10 for number in range(20)}

    await until(counted)

    async def digested() -> bool:
        status = await fleet.status(source.target)
        return bool(status and status.version == source.sequence)

    await until(digested)
    status = await fleet.status(source.target)
    assert status is not None
    assert (status.in_sync, status.resync_reason) == (True, "")


async def test_broker_restart_is_survived(
    master: MasterProcess, own_broker: RunningBroker, fleet: Fleet, agent: BusAgent
) -> None:
    """After the broker was killed and came back, reading goes on where it stopped."""
    source = agent.source
    await agent.send(source.begin("e1"), source.put("p1"), source.synced())
    await fleet.until_rows(source)
    await own_broker.broker.stop()
    await own_broker.start()
    await until(lambda: agent.bus.connected)
    await agent.send(source.put("p2"), source.digest())
    await fleet.until_rows(source)


async def test_sigterm_ends_it_cleanly(master: MasterProcess, fleet: Fleet, agent: BusAgent) -> None:
    """SIGTERM while a big snapshot arrives: exit code 0 in time, and the next start goes on from there."""
    source = agent.source
    source.held = {("pods", "ns", f"p{number}"): body_of(f"p{number}", "ns") for number in range(3000)}
    await agent.send(source.begin("e1"), *source.all())

    async def some() -> bool:
        return len(await fleet.rows(source.target)) > 0

    await until(some)
    started = time.monotonic()
    assert await master.stop() == 0
    assert time.monotonic() - started < 10
    assert "Traceback" not in master.log
    await master.start()
    await fleet.until_rows(source)


async def test_it_tells_how_it_is(master: MasterProcess, fleet: Fleet, agent: BusAgent) -> None:
    """/readyz names each check, /metrics counts what was done."""
    source = agent.source
    await agent.send(source.begin("e1"), source.put("p1"), source.synced())

    async def metrics() -> str:
        return (await master.get("/metrics")).text

    async def three_frames() -> bool:
        return 'atlhyper_master_frames_total{verdict="applied"} 3.0' in await metrics()

    await until(three_frames)

    async def well() -> bool:
        return not await master.trouble()

    await until(well)
    ready = await master.readyz()
    for name in ("bus", "database", "consumers", "lag"):
        assert name in ready
    assert 'atlhyper_master_rows_total{change="changed"} 1.0' in await metrics()


async def test_heartbeat_of_the_master_is_on_the_bus(
    master: MasterProcess, fleet: Fleet, bus: Connect
) -> None:
    """It beats on the stream that carries the agents' heartbeats, under one name per host."""
    reader = await bus("reader")

    async def beats() -> dict[str, int]:
        info = await reader.api(
            f"$JS.API.STREAM.INFO.{topology.HEARTBEATS.name}",
            {"subjects_filter": subjects.ALL_HEARTBEATS[1]},
        )
        return dict(info["state"].get("subjects") or {})

    await until(beats)
    assert len(await beats()) == 1
