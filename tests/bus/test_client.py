"""The client: what becomes of a message when the connection does not hold."""

import asyncio
import os
import signal
import time

import pytest

from schemas import registry, subjects, topology
from schemas.control import Resync
from schemas.envelope import Envelope
from services.runtime.bus import client, credentials, metrics
from services.runtime.bus.client import BusUnavailable, MessageTooLarge, PermissionDenied, StreamMissing
from services.runtime.errors import UserError
from services.runtime.settings import BusSettings
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.bus.messages import frame, heartbeat
from tests.processes import pause
from tests.waiting import until

A, B = AGENTS


async def count(bus: client.Bus, stream: str) -> int:
    return int((await bus.api(f"$JS.API.STREAM.INFO.{stream}"))["state"]["messages"])


def kill(running: RunningBroker) -> None:
    pid = running.broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def test_publish_returns_the_sequence_and_a_repeated_id_is_stored_once(bus: Connect) -> None:
    """One envelope id is one message, however often it is published."""
    agent = await bus(A.durable)
    envelope = frame(A, 1)
    first = await agent.publish(subjects.snapshot(A), envelope)
    assert await agent.publish(subjects.snapshot(A), envelope) == first
    assert await agent.publish(subjects.snapshot(A), envelope, message_id=f"{envelope.id}.2") > first


async def test_a_message_is_forgotten_after_its_time(own_broker: RunningBroker, bus: Connect) -> None:
    """To the second, whether or not anybody has read it: a command that nobody fetched cannot come late."""
    master, operator = await bus("master"), await bus("operator")
    envelope = Envelope(type="x", source="/x", data=b"{}")
    ttl = 6
    await master.publish(subjects.command(A, "scale"), envelope, ttl=ttl)
    await master.publish(subjects.command(A, "scale"), Envelope(type="x", source="/x", data=b"{}"), ttl=600)
    assert await count(operator, topology.COMMANDS.name) == 2
    started = time.monotonic()

    async def gone() -> bool:
        return await count(operator, topology.COMMANDS.name) == 1

    await until(gone)
    assert time.monotonic() - started < 2 * ttl


async def test_each_run_of_the_broker_has_an_id(own_broker: RunningBroker, bus: Connect) -> None:
    """The same for all that are connected to it, another one after a new start, none without a connection."""
    first, second = await bus("master"), await bus("api")
    run = first.broker
    assert run
    assert second.broker == run
    kill(own_broker)
    await until(lambda: first.broker == "")
    await own_broker.broker.start()
    await until(lambda: first.broker not in ("", run))


async def test_a_refused_publish_is_told_as_such_at_once(bus: Connect) -> None:
    """A refused permission is PermissionDenied with user and subject, at once; not a time-out."""
    agent = await bus(A.durable)
    subject = subjects.event(B, "Default", "Pod")  # capitals: the broker's error text reaches us without
    started = time.monotonic()
    with pytest.raises(PermissionDenied, match="kubernetes_a") as caught:
        await agent.publish(subject, heartbeat(B), timeout=60)
    assert caught.value.subject == subject.lower()
    with pytest.raises(PermissionDenied):
        await agent.send(subjects.control(B, "resync"), heartbeat(B), timeout=60)
    with pytest.raises(PermissionDenied):
        await agent.subscribe("atlhyper.>", _ignore)
    with pytest.raises(PermissionDenied):
        await agent.api("$JS.API.INFO", timeout=60)
    assert time.monotonic() - started < 20
    assert agent.connected


async def test_a_subject_without_a_stream_is_told_as_such(bus: Connect) -> None:
    """What no stream takes is StreamMissing, which names the command that helps."""
    agent = await bus(A.durable)
    with pytest.raises(StreamMissing, match="atlhyper bus apply"):
        await agent.publish(f"atlhyper.up.{A.kind}.{A.id}.nothing", heartbeat(A))


@pytest.mark.parametrize("over", [0, 1])
async def test_the_limit_counts_headers_and_the_connection_lives(bus: Connect, over: int) -> None:
    """One byte over the broker's limit, headers included, is refused here; at the limit it is stored.

    The broker would end the connection for it, and nats-py would not come back.
    """
    from schemas import binding
    from services.runtime.bus.link import header_size

    agent = await bus(A.durable)
    envelope = heartbeat(A)
    headers, _ = binding.encode(envelope)
    headers["Nats-Msg-Id"] = envelope.id
    size = topology.MAX_PAYLOAD - header_size(headers) + over
    large = Envelope(
        type=envelope.type, source=envelope.source, id=envelope.id, time=envelope.time, data=b"x" * size
    )
    if over:
        with pytest.raises(MessageTooLarge):
            await agent.publish(subjects.heartbeat(A), large)
    else:
        await agent.publish(subjects.heartbeat(A), large)
    await agent.publish(subjects.heartbeat(A), heartbeat(A))


