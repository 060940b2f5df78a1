"""The permission matrix: what each user may do on the wire, tried against a real broker."""

import asyncio
from typing import Any

import pytest

from schemas import binding, registry, subjects
from schemas.control import Resync
from schemas.envelope import Envelope
from schemas.presence import ServiceHeartbeat
from schemas.topology import DEAD_LETTERS, EVENTS, HEARTBEATS, SNAPSHOTS, STREAMS
from services.runtime.bus import metrics
from services.runtime.bus.client import Bus, BusError, PermissionDenied
from tests.bus.fixtures import AGENTS, Connect
from tests.bus.messages import frame, heartbeat
from tests.waiting import until

A, B = AGENTS

STORED_OF_B = [
    subjects.heartbeat(B),
    subjects.snapshot(B),
    subjects.event(B, "default", "Pod"),
    subjects.dead(B),
]
CORE_SUBJECTS = [
    "atlhyper.core.heartbeat.master.1",
    "atlhyper.core.dead.master",
    "atlhyper.core.alert.x",
    "atlhyper.core.nudge.3",
]
DOWN = [
    subjects.control(B, "resync"),
    subjects.control(A, "resync"),
    "atlhyper.down.kubernetes.b.cmd.scale",
    "atlhyper.down.kubernetes.a.cmd.scale",
]
API = [
    f"$JS.API.{call}"
    for call in (
        "INFO",
        "STREAM.LIST",
        "STREAM.NAMES",
        "STREAM.CREATE.EVIL",
        "CONSUMER.MSG.NEXT.ATLHYPER_COMMANDS.kubernetes_b",
    )
] + [
    f"$JS.API.{call.format(stream.name)}"
    for stream in STREAMS
    for call in (
        "STREAM.INFO.{}",
        "STREAM.UPDATE.{}",
        "STREAM.PURGE.{}",
        "STREAM.DELETE.{}",
        "STREAM.MSG.GET.{}",
        "STREAM.MSG.DELETE.{}",
        "DIRECT.GET.{}",
        "DIRECT.GET.{}.atlhyper.up.kubernetes.b.heartbeat",
        "CONSUMER.CREATE.{}.spy",
        "CONSUMER.DURABLE.CREATE.{}.spy",
        "CONSUMER.DELETE.{}.api",
        "CONSUMER.INFO.{}.api",
        "CONSUMER.LIST.{}",
        "CONSUMER.MSG.NEXT.{}.api",
    )
]
ACKS = [
    f"$JS.ACK.{prefix}{consumer}.1.1.1.1700000000000000000.0"
    for consumer in ("ATLHYPER_COMMANDS.kubernetes_b", "ATLHYPER_DEAD_LETTERS.api")
    for prefix in ("", "_.hash.")
]
OTHERS = [
    "atlhyper.up.kubernetes.b.call.logs.1",
    "atlhyper.up.kubernetes.b.result.1",
    "atlhyper.up.host.a.heartbeat",
    "_INBOX_kubernetes_b.x",
    "_INBOX_master.x",
    "_INBOX.x",
    "$JS.FC.x",
    "$KV.bucket.key",
    "$SYS.REQ.SERVER.PING",
    "$JS.EVENT.ADVISORY.x",
    "elsewhere",
]
REFUSED_PUBLISH = [*STORED_OF_B, *CORE_SUBJECTS, *DOWN, *API, *ACKS, *OTHERS]

REFUSED_SUBSCRIBE = [
    ">",
    "*.>",
    "atlhyper.>",
    "atlhyper.up.>",
    "atlhyper.up.kubernetes.b.>",
    subjects.heartbeat(B),
    "atlhyper.core.>",
    "atlhyper.down.>",
    "atlhyper.down.*.*.ctl.>",
    subjects.controls(B),
    subjects.control(B, "resync"),
    "atlhyper.down.kubernetes.a.cmd.>",
    "_INBOX.>",
    "_INBOX_kubernetes_b.>",
    "_INBOX_master.>",
    "_R_.>",
    "$JS.>",
    "$JS.API.>",
    "$JS.EVENT.ADVISORY.>",
    "$SYS.>",
    "$KV.>",
]


