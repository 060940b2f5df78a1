"""Events from an agent's spool to rows and back as a confirmation, on a real broker with a real master."""

import asyncio
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from schemas import registry, subjects, topology
from schemas.envelope import Envelope, sequence_text
from services.agent.store.file import StateUnavailable
from services.agent.store.rows import ROW_BYTES
from services.master.confirmations import Confirmations
from services.master.teller import Teller
from services.persistence.events.confirmations import SpoolId
from services.runtime.bus.client import Bus
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.master.conftest import Fleet, MasterProcess
from tests.master.spooling import SpoolingAgent, observed
from tests.master.test_master import dead_letters, events_of
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def spooling(bus: Connect, tmp_path: Path) -> SpoolingAgent:
    target = AGENTS[0]
    return SpoolingAgent(await bus(target.durable, wait=True), target, tmp_path / "state" / "agent.db")


async def until_rows(fleet: Fleet, expected: dict[str, int], seconds: float = 60.0) -> None:
    async def same() -> bool:
        return await events_of(fleet) == expected

    await until(same, seconds)


async def lose_the_store(broker: RunningBroker) -> None:
    """The broker is killed, its data folder deleted; it comes back with empty streams."""
    await broker.broker.stop()
    data = broker.home / "nats" / "data"
    assert any(data.iterdir())
    shutil.rmtree(data)
    await broker.start()
    await broker.apply()


async def stored_in(bus: Bus, stream: topology.Stream) -> int:
    info = await bus.api(f"$JS.API.STREAM.INFO.{stream.name}")
    return int(info["state"]["messages"])


async def test_the_spool_is_empty_once_all_are_rows(
    master: MasterProcess, fleet: Fleet, spooling: SpoolingAgent
) -> None:
    """What the master has committed leaves the spool soon, and nothing was sent twice for it."""
    async with spooling.running(patience=1000.0) as agent:  # the master may take long to start
        for count in range(1, 4):
            await spooling.source.emit(*(observed(f"u{number}", count) for number in range(200)))
            await until(agent.sent(200 * count))
        await until(lambda: not agent.spool.unconfirmed, 60)
        assert await events_of(fleet) == {f"u{number}": 3 for number in range(200)}
        assert (agent.scheduler.repeated, agent.spool.dropped) == (0, 0)


async def test_the_broker_s_whole_store_may_vanish(
    master: MasterProcess, own_broker: RunningBroker, fleet: Fleet, spooling: SpoolingAgent, bus: Connect
) -> None:
    """With Events only in the broker, the master down, the data folder is deleted: all rows are exact."""
    reader = await bus("reader", wait=True)
    async with spooling.running() as agent:
        await spooling.source.emit(*(observed(f"u{number}", 1) for number in range(100)))
        await until_rows(fleet, {f"u{number}": 1 for number in range(100)})
        await master.stop(signal.SIGKILL)
        await spooling.source.emit(*(observed(f"u{number}", 2) for number in range(50, 1000)))
        await until(agent.sent(1050))
        assert await stored_in(reader, topology.EVENTS) >= 1050
        await lose_the_store(own_broker)
        await spooling.source.emit(*(observed(f"u{number}", 3) for number in range(900, 1100)))
        await until(agent.sent(1250))
        assert agent.spool.unconfirmed >= 1150
        await master.start()
        expected = {f"u{number}": 1 if number < 50 else 2 for number in range(900)}
        expected |= {f"u{number}": 3 for number in range(900, 1100)}
        await until_rows(fleet, expected)
        await until(lambda: not agent.spool.unconfirmed)
        assert agent.spool.dropped == 0


async def test_no_master_no_storm(own_broker: RunningBroker, spooling: SpoolingAgent, bus: Connect) -> None:
    """While nobody confirms, an agent asks with its oldest Event again and again, not with all it has."""
    seen: list[int | None] = []

    async def note(_: str, envelope: Envelope) -> None:
        seen.append(envelope.sequence)

    reader = await bus("reader", wait=True)
    await reader.subscribe(subjects.up(spooling.target), note)
    async with spooling.running(patience=0.3) as agent:
        await spooling.source.emit(*(observed(f"u{number}", 1) for number in range(300)))
        await until(lambda: agent.scheduler.repeated >= 5)
        await until(lambda: len(seen) >= 305)
    assert sorted(set(seen), key=str) == sorted(range(1, 301), key=str)
    assert seen.count(1) == len(seen) - 299