async def test_the_client_comes_back_after_a_killed_broker_and_data_is_kept(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """After kill -9: calls fail fast, the same Bus and its subscription work again, data is there."""
    agent, master = await bus(A.durable), await bus("master")
    heard: list[str] = []

    async def hear(subject: str, _envelope: Envelope) -> None:
        heard.append(subject)

    await agent.subscribe(subjects.controls(A), hear)
    for sequence in range(20):
        await agent.publish(subjects.snapshot(A), frame(A, sequence))
    kill(own_broker)
    await until(lambda: not agent.connected and not master.connected)
    started = time.monotonic()
    with pytest.raises(BusUnavailable, match="no connection"):
        await agent.publish(subjects.snapshot(A), frame(A, 21), timeout=60)
    assert time.monotonic() - started < 20
    assert agent.health()
    await own_broker.broker.start()
    await until(lambda: agent.connected and master.connected)
    assert agent.health() is None
    assert await count(master, "ATLHYPER_SNAPSHOTS") == 20
    await agent.publish(subjects.snapshot(A), frame(A, 21))
    await master.send(subjects.control(A, "resync"), resync())
    await until(lambda: heard == [subjects.control(A, "resync")])


async def test_one_message_for_all_attempts_across_an_outage(own_broker: RunningBroker, bus: Connect) -> None:
    """Publishing again and again with one id through an outage stores exactly one message."""
    agent, master = await bus(A.durable), await bus("master")
    envelope = frame(A, 1)
    attempts = 0

    async def persist() -> None:
        nonlocal attempts
        while True:
            attempts += 1
            try:
                await agent.publish(subjects.snapshot(A), envelope, timeout=0.5)
            except BusUnavailable:
                await asyncio.sleep(0.05)
            else:
                return

    kill(own_broker)
    publishing = asyncio.create_task(persist())
    await until(lambda: attempts > 3)
    await own_broker.broker.start()
    async with asyncio.timeout(40):
        await publishing
        await master.wait_connected()
    await asyncio.sleep(0.2)
    assert await count(master, "ATLHYPER_SNAPSHOTS") == 1


async def test_a_call_in_flight_ends_when_the_broker_dies(own_broker: RunningBroker, bus: Connect) -> None:
    """Who waits for an answer learns of the lost connection, long before his time is over."""
    agent = await bus(A.durable)
    pid = own_broker.broker.pid
    assert pid is not None
    pause(pid)
    publishing = asyncio.create_task(agent.publish(subjects.snapshot(A), frame(A, 1), timeout=90))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BusUnavailable):
        await publishing
    assert time.monotonic() - started < 20


async def test_a_broker_that_hangs_is_a_timeout(own_broker: RunningBroker, bus: Connect) -> None:
    """A stopped broker costs a call its own time limit, none else; after SIGCONT the connection works."""
    agent = await bus(A.durable)
    pid = own_broker.broker.pid
    assert pid is not None
    pause(pid)
    try:
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match="no answer"):
            await agent.publish(subjects.snapshot(A), frame(A, 1), timeout=8)
        assert 8 <= time.monotonic() - started < 20
    finally:
        os.kill(pid, signal.SIGCONT)
    await agent.publish(subjects.snapshot(A), frame(A, 2))


async def test_a_new_client_after_the_broker_closed_the_old_one_for_good(
    bus: Connect, broker: RunningBroker
) -> None:
    """An error after which nats-py never reconnects (payload over the limit) costs one connection only."""
    agent = await bus(A.durable)
    link = agent._link
    assert link is not None
    link._client._max_payload = 1 << 30  # as if the broker's limit had been lowered
    with pytest.raises(BusUnavailable):
        await link.request("atlhyper.up.kubernetes.a.heartbeat", b"x" * (topology.MAX_PAYLOAD + 1))
    await until(lambda: agent._link not in (link, None))
    await agent.publish(subjects.heartbeat(A), heartbeat(A))