async def refused(agent: Bus, subject: str, within: float = 20.0) -> bool:
    try:
        await agent._connection().request(subject, b"{}", timeout=within)
    except PermissionDenied:
        return True
    except BusError:
        return False
    return False


async def test_an_agent_is_refused_everything_that_is_not_its_own(bus: Connect) -> None:
    """A can publish to none of B's subjects, none of core's, no JetStream API and no acknowledgement."""
    agent = await bus(A.durable)
    outcomes = await asyncio.gather(*(refused(agent, subject) for subject in REFUSED_PUBLISH))
    assert [s for s, was_refused in zip(REFUSED_PUBLISH, outcomes, strict=True) if not was_refused] == []


async def test_an_agent_hears_nothing_but_its_own(bus: Connect) -> None:
    """Agent A can subscribe to no other's subjects, inboxes, advisories or wildcards over them."""
    agent = await bus(A.durable)
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    for subject in REFUSED_SUBSCRIBE:
        with pytest.raises(PermissionDenied):
            await agent.tap(subject, hear)
    other = await bus(B.durable)
    await other.publish(subjects.heartbeat(B), heartbeat(B))
    master = await bus("master")
    await master.send(subjects.control(B, "resync"), resync())
    assert heard == []


@pytest.mark.parametrize(
    "reply",
    [*STORED_OF_B, *CORE_SUBJECTS, *DOWN[2:], "$JS.API.STREAM.PURGE.ATLHYPER_EVENTS"],
)
async def test_a_redirected_reply_stores_nothing(users: tuple[Bus, Bus, Bus], reply: str) -> None:
    """With somebody else's subject as the reply to A's own message, the acknowledgement is stored nowhere.

    Permissions do not look at reply subjects; accounts are what prevents it.
    """
    agent, operator, reader = users
    seen: list[str] = []

    async def see(message: Any) -> None:
        seen.append(message.subject)

    spy = await reader.tap("atlhyper.>", see)
    before = await sequences(operator)
    headers, payload = binding.encode(heartbeat(A))
    await agent._connection().publish(subjects.heartbeat(A), payload, headers, reply=reply)
    await until(lambda: seen)
    await agent.publish(subjects.heartbeat(A), heartbeat(A))
    await until(lambda: len(seen) == 2)
    await spy.close()
    assert set(seen) == {subjects.heartbeat(A)}
    before[HEARTBEATS.name] += 2
    assert await sequences(operator) == before


async def test_a_reply_redirected_to_anothers_ctl_is_rejected_there(bus: Connect) -> None:
    """The one thing A can make the broker say to B is A's own acknowledgement, and B's reader rejects it.

    ctl is imported into the agents' account, so an acknowledgement can reach it. It has no headers, and
    what is no CloudEvent reaches no handler.
    """
    agent, other = await bus(A.durable), await bus(B.durable)
    heard: list[str] = []
    rejected = metrics.REJECTED.labels(user=B.durable)._value
    before = rejected.get()

    async def hear(subject: str, _envelope: Envelope) -> None:
        heard.append(subject)

    await other.subscribe(subjects.controls(B), hear)
    headers, payload = binding.encode(heartbeat(A))
    await agent._connection().publish(
        subjects.heartbeat(A), payload, headers, reply=subjects.control(B, "resync")
    )
    await until(lambda: rejected.get() == before + 1)
    assert not heard


