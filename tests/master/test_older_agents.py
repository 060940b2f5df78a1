"""Agents of earlier versions against this master: their messages, as they were recorded, become rows."""

from pathlib import Path

import msgspec
import nats
import pytest
from nats.js import JetStreamContext

from schemas import topology
from services.persistence import queries
from services.persistence.queries import EventFilter
from tests.bus.fixtures import Connect, RunningBroker
from tests.contract.recording import FOLDER, TARGET, Message, Recording
from tests.master.conftest import Fleet, MasterProcess
from tests.master.test_master import dead_letters
from tests.persistence.frames import rows
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

RECORDED = sorted(FOLDER.glob("agent-*.json.gz"))


async def play(broker: RunningBroker, messages: list[Message]) -> None:
    """Publish them as their agent did: same subjects, headers and bytes, with its credential."""
    seed = broker.settings().seed_file(TARGET.durable)
    link = await nats.connect(broker.url, nkeys_seed=str(seed), inbox_prefix=topology.inbox(TARGET.durable))
    stream: JetStreamContext = link.jetstream(timeout=30)
    for message in messages:
        await stream.publish(message.subject, message.data, headers=message.headers)
    await link.close()


def test_the_agents_of_the_last_two_versions_are_recorded() -> None:
    """At least the first one, by now; see `tests/contract/recording.py`."""
    assert "agent-0.1.0.json.gz" in {path.name for path in RECORDED}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name.removesuffix(".json.gz"))
async def test_what_an_older_agent_says_becomes_rows(
    own_broker: RunningBroker, bus: Connect, master: MasterProcess, fleet: Fleet, path: Path
) -> None:
    """State, Events and liveness: equal to what its cluster held, and nothing of it is a dead letter."""
    recording = Recording.load(path)
    held, counts = recording.held(), recording.counts()
    await play(own_broker, recording.messages)

    async def applied() -> bool:
        return await rows(fleet.db, TARGET) == {key: body for key, (_, body) in held.items()}

    await until(applied)
    for resource, objects in recording.listed.items():
        there = sorted([key[1], key[2], uid] for key, (uid, _) in held.items() if key[0] == resource)
        assert there == objects

    async def counted() -> bool:
        async with fleet.db.read() as connection:
            page = await queries.list_events(connection, EventFilter(), limit=10_000)
        return {row["uid"]: row["count"] for row in map(msgspec.json.decode, page.items)} == counts

    await until(counted)

    async def seen() -> bool:
        status = await fleet.status(TARGET)
        return bool(status and status.heartbeat and status.in_sync)

    await until(seen)
    status = await fleet.status(TARGET)
    assert status is not None
    assert status.heartbeat is not None
    assert status.heartbeat.version == recording.version
    assert await dead_letters(await bus("operator")) == 0