async def test_what_cannot_be_read_is_rejected_and_the_next_message_is_heard(bus: Connect) -> None:
    """What is no CloudEvent is counted; neither it nor a failing handler stops the subscription."""
    agent, master = await bus(A.durable), await bus("master")
    heard: list[Envelope] = []
    rejected = metrics.REJECTED.labels(user=A.durable)._value
    before = rejected.get()

    async def hear(_subject: str, envelope: Envelope) -> None:
        heard.append(envelope)
        if len(heard) == 1:
            raise RuntimeError("the handler's own trouble")

    await agent.subscribe(subjects.controls(A), hear)
    await master.send(subjects.control(A, "resync"), resync())
    await master._connection().publish(subjects.control(A, "resync"), b'{"stream":"X","seq":1}')
    await master.send(subjects.control(A, "resync"), resync())
    await until(lambda: len(heard) == 2)
    assert rejected.get() == before + 1


async def test_services_wait_for_a_broker_that_is_not_there_yet(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """With wait=True the Bus is there without a broker, says why it is not connected, and connects later."""
    await own_broker.broker.stop()
    agent = await bus(A.durable, wait=True)
    await until(lambda: agent.last_error)
    assert "connection refused" in (agent.health() or "")
    heard: list[str] = []

    async def hear(subject: str, _envelope: Envelope) -> None:
        heard.append(subject)

    await agent.subscribe(subjects.controls(A), hear)
    await own_broker.broker.start()
    async with asyncio.timeout(30):
        await agent.wait_connected()
    master = await bus("master")
    await master.send(subjects.control(A, "resync"), resync())
    await until(lambda: heard)


async def test_a_first_connection_that_fails_names_cause_and_next_step(
    broker: RunningBroker, tmp_path: object, unused_tcp_port: int
) -> None:
    """Wrong address, unknown key, missing and open seed file: each is one clear sentence, within seconds."""
    nobody = BusSettings(home=broker.home, nats_url=f"nats://127.0.0.1:{unused_tcp_port}")
    started = time.monotonic()
    with pytest.raises(UserError, match="connection refused") as caught:
        async with client.connect(nobody, "master", name="t"):
            pass
    assert "NATS_URL" in caught.value.next_step

    assert isinstance(tmp_path, os.PathLike)
    stranger = BusSettings(home=tmp_path, nats_url=broker.url)
    with pytest.raises(UserError, match="no credential at"):
        async with client.connect(stranger, "master", name="t"):
            pass
    seed = credentials.issue(stranger.home, "master")
    with pytest.raises(UserError, match="does not know the credential of user 'master'"):
        async with client.connect(stranger, "master", name="t"):
            pass
    seed.chmod(0o640)
    with pytest.raises(UserError, match="can be read by others") as caught:
        async with client.connect(stranger, "master", name="t", wait=True):
            pass
    assert "chmod 600" in caught.value.next_step
    seed.chmod(0o600)
    seed.write_text("not a seed")
    with pytest.raises(UserError, match="holds no nkey seed"):
        async with client.connect(stranger, "master", name="t"):
            pass
    assert time.monotonic() - started < 20


async def test_a_cancelled_call_does_no_harm(own_broker: RunningBroker, bus: Connect) -> None:
    """Cancelling calls that wait for the broker leaves the connection as it is."""
    agent, master = await bus(A.durable), await bus("master")
    links = agent._link, master._link
    pid = own_broker.broker.pid
    assert pid is not None
    pause(pid)
    try:
        calls = [
            asyncio.create_task(master.send(subjects.control(A, "resync"), resync())),
            asyncio.create_task(agent.subscribe(subjects.controls(A), _ignore)),
            asyncio.create_task(agent.publish(subjects.heartbeat(A), heartbeat(A))),
        ]
        await asyncio.sleep(0.1)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls, timeout=20)
        assert all(call.cancelled() for call in calls)
    finally:
        os.kill(pid, signal.SIGCONT)
    await master.send(subjects.control(A, "resync"), resync())
    await agent.publish(subjects.heartbeat(A), heartbeat(A))
    assert (agent._link, master._link) == links


async def test_it_closes_at_any_moment_of_connecting(broker: RunningBroker) -> None:
    """A service that is told to stop just as it connects ends: at each step of the handshake."""
    for steps in range(200):
        async with asyncio.timeout(30):
            async with client.connect(broker.settings(), "master", name="leaving", wait=True):
                for _ in range(steps % 50):
                    await asyncio.sleep(0)


def resync() -> Envelope:
    """A ctl message of the master."""
    return registry.RESYNC_REQUESTED.envelope(
        Resync(epoch="", reason="test"), source=subjects.service_source("master", "1")
    )


async def _ignore(_subject: str, _envelope: Envelope) -> None:
    pass