async def test_an_agent_cannot_roll_up_a_stream(bus: Connect) -> None:
    """`Nats-Rollup` from an agent is refused: it would erase every other agent's messages."""
    agent, other = await bus(A.durable), await bus(B.durable)
    await other.publish(subjects.heartbeat(B), heartbeat(B))
    for scope in ("all", "sub"):
        headers, payload = binding.encode(heartbeat(A))
        answer = await agent._connection().request(
            subjects.heartbeat(A), payload, {**headers, "Nats-Rollup": scope}
        )
        assert b"rollup not permitted" in answer.data
    reader = await bus("reader")
    last = {"last_by_subj": subjects.heartbeat(B)}
    assert await reader.api(f"$JS.API.STREAM.MSG.GET.{HEARTBEATS.name}", last)


async def test_an_agent_does_all_that_it_must(bus: Connect) -> None:
    """It publishes on each of its channels and hears its own ctl."""
    agent, master = await bus(A.durable), await bus("master")
    for subject in (
        subjects.heartbeat(A),
        subjects.snapshot(A),
        subjects.event(A, "default", "Pod"),
        subjects.dead(A),
    ):
        assert await agent.publish(subject, heartbeat(A)) > 0
    heard: list[str] = []

    async def hear(subject: str, _envelope: Envelope) -> None:
        heard.append(subject)

    await agent.subscribe(subjects.controls(A), hear)
    await master.send(subjects.control(A, "superseded"), resync())
    await until(lambda: heard == [subjects.control(A, "superseded")])


async def test_the_master_does_what_it_must_and_no_more(bus: Connect) -> None:
    """It reads three streams, beats, writes dead letters and ctl; it changes no stream and is no agent."""
    master = await bus("master")
    for stream in (HEARTBEATS, SNAPSHOTS, EVENTS):
        await reads(master, stream.name)
    beat = registry.SERVICE_HEARTBEAT_SENT.envelope(
        ServiceHeartbeat.model_validate(
            {"version": "1", "interval": 5, "health": {"healthy": True, "start_time": "2026-01-01T00:00:00Z"}}
        ),
        source=subjects.service_source("master", "1"),
    )
    await master.publish(subjects.service_heartbeat("master", "1"), beat)
    await master.publish(subjects.service_dead("master"), beat)
    await master.send(subjects.control(A, "resync"), resync())
    for subject in (
        subjects.heartbeat(A),
        subjects.service_heartbeat("api", "1"),
        subjects.service_dead("api"),
        *(f"$JS.API.STREAM.{call}.{SNAPSHOTS.name}" for call in ("CREATE", "UPDATE", "DELETE", "PURGE")),
        f"$JS.API.CONSUMER.CREATE.{DEAD_LETTERS.name}.x",
        "$SYS.REQ.SERVER.PING",
    ):
        assert await refused(master, subject), subject
    with pytest.raises(PermissionDenied):
        await master.subscribe("_INBOX_api.>", _ignore)


async def test_the_api_does_what_it_must_and_no_more(bus: Connect) -> None:
    """It reads the dead letters through its durable consumer and beats; it reads and changes nothing else."""
    api = await bus("api")
    await reads(api, DEAD_LETTERS.name)
    await api.publish(subjects.service_heartbeat("api", "1"), heartbeat(A))
    await api.publish(subjects.service_dead("api"), heartbeat(A))
    for subject in (
        subjects.control(A, "resync"),
        subjects.heartbeat(A),
        f"$JS.API.CONSUMER.CREATE.{SNAPSHOTS.name}.x",
        f"$JS.API.STREAM.PURGE.{DEAD_LETTERS.name}",
    ):
        assert await refused(api, subject), subject