async def test_a_lost_confirmation_is_said_again(
    master: MasterProcess, fleet: Fleet, spooling: SpoolingAgent
) -> None:
    """Committed, but not heard of: after a restart a question of one Event brings it, and no row changes."""
    expected = {f"u{number}": 1 for number in range(300)}
    async with spooling.running(deaf=True, patience=60.0) as agent:
        await spooling.source.emit(*(observed(uid, 1) for uid in expected))
        await until_rows(fleet, expected)
        await until(lambda: agent.heard and agent.heard[-1] == 300)
        assert agent.spool.unconfirmed == 300
    async with spooling.running(patience=6.0) as agent:
        await until(lambda: agent.spool.unconfirmed)
        await until(lambda: not agent.spool.unconfirmed)
        assert agent.scheduler.repeated == 1
        assert agent.scheduler.published == 300
    assert await events_of(fleet) == expected


async def test_a_restart_sends_nothing_that_is_confirmed(
    master: MasterProcess, fleet: Fleet, spooling: SpoolingAgent
) -> None:
    """What the source lists again is known; what is new or changed, or gone and there again, is sent."""
    async with spooling.running() as agent:
        await spooling.source.emit(*(observed(f"u{number}", 1) for number in range(100)))
        await until_rows(fleet, {f"u{number}": 1 for number in range(100)})
        await until(lambda: not agent.spool.unconfirmed)
    del spooling.source.present[observed("u5", 1).key]
    await spooling.source.emit(observed("u7", 2), observed("new", 1))
    async with spooling.running() as agent:
        await until_rows(fleet, {f"u{n}": 2 if n == 7 else 1 for n in range(100)} | {"new": 1})
        await until(lambda: not agent.spool.unconfirmed)
        assert agent.scheduler.published == 2
        assert agent.scheduler.by_type() == {"Warning": 100}


async def test_a_master_killed_at_any_moment(
    master: MasterProcess, fleet: Fleet, spooling: SpoolingAgent
) -> None:
    """Before it commits, between commit and confirmation, after it: all rows, and an empty spool."""
    expected = {f"u{number}": 20 for number in range(100)}
    async with spooling.running() as agent:

        async def emit() -> None:
            for count in range(1, 21):
                await spooling.source.emit(*(observed(uid, count) for uid in expected))
                await asyncio.sleep(0.2)

        async def kill() -> None:
            for pause in (1.2, 1.4, 0.9):
                await asyncio.sleep(pause)
                await master.stop(signal.SIGKILL)
                await master.start()

        await asyncio.gather(emit(), kill())
        await until_rows(fleet, expected)
        await until(lambda: not agent.spool.unconfirmed)
        assert agent.spool.dropped == 0


async def test_what_two_starts_have_left(
    master: MasterProcess, own_broker: RunningBroker, fleet: Fleet, spooling: SpoolingAgent
) -> None:
    """Each start numbers in an epoch of its own; what several have left is confirmed for each of them."""
    await master.stop(signal.SIGKILL)
    for start in range(3):
        async with spooling.running(patience=60.0) as agent:
            await spooling.source.emit(*(observed(f"s{start}-{number}", 1) for number in range(50)))
            await until(agent.sent(50 * (start + 1)))
    await lose_the_store(own_broker)
    await master.start()
    async with spooling.running() as agent:
        await until_rows(fleet, {f"s{start}-{number}": 1 for start in range(3) for number in range(50)})
        await until(lambda: not agent.spool.unconfirmed)


async def test_beyond_the_bound_the_rest_is_confirmed_all_the_same(
    master: MasterProcess, own_broker: RunningBroker, fleet: Fleet, spooling: SpoolingAgent
) -> None:
    """What was dropped is counted, and the master does not wait for it."""
    await master.stop(signal.SIGKILL)
    size = len(observed("u000", 1).body) + ROW_BYTES
    async with spooling.running(limit=100 * size) as agent:
        await spooling.source.emit(*(observed(f"u{number:03}", 1) for number in range(250)))
        await until(lambda: agent.spool.dropped)
        await until(lambda: not agent.scheduler.pending)
        await lose_the_store(own_broker)
        await master.start()
        await until(lambda: not agent.spool.unconfirmed)
        assert agent.spool.dropped == 150
        kept = {f"u{number:03}" for number in range(150, 250)}
        assert kept <= {str(uid) for uid in await events_of(fleet)}
        assert agent.spool.trouble() == ""


async def test_an_event_too_large_for_the_bus_stalls_nobody(
    master: MasterProcess, fleet: Fleet, spooling: SpoolingAgent
) -> None:
    """It is counted and left out; those before and behind it become rows and are confirmed."""
    huge = observed("huge", 1, "x" * topology.MAX_PAYLOAD)
    async with spooling.running() as agent:
        await spooling.source.emit(observed("a", 1), huge, observed("b", 1))
        await until_rows(fleet, {"a": 1, "b": 1})
        await until(lambda: not agent.spool.unconfirmed)
        assert agent.spool.dropped == 1


