"""The consumer: nothing is skipped, nothing unreadable stops it, and every failure ends somewhere."""

import asyncio
import gzip
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from schemas import binding, registry, subjects
from schemas.deadletter import DeadLetter
from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.presence import Health, ServiceHeartbeat
from schemas.topology import DEAD_LETTERS, HEARTBEATS, SNAPSHOTS, Stream
from services.runtime.bus import consumer as consuming
from services.runtime.bus import pull as pulling
from services.runtime.bus.client import RECONNECT_CAP, Bus, BusUnavailable
from services.runtime.bus.consumer import (
    AckPosition,
    Consumer,
    Cursor,
    CursorPosition,
    Delivery,
    ReaderReplaced,
    Retry,
    Room,
)
from services.runtime.bus.delivery import Message, Rejected
from services.runtime.bus.pull import Pull
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.bus.messages import MemoryCursors, frame, heartbeat
from tests.waiting import until

A, B = AGENTS


class Reader:
    """A consumer with a handler that keeps what it was given, and fails as told."""

    def __init__(self, bus: Bus, stream: Stream = SNAPSHOTS, **options: Any) -> None:
        self.cursors = options.pop("cursors", None) or MemoryCursors()
        self.seen: list[Delivery] = []
        self.calls: list[int] = []
        self.failures: dict[int, Exception] = {}
        """By frame sequence: what to raise, for ever."""
        self.passing: dict[int, int] = {}
        """By frame sequence: how many calls fail."""
        self.poison: list[Rejected] = []
        position = options.pop("position", None) or CursorPosition("test", self.cursors)
        filters = options.pop("filters", [subjects.ALL_SNAPSHOTS])
        self.consumer = Consumer(
            bus, stream, filters, position, self.handle, service="master", on_poison=self.on_poison, **options
        )

    @property
    def sequences(self) -> list[int]:
        return [delivery.body.sequence for delivery in self.seen]

    @property
    def position(self) -> int:
        """Of the cursor."""
        return max((cursor.sequence for cursor in self.cursors.cursors.values()), default=0)

    async def handle(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> None:
        self.calls.append(len(deliveries))
        for delivery in deliveries:
            sequence = getattr(delivery.body, "sequence", -1)
            if self.passing.get(sequence):
                self.passing[sequence] -= 1
                raise ValueError("passing")
            if failure := self.failures.get(sequence):
                raise failure
        self.seen += deliveries
        if cursor is not None:
            await self.cursors.save(cursor)

    async def on_poison(self, rejected: Rejected) -> None:
        self.poison.append(rejected)
        raise RuntimeError("a hook that fails hurts nobody")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.consumer.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def publish(agent: Bus, first: int, last: int) -> None:
    for sequence in range(first, last + 1):
        await agent.publish(subjects.snapshot(A), frame(A, sequence))


async def letters(bus: Connect, number: int) -> list[tuple[str, DeadLetter]]:
    """All dead letters, when there are that many; (subject, letter)."""
    found: list[tuple[str, DeadLetter]] = []

    async def keep(deliveries: Sequence[Delivery], _cursor: Cursor | None) -> None:
        found.extend((delivery.message.subject, delivery.body) for delivery in deliveries)

    position = CursorPosition("letters", MemoryCursors())
    api = await bus("api")
    reader = Consumer(api, DEAD_LETTERS, DEAD_LETTERS.subjects, position, keep, service="api")
    task = asyncio.create_task(reader.run())
    await until(lambda: len(found) >= number)
    await asyncio.sleep(0.1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return found


async def test_a_delivery_says_what_the_stream_knows(own_broker: RunningBroker, bus: Connect) -> None:
    """Subject parsed, body decoded, type, stream sequence and the broker's time; lag counts down to 0."""
    agent, master = await bus(A.durable), await bus("master")
    began = time.time()
    await publish(agent, 1, 5)
    reader = Reader(master, batch=2)
    async with reader.running():
        await until(lambda: len(reader.seen) == 5)
        await until(lambda: reader.consumer.lag == 0)
    first = reader.seen[0]
    assert first.subject == subjects.parse(subjects.snapshot(A))
    assert (first.event_type, first.stream_sequence) == (registry.FRAME_PUBLISHED, 1)
    assert began - 1 < first.stream_time.timestamp() < time.time() + 1
    assert first.stream_time.tzinfo is not None
    assert reader.sequences == [1, 2, 3, 4, 5]
    assert max(reader.calls) <= 2


async def test_a_new_message_is_handled_at_once(bus: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting reader gets a message when it is stored, not when a pull ends."""
    monkeypatch.setattr(pulling, "EXPIRES", 90.0)
    agent, master = await bus(B.durable), await bus("master")
    reader = Reader(master, filters=[f"atlhyper.up.kubernetes.b.snapshot.{B.shard}"])
    async with reader.running():
        await until(lambda: reader.consumer.last_error == "")
        await asyncio.sleep(0.3)
        before = len(reader.seen)
        await agent.publish(subjects.snapshot(B), frame(B, 1))
        await until(lambda: len(reader.seen) > before)


async def test_what_was_sent_together_is_handled_together(own_broker: RunningBroker, bus: Connect) -> None:
    """A reader that lingers is not called for the first of several alone."""
    agent, master = await bus(A.durable), await bus("master")
    reader = Reader(master, linger=5.0)  # longer than any machine needs for three
    async with reader.running():
        await until(lambda: reader.consumer.last_error == "")
        await publish(agent, 1, 3)
        await until(lambda: len(reader.seen) == 3, 30)
    assert reader.calls == [3]


# --- poison ------------------------------------------------------------------------------------------


def altered(envelope: Envelope, **changes: Any) -> tuple[dict[str, str], bytes]:
    return binding.encode(replace(envelope, **changes))


def poisons() -> dict[str, tuple[str, dict[str, str], bytes, str]]:
    """Name → (subject, headers, payload, what the reason says)."""
    good = frame(A, 1)
    snapshot, headers = subjects.snapshot(A), binding.encode(good)[0]
    beat = registry.SERVICE_HEARTBEAT_SENT.envelope(
        ServiceHeartbeat(version="1", interval=5, health=Health(healthy=True, start_time=good.time)),
        source=subjects.agent_source(A),
    )
    bomb = gzip.compress(b"0" * (64 * 1024 * 1024))
    wrong_shard = f"atlhyper.up.kubernetes.a.snapshot.{(A.shard + 1) % 16}"
    return {
        "not a CloudEvent": (snapshot, {}, b'{"stream":"X","seq":1}', "not a CloudEvent"),
        "unknown type": (snapshot, *altered(good, type="io.atlhyper.kubernetes.unheard.v9"), "not known"),
        "undecodable body": (snapshot, *altered(good, data=b'{"epoch":7}'), "epoch"),
        "no JSON": (snapshot, *altered(good, data=b"\xff\xfe"), "io.atlhyper.kubernetes.frame"),
        "wrong source": (snapshot, *altered(good, source="/atlhyper/kubernetes/b"), "source"),
        "wrong shard": (wrong_shard, *binding.encode(good), "shard"),
        "gzip bomb": (snapshot, {**headers, "Content-Encoding": "gzip"}, bomb, "unpacks to more than"),
        "cut gzip": (snapshot, {**headers, "Content-Encoding": "gzip"}, bomb[:100], "gzip"),
        "type of another stream": (snapshot, *binding.encode(heartbeat(A)), "does not belong on"),
        "a service's type from an agent": (snapshot, *binding.encode(beat), "does not belong on"),
    }


async def test_poison_of_every_sort_becomes_a_dead_letter_and_the_reader_goes_on(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """Each sort: a dead letter with reason, origin, headers and bytes; every good message is handled."""
    agent, master = await bus(A.durable), await bus("master")
    cases = poisons()
    for sequence, (subject, headers, payload, _) in enumerate(cases.values(), start=1):
        await publish(agent, sequence, sequence)
        answer = await agent._connection().request(subject, payload, headers)
        assert b'"seq"' in answer.data
    reader = Reader(master, batch=7)
    async with reader.running():
        await until(lambda: reader.position == 2 * len(cases))
    assert reader.sequences == list(range(1, len(cases) + 1))
    found = await letters(bus, len(cases))
    assert len(found) == len(cases) == len(reader.poison)
    for (name, (subject, headers, payload, reason)), (where, letter) in zip(
        cases.items(), found, strict=True
    ):
        assert where == subjects.service_dead("master"), name
        assert reason in letter.reason, name
        assert (letter.consumer, letter.subject, letter.stream) == ("master", subject, SNAPSHOTS.name), name
        assert letter.body == payload, name
        assert letter.headers == headers, name
        assert letter.received_at is not None, name


async def test_an_agent_cannot_pass_for_a_service_on_the_heartbeats(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """A core service's type on an agent's own heartbeat subject is poison: the master's beat is the clock."""
    agent, master = await bus(A.durable), await bus("master")
    beat = registry.SERVICE_HEARTBEAT_SENT.envelope(
        ServiceHeartbeat.model_validate(
            {"version": "1", "interval": 5, "health": {"healthy": True, "start_time": "2026-01-01T00:00:00Z"}}
        ),
        source=subjects.agent_source(A),
    )
    await agent.publish(subjects.heartbeat(A), beat)
    reader = Reader(master, HEARTBEATS, filters=list(HEARTBEATS.subjects))
    async with reader.running():
        await until(lambda: reader.poison)
    assert not reader.seen
    assert "does not belong on" in reader.poison[0].reason


async def test_a_poison_as_large_as_can_be_is_kept(own_broker: RunningBroker, bus: Connect) -> None:
    """A megabyte of noise fits its dead letter only in part, and the letter says so; the reader goes on."""
    agent, master = await bus(A.durable), await bus("master")
    noise = os.urandom(1024 * 1024 - 4096)
    await agent._connection().request(subjects.snapshot(A), noise, {})
    await publish(agent, 1, 1)
    reader = Reader(master)
    async with reader.running():
        await until(lambda: reader.seen)
    [(_, letter)] = await letters(bus, 1)
    assert noise.startswith(letter.body)
    assert f"of {len(noise)} bytes" in letter.reason


async def test_a_dead_letter_is_stored_once_and_never_left_out(
    own_broker: RunningBroker, bus: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it cannot be stored the reader waits; read a second time it is still one letter."""
    agent, master = await bus(A.durable), await bus("master")
    await agent._connection().request(subjects.snapshot(A), b"junk", {})
    real, failures = Bus.publish, 3

    async def unreliable(self: Bus, *args: Any, **options: Any) -> int:
        nonlocal failures
        if self is master and failures:
            failures -= 1
            raise BusUnavailable("for the test")
        return await real(self, *args, **options)

    monkeypatch.setattr(Bus, "publish", unreliable)
    for _ in range(2):
        reader = Reader(master)
        async with reader.running():
            await until(reader.cursors.cursors.keys)
        assert failures == 0
        assert reader.cursors.cursors["test"].sequence == 1
    assert len(await letters(bus, 1)) == 1


# --- a handler that fails ----------------------------------------------------------------------------


async def test_a_failing_handler_is_called_again_and_one_bad_message_is_isolated(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """One by one: a passing failure is retried, a ContractError is a dead letter at once, a lasting failure
    is one after `max_attempts`; all others are handled, in order, once."""
    agent, master = await bus(A.durable), await bus("master")
    await publish(agent, 1, 6)
    reader = Reader(master, max_attempts=3)
    reader.failures = {3: ContractError("cannot be applied"), 5: RuntimeError("for ever")}
    reader.passing = {2: 3}
    async with reader.running():
        await until(lambda: reader.position == 6)
    assert reader.sequences == [1, 2, 4, 6]
    reasons = [letter.reason for _, letter in await letters(bus, 2)]
    assert reasons == ["cannot be applied", "3 attempts failed: RuntimeError: for ever"]


async def test_retry_is_for_ever(
    own_broker: RunningBroker, bus: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that raises Retry (the database is away) keeps its whole batch, however often."""
    monkeypatch.setattr(consuming, "RETRY_CAP", 0.06)
    agent, master = await bus(A.durable), await bus("master")
    await publish(agent, 1, 3)
    reader = Reader(master, max_attempts=2)
    reader.failures = {2: Retry("the database is away")}
    async with reader.running():
        await until(lambda: len(reader.calls) > 12)
        assert not reader.seen
        reader.failures.clear()
        await until(lambda: reader.sequences == [1, 2, 3])
    assert not reader.poison


# --- cursor ------------------------------------------------------------------------------------------


async def test_a_cursor_resumes_after_what_was_committed(own_broker: RunningBroker, bus: Connect) -> None:
    """A reader that starts again reads on after its cursor, without a gap and without a repetition."""
    agent, master = await bus(A.durable), await bus("master")
    await publish(agent, 1, 10)
    first = Reader(master, batch=4)
    async with first.running():
        await until(lambda: len(first.seen) >= 4)
    await publish(agent, 11, 13)
    second = Reader(master, cursors=first.cursors)
    async with second.running():
        await until(lambda: len(first.seen) + len(second.seen) == 13)
    assert first.sequences + second.sequences == list(range(1, 14))

    async def none_left_behind() -> bool:
        info = await master.api(f"$JS.API.STREAM.INFO.{SNAPSHOTS.name}")
        return bool(info["state"]["consumer_count"] == 0)

    await until(none_left_behind)


async def test_a_cursor_of_another_stream_starts_from_the_beginning(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """The stream was made anew, or is shorter than the cursor: it is read from its first message."""
    agent, master, operator = await bus(A.durable), await bus("master"), await bus("operator")
    await publish(agent, 1, 5)
    reader = Reader(master)
    async with reader.running():
        await until(lambda: len(reader.seen) == 5)
        await operator.api(f"$JS.API.STREAM.DELETE.{SNAPSHOTS.name}")
        await own_broker.apply()
        await publish(agent, 101, 108)  # further than the cursor: only `created` tells
        await until(lambda: reader.sequences[5:] == list(range(101, 109)))
    beyond = replace(reader.cursors.cursors["test"], sequence=1000)
    await reader.cursors.save(beyond)
    again = Reader(master, cursors=reader.cursors)
    async with again.running():
        await until(lambda: again.sequences == list(range(101, 109)))


async def test_a_broker_killed_under_a_reader_costs_no_message_and_few_seconds(
    own_broker: RunningBroker, bus: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the broker while a pull waits: back within seconds, every message is read once."""
    monkeypatch.setattr(pulling, "EXPIRES", 90.0)
    agent, master = await bus(A.durable), await bus("master")
    reader = Reader(master, batch=10)
    await publish(agent, 1, 25)
    async with reader.running():
        await until(lambda: len(reader.seen) == 25)
        pid = own_broker.broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not agent.connected)
        await own_broker.broker.start()
        started = time.monotonic()
        await agent.wait_connected()
        await master.wait_connected()
        assert time.monotonic() - started < 4 * RECONNECT_CAP
        await publish(agent, 26, 30)
        await until(lambda: len(reader.seen) == 30)  # far below the time that a pull waits
    assert reader.sequences == list(range(1, 31))


async def test_a_message_lost_on_the_way_is_read_again(own_broker: RunningBroker, bus: Connect) -> None:
    """A hole in what the broker handed out is noticed, and closed by reading again from the cursor."""
    agent, master = await bus(A.durable), await bus("master")
    await publish(agent, 1, 3)
    reader = Reader(master, batch=1)
    real = Pull.take
    dropped: list[Any] = []

    async def lossy(self: Pull, *, wait: bool = True) -> list[Any]:
        messages = await real(self, wait=wait)
        if messages and messages[0].sequence == 2 and not dropped:
            dropped.append(messages)
            return []
        return messages

    Pull.take = lossy  # type: ignore[method-assign]
    try:
        async with reader.running():
            await until(lambda: len(reader.seen) == 3)
    finally:
        Pull.take = real  # type: ignore[method-assign]
    assert dropped
    assert reader.sequences == [1, 2, 3]


# --- who may wait ------------------------------------------------------------------------------------


async def test_some_wait_for_others_and_nothing_is_passed_over(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """What may wait is handled in parts, and others come between; each subject keeps its order, poison goes
    to the dead letters, and no cursor is past a message that is not handled."""
    a, b, master = await bus(A.durable), await bus(B.durable), await bus("master")
    waiting, cursors = subjects.snapshot(A), MemoryCursors()
    room, used, handled = Room(1), [], list[tuple[str, int]]()
    numbers: dict[int, tuple[str, int]] = {}
    for number in range(1, 31):  # in the stream: five of A, one of B, and so on
        agent, target = (b, B) if number % 6 == 0 else (a, A)
        await agent.publish(subjects.snapshot(target), frame(target, number))
        numbers[number] = (subjects.snapshot(target), number)

    async def may_wait(messages: Sequence[Message]) -> set[str]:
        return {waiting}

    async def handle(deliveries: Sequence[Delivery], cursor: Cursor | None) -> int:
        assert cursor is not None
        used.append(room.used)
        if any(delivery.body.sequence == 8 for delivery in deliveries):
            raise ContractError("no good")
        if len(handled) % 3 == 1 and len(deliveries) == 1:
            handled.append(("nothing", 0))
            return 0
        handled.extend((delivery.message.subject, delivery.body.sequence) for delivery in deliveries[:2])
        left = [number for number, what in numbers.items() if what not in handled and number != 8]
        reached = min([cursor.sequence, *(number - 1 for number in left if number > 0)])
        if reached > getattr(cursors.cursors.get("test"), "sequence", 0):
            await cursors.save(replace(cursor, sequence=reached))
        assert cursor.sequence < min(left, default=31) or len(deliveries) > 2
        return min(2, len(deliveries))

    consumer = Consumer(
        master,
        SNAPSHOTS,
        [subjects.ALL_SNAPSHOTS],
        CursorPosition("test", cursors),
        handle,
        service="master",
        batch=4,
        may_wait=may_wait,
        room=room,
    )
    task = asyncio.create_task(consumer.run())
    await until(lambda: cursors.cursors and cursors.cursors["test"].sequence == 30)
    await cancelled(task)
    seen = [what for what in handled if what[1]]
    assert [number for subject, number in seen if subject == waiting] == [
        number for number in range(1, 31) if number % 6 and number != 8
    ]
    assert [number for subject, number in seen if subject != waiting] == [6, 12, 18, 24, 30]
    assert [letter.reason for _, letter in await letters(bus, 1)] == ["no good"]
    assert 0 < max(used) < 3000  # a pull of four at most beside what was there
    assert room.used == 0


# --- acknowledgements --------------------------------------------------------------------------------


async def all_acknowledged(bus: Bus, durable: str) -> bool:
    """Whether that consumer has handed out everything, and nothing will come again."""
    info = await bus.api(f"$JS.API.CONSUMER.INFO.{SNAPSHOTS.name}.{durable}")
    return (info["num_pending"], info["num_ack_pending"]) == (0, 0)


async def test_acknowledged_messages_are_not_handed_out_again_and_others_are(
    own_broker: RunningBroker, bus: Connect
) -> None:
    """A reader that stops in the middle: what it handled stays handled, the rest goes to the next one."""
    agent, master = await bus(A.durable), await bus("master")
    await publish(agent, 1, 6)
    first = Reader(master, position=AckPosition("shared", ack_wait=90.0), batch=3)
    first.failures = {4: Retry("not now")}
    async with first.running():
        await until(lambda: first.sequences == [1, 2, 3] and len(first.calls) >= 2)
    second = Reader(master, position=AckPosition("shared", ack_wait=90.0))
    async with second.running():
        await until(lambda: sorted(second.sequences) == [4, 5, 6])  # given back, not waited for
        await until(lambda: second.consumer.lag == 0)
    await until(lambda: all_acknowledged(master, "shared"))


async def test_a_slow_handler_keeps_its_messages(own_broker: RunningBroker, bus: Connect) -> None:
    """Handling that takes longer than the ack wait is not handed to somebody else meanwhile."""
    agent, master = await bus(A.durable), await bus("master")
    await publish(agent, 1, 4)
    ack_wait = 9.0  # extended at a third of it: a slow machine may stand still for the rest
    seen: list[tuple[str, int]] = []

    def slow(name: str) -> Consumer:
        async def handle(deliveries: Sequence[Delivery], _cursor: Cursor | None) -> None:
            await asyncio.sleep(1.4 * ack_wait)
            seen.extend((name, delivery.stream_sequence) for delivery in deliveries)

        position = AckPosition("slow", ack_wait=ack_wait)
        return Consumer(
            master, SNAPSHOTS, [subjects.ALL_SNAPSHOTS], position, handle, service="master", batch=2
        )

    tasks = [asyncio.create_task(slow(name).run()) for name in ("one", "two")]
    await until(lambda: len(seen) >= 4, 90)
    await until(lambda: all_acknowledged(master, "slow"))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(sequence for _, sequence in seen) == [1, 2, 3, 4]


async def test_poison_at_a_durable_is_settled(own_broker: RunningBroker, bus: Connect) -> None:
    """Poison is acknowledged after its dead letter is stored: it is not handed out again."""
    agent, master = await bus(A.durable), await bus("master")
    await agent._connection().request(subjects.snapshot(A), b"junk", {})
    await publish(agent, 1, 1)
    reader = Reader(master, position=AckPosition("poisoned", ack_wait=90.0))
    async with reader.running():
        await until(lambda: reader.seen)
        await until(lambda: all_acknowledged(master, "poisoned"))
    assert (len(reader.seen), len(reader.poison)) == (1, 1)


@pytest.mark.parametrize("where", ["handler", "store", "load", "hook"])
async def test_reader_that_was_replaced_ends(
    own_broker: RunningBroker, bus: Connect, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Who hears that another one reads in its place ends: nothing is repeated, nobody's message is buried."""
    agent, master = await bus(A.durable), await bus("master")
    reader = Reader(master)
    replaced = ReaderReplaced("another one reads")

    async def refuse(*_: object) -> None:
        raise replaced

    if where == "handler":
        reader.failures[2] = replaced
    else:
        reader.failures[2] = ContractError("no good")
        if where == "hook":
            monkeypatch.setattr(reader.consumer, "_on_poison", refuse)
        else:
            monkeypatch.setattr(reader.cursors, {"store": "save", "load": "load"}[where], refuse)
    await publish(agent, 1, 3)
    with pytest.raises(ReaderReplaced):
        async with asyncio.timeout(30):
            await reader.consumer.run()
    assert len(reader.calls) <= 3
    if where in ("handler", "load"):
        info = await (await bus("reader")).api(f"$JS.API.STREAM.INFO.{DEAD_LETTERS.name}")
        assert info["state"]["messages"] == 0
