"""Logs over what breaks between the container and the reader: each line once, in order."""

import asyncio
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from schemas.logs import LogCounter
from services.agent.scheduler import logs as scheduler
from services.api.logs import session
from tests.api.fixtures import Fleet
from tests.bus.fixtures import RunningBroker
from tests.logs.fixtures import LogPlane, LogPod, LogSystem, Reader, log_system

pytestmark = pytest.mark.timeout(180)

_LINE = re.compile(rb"\[pod/([^/]+)/app\] (\d+) x*")
BATCHES = 20
"""Per second."""


class Writer:
    """Writes numbered lines to the logs of many pods at a steady rate, from a thread."""

    def __init__(self, pods: list[LogPod], lines_per_second: int) -> None:
        self._pods = pods
        self._batch = lines_per_second // len(pods) // BATCHES
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0
        """Lines of each pod."""
        self.seconds = 0.0

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        self._thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def rate(self) -> float:
        """Lines per second."""
        return self.written * len(self._pods) / self.seconds

    def _run(self) -> None:
        begun = due = time.monotonic()
        while not self._stop.is_set():
            lines = [f"{self.written + number} {'x' * 80}" for number in range(self._batch)]
            for pod in self._pods:
                pod.log().write(*lines)
            self.written += self._batch
            due += 1 / BATCHES
            time.sleep(max(0.0, due - time.monotonic()))
        self.seconds = time.monotonic() - begun


def whole_lines(reader: Reader) -> int:
    """How many were read; cheap, since it is asked all the time in the process that reads and writes them."""
    return reader.data.count(b"\n")


def lines_by_pod(reader: Reader) -> dict[str, list[int]]:
    """The numbers that were read, in their order."""
    found: dict[str, list[int]] = {}
    for line in reader.lines:
        match = _LINE.fullmatch(line)
        assert match, line[:200]
        found.setdefault(match[1].decode(), []).append(int(match[2]))
    return found


def complete(writer: Writer, pods: list[LogPod]) -> Callable[[Reader], bool]:
    return lambda reader: whole_lines(reader) >= writer.written * len(pods)


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_fifty_pods_while_the_broker_restarts(
    own_broker: RunningBroker,
    log_plane: LogPlane,
    fleet: Fleet,
    cluster_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """5,000 lines a second of 50 pods, or more, the broker killed with -9 and started again meanwhile: each
    line once, in order per pod.
    """
    namespace, pods = await log_plane.ready(50, "load")
    async with log_system(own_broker, log_plane, fleet, cluster_id, monkeypatch) as system:
        writer = Writer(pods, 6000)  # a fifth more: it may be late when it is stopped
        async with system.follow(namespace, labelSelector="app=load") as reader:
            with writer.writing():
                await reader.until(lambda reader: whole_lines(reader) > 10_000, 60)
                await own_broker.kill()
                await asyncio.sleep(2)
                await own_broker.start()
                behind = whole_lines(reader)
                await reader.until(lambda reader: whole_lines(reader) > behind + 25_000, 80)
            await reader.until(complete(writer, pods), 80)
            assert lines_by_pod(reader) == {pod.name: list(range(writer.written)) for pod in pods}
            assert not reader.ended
        assert writer.rate >= 5000


async def test_the_agent_starts_again(
    log_plane: LogPlane, log_reading: LogSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new agent is asked to go on where the last one was: the reader notices nothing."""
    monkeypatch.setattr(session, "SILENCE", 2.0)
    monkeypatch.setattr(scheduler, "KEEPALIVE", 0.5)
    namespace, pods = await log_plane.ready(4, "restarted")
    writer = Writer(pods, 800)
    async with log_reading.follow(namespace, labelSelector="app=restarted", tail=0) as reader:
        await log_plane.reads(*pods)
        with writer.writing():
            await reader.until(lambda reader: len(reader.lines) > 1000)
            assert log_reading.agent
            log_reading.agent.cancel()
            await asyncio.wait([log_reading.agent])
            await asyncio.sleep(1)
            log_reading.start_agent()
            behind = len(reader.lines)
            await reader.until(lambda reader: len(reader.lines) > behind + 3000, 60)
        await reader.until(complete(writer, pods), 60)
        assert lines_by_pod(reader) == {pod.name: list(range(writer.written)) for pod in pods}


async def test_the_kubelet_starts_again(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """The API server ends the answer as if the log had ended; it has not, and is asked for again."""
    namespace, pods = await log_plane.ready(3, "kubelet")
    [silent] = await asyncio.to_thread(log_plane.pods, namespace, 1)
    silent.log().write("long ago", at=datetime(2026, 11, 21, 8, tzinfo=UTC))
    writer = Writer(pods, 600)
    async with (
        log_reading.follow(namespace, labelSelector="app=kubelet") as reader,
        log_reading.follow(namespace, silent.name, tail=0) as other,
    ):
        with writer.writing():
            await reader.until(lambda reader: len(reader.lines) > 500)
            await asyncio.to_thread(log_plane.plane.send_signal, "kwok", signal.SIGKILL)
            silent.log().write("while it was away")
            await asyncio.to_thread(log_plane.plane.start_component, "kwok")
            behind = len(reader.lines)
            await reader.until(lambda reader: len(reader.lines) > behind + 2000, 60)
        await reader.until(complete(writer, pods), 60)
        assert lines_by_pod(reader) == {pod.name: list(range(writer.written)) for pod in pods}
        await other.until(lambda other: other.lines == [b"while it was away"])


async def test_a_reader_goes_on_where_it_was(log_plane: LogPlane, log_reading: LogSystem) -> None:
    """`resume` leaves out what it has, to the byte, also in the middle of a line that is long."""
    namespace, [pod] = await log_plane.ready(1, "resume")
    long = "0123456789" * 50_000
    pod.log().write("one", "two", at=datetime(2026, 11, 21, 8, tzinfo=UTC))
    pod.log().write(long, "three", at=datetime(2026, 11, 21, 8, 0, 1, tzinfo=UTC))
    whole = (await log_reading.get(namespace, pod.name)).content
    counter = LogCounter()
    counter.count("2026-11-21T08:00:00.000000000")
    for offset in (0, 1, 3):  # of "two"
        counter.offset = offset
        position = str(counter.position(pod.name, "app"))
        rest = (await log_reading.get(namespace, pod.name, resume=position)).content
        assert rest == whole[len("one\n") + offset :]
    counter.count("2026-11-21T08:00:00.000000000")
    counter.offset = 333_333
    position = str(counter.position(pod.name, "app"))
    rest = (await log_reading.get(namespace, pod.name, resume=position)).content
    assert rest == whole[len("one\ntwo\n") + 333_333 :]