async def test_the_reader_sees_everything_and_changes_nothing(bus: Connect) -> None:
    """People's user lists streams, gets messages, hears `atlhyper.>`; it cannot publish, consume, purge."""
    reader, agent = await bus("reader"), await bus(A.durable)
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    await reader.tap("atlhyper.>", hear)
    await agent.publish(subjects.snapshot(A), frame(A, 1))
    await until(lambda: subjects.snapshot(A) in heard)
    assert (await reader.api("$JS.API.STREAM.LIST", {}))["total"] >= len(STREAMS)
    last = {"last_by_subj": subjects.snapshot(A)}
    assert (await reader.api(f"$JS.API.STREAM.MSG.GET.{SNAPSHOTS.name}", last))["message"]
    for subject in (
        subjects.heartbeat(A),
        subjects.control(A, "resync"),
        f"$JS.API.STREAM.PURGE.{SNAPSHOTS.name}",
        f"$JS.API.STREAM.DELETE.{SNAPSHOTS.name}",
        f"$JS.API.CONSUMER.CREATE.{SNAPSHOTS.name}.x",
        f"$JS.API.CONSUMER.MSG.NEXT.{DEAD_LETTERS.name}.api",
        f"$JS.ACK.{DEAD_LETTERS.name}.api.1.1.1.1.0",
    ):
        assert await refused(reader, subject), subject
    with pytest.raises(PermissionDenied):
        await reader.subscribe("_INBOX_master.>", _ignore)


@pytest.mark.parametrize("reply", [*STORED_OF_B, *CORE_SUBJECTS])
async def test_what_a_reader_is_answered_is_stored_nowhere(bus: Connect, reply: str) -> None:
    """With a stored subject as the reply, the reader could copy an old heartbeat over a newer silence."""
    reader, operator, other = await bus("reader"), await bus("operator"), await bus(B.durable)
    await other.publish(subjects.heartbeat(B), heartbeat(B))
    before = await sequences(operator)
    for question in (
        f"$JS.API.DIRECT.GET.{HEARTBEATS.name}.{subjects.heartbeat(B)}",
        f"$JS.API.STREAM.INFO.{HEARTBEATS.name}",
        "$JS.API.INFO",
    ):
        await reader.ask(question, b"", reply)
    await reader.api("$JS.API.INFO")  # the broker reads in order: the questions above are answered
    assert await sequences(operator) == before


async def test_every_agent_writes_under_unguessable_ids(bus: Connect) -> None:
    """Deduplication is stream-wide: with UUIDs as ids one agent cannot swallow another's message."""
    agent, other = await bus(A.durable), await bus(B.durable)
    ids = {frame(A, n).id for n in range(100)}
    assert len(ids) == 100
    first = await agent.publish(subjects.snapshot(A), frame(A, 1))
    assert await other.publish(subjects.snapshot(B), frame(B, 1)) > first


async def reads(user: Bus, stream: str) -> None:
    """Create, ask and delete a consumer of one's own."""
    await user.api(f"$JS.API.STREAM.INFO.{stream}")
    config = {"name": "probe", "ack_policy": "explicit", "inactive_threshold": 60 * 10**9}
    await user.api(
        f"$JS.API.CONSUMER.CREATE.{stream}.probe", {"stream_name": stream, "config": config, "action": ""}
    )
    with pytest.raises(BusError) as caught:  # a message does not come as an answer, nor does "none"
        await user.api(
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.probe", {"batch": 1, "no_wait": True}, timeout=0.1
        )
    assert not isinstance(caught.value, PermissionDenied)
    for acknowledgement in (f"$JS.ACK.{stream}.probe.1.1.1.1.0", f"$JS.ACK._.hash.{stream}.probe.1.1.1.1.0"):
        assert not await refused(user, acknowledgement, within=2.0)
    await user.api(f"$JS.API.CONSUMER.DELETE.{stream}.probe")


async def sequences(operator: Bus) -> dict[str, int]:
    found = {}
    for stream in STREAMS:
        found[stream.name] = (await operator.api(f"$JS.API.STREAM.INFO.{stream.name}"))["state"]["last_seq"]
    return found


@pytest.fixture
async def users(bus: Connect) -> tuple[Bus, Bus, Bus]:
    """Agent A, the operator and the reader."""
    return await bus(A.durable), await bus("operator"), await bus("reader")


def resync() -> Envelope:
    return registry.RESYNC_REQUESTED.envelope(
        Resync(epoch="", reason="test"), source=subjects.service_source("master", "1")
    )


async def _ignore(_subject: str, _envelope: Envelope) -> None:
    pass