async def test_a_full_disk_holds_up_no_event(
    master: MasterProcess, fleet: Fleet, spooling: SpoolingAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the state file takes nothing, Events become rows and are confirmed from memory; it is told."""

    async def fail(_: object) -> None:
        raise StateUnavailable("database or disk is full")

    async with spooling.running() as agent:
        await spooling.source.emit(observed("before", 1))
        await until_rows(fleet, {"before": 1})
        await until(lambda: not agent.spool.unconfirmed)  # it is in the file, which has to let go of it
        with monkeypatch.context() as failing:
            failing.setattr(agent.file, "run", fail)
            await spooling.source.emit(*(observed(f"u{number}", 1) for number in range(50)))
            await until_rows(fleet, {"before": 1} | {f"u{number}": 1 for number in range(50)})
            await until(lambda: not agent.spool.unconfirmed)
            assert "disk is full" in agent.spool.trouble()
        await until(lambda: not agent.spool.trouble())
        await spooling.source.emit(observed("after", 1))
        await until(lambda: agent.scheduler.published == 52)
        await until(lambda: not agent.spool.unconfirmed)


# --- what the master confirms, message by message ---------------------------------------------------


async def send(agent: BusAgent, sequence: int, first: int | None = 1, body: bytes | None = None) -> None:
    extensions = {"epoch": "e1", "sequence": sequence_text(sequence)}
    if first is not None:
        extensions["firstsequence"] = sequence_text(first)
    data = observed(f"u{sequence}", 1).body if body is None else body
    envelope = Envelope(
        type=registry.EVENT_OBSERVED.name, source=agent.source_name, data=data, extensions=extensions
    )
    await agent.bus.publish(subjects.event(agent.source.target, "default", "Pod"), envelope)


def confirmed(agent: BusAgent) -> int:
    """Up to where, by what was heard last."""
    told = [int(body["sequence"]) for what, body in agent.heard if what == "confirmed"]
    assert told == sorted(told)
    return told[-1] if told else -1


async def test_a_gap_stays_one_until_it_is_filled(
    master: MasterProcess, fleet: Fleet, agent: BusAgent
) -> None:
    """What lies behind a missing number is a row at once, but is confirmed only when it is sent in order."""
    for sequence in (1, 2, 4, 5):
        await send(agent, sequence)
    await until_rows(fleet, {f"u{sequence}": 1 for sequence in (1, 2, 4, 5)})
    await until(lambda: confirmed(agent) == 2)
    for sequence in (3, 4, 5):
        await send(agent, sequence)
    await until(lambda: confirmed(agent) == 5)
    await send(agent, 9, first=9)
    await until(lambda: confirmed(agent) == 9)


async def test_dead_letters_are_confirmed(
    master: MasterProcess, fleet: Fleet, agent: BusAgent, bus: Connect
) -> None:
    """An Event that cannot be read, or cannot be a row, is dealt with: it would come for ever."""
    await master.stop(signal.SIGKILL)  # so that it reads them together
    await send(agent, 1)
    await send(agent, 2, body=b"no JSON")
    await send(agent, 3)
    await master.start()
    await until(lambda: confirmed(agent) == 3)
    await send(agent, 4, body=b'{"metadata": {"name": "without-uid"}}')
    await send(agent, 5)
    await until(lambda: confirmed(agent) == 5)
    await until_rows(fleet, {"u1": 1, "u3": 1, "u5": 1})
    assert await dead_letters(await bus("reader")) == 2


async def test_an_agent_of_before_is_told_nothing(
    master: MasterProcess, fleet: Fleet, agent: BusAgent, second_agent: BusAgent
) -> None:
    """Without `firstsequence` nobody waits for a confirmation, and none is sent."""
    await send(agent, 1, first=None)
    await send(second_agent, 1)
    await until(lambda: confirmed(second_agent) == 1)
    assert agent.heard == []


async def test_news_of_nothing_ends_no_sender(bus: Connect, agent: BusAgent) -> None:
    """After a batch that commits nothing more, the next confirmation is sent all the same."""
    confirmations = Confirmations(Teller(await bus("master")))
    task = asyncio.create_task(confirmations.run())
    spool = SpoolId(agent.source.target, "e1")

    def told(sequence: int) -> bool:
        return task.done() or confirmed(agent) == sequence

    try:
        for sequence in (5, 7):
            await asyncio.sleep(0.05)  # it waits for news, and hears of nothing
            confirmations.committed({})
            await asyncio.sleep(0.05)
            confirmations.committed({spool: sequence})
            await until(partial(told, sequence))
            assert not task.done()
    finally:
        await cancelled(task)
