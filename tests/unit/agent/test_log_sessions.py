"""Sessions of logs inside the agent: how many there may be, and when one is over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from schemas.logs import LogsPublished, LogsRequested, LogsTaken
from services.agent.capability import LogSink
from services.agent.scheduler.logs import LogScheduler
from services.runtime.tasks import cancelled
from tests.waiting import until


class Source:
    """Logs that never end."""

    async def read_logs(self, asked: LogsRequested, sink: LogSink) -> None:
        sink.opened([])
        await asyncio.get_running_loop().create_future()


class Readers:
    """LogCalls: everybody is there, and has what was sent."""

    def __init__(self) -> None:
        self.chunks: list[LogsPublished] = []

    async def publish_logs(self, chunk: LogsPublished) -> LogsTaken:
        self.chunks.append(chunk)
        return LogsTaken(credit=1)

    def of(self, session: str) -> list[LogsPublished]:
        return [chunk for chunk in self.chunks if chunk.session == session]


@asynccontextmanager
async def running(scheduler: LogScheduler) -> AsyncIterator[None]:
    task = asyncio.create_task(scheduler.run())
    try:
        yield
    finally:
        await cancelled(task)


def asked(session: str) -> LogsRequested:
    return LogsRequested(session=session, namespace="shop", pod="web-0", follow=True, credit=1)


async def test_who_left_before_the_first_step_takes_no_place() -> None:
    """Readers that come and leave while the agent is busy are gone; the next one is served."""
    readers = Readers()
    scheduler = LogScheduler(Source(), readers, max_sessions=50)
    for number in range(60):
        await scheduler.requested(asked(str(number)))
        await scheduler.requested(replace(asked(str(number)), closed=True))
    await scheduler.requested(asked("next"))
    async with running(scheduler):
        await until(lambda: any(chunk.opened for chunk in readers.of("next")))
    assert all(chunk.error is None for chunk in readers.chunks)


async def test_who_left_gives_the_place_back() -> None:
    """So does one that was read for; and a session that begins anew needs no second place."""
    readers = Readers()
    scheduler = LogScheduler(Source(), readers, max_sessions=1)
    async with running(scheduler):
        await scheduler.requested(asked("a"))
        await until(lambda: any(chunk.opened for chunk in readers.of("a")))
        await scheduler.requested(replace(asked("a"), run=2))
        await until(lambda: any(chunk.opened and chunk.run == 2 for chunk in readers.of("a")))
        await scheduler.requested(asked("b"))
        await until(lambda: any(chunk.ended for chunk in readers.of("b")))
        error = readers.of("b")[-1].error
        assert error is not None
        assert error.code == "too_many"
        await scheduler.requested(replace(asked("a"), run=2, closed=True))
        await scheduler.requested(asked("c"))
        await until(lambda: any(chunk.opened for chunk in readers.of("c")))
