import asyncio
import os
import signal

import pytest

from services.persistence.database.errors import DatabaseUnavailable
from services.runtime import lifecycle
from services.runtime.errors import UserError
from services.runtime.lifecycle import RESTARTS, Service
from services.runtime.tasks import cancelled


def _restarts(task: str) -> float:
    return RESTARTS.labels(task=task)._value.get()


async def test_a_task_that_dies_is_started_again() -> None:
    """An exception, a plain return and a stray cancellation all count as deaths, and are counted."""
    runs = 0
    steady = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("boom")
        if runs == 2:
            return
        if runs == 3:
            raise asyncio.CancelledError
        steady.set()
        await asyncio.Event().wait()

    before = _restarts("restarted")
    async with Service("test") as service:
        service.supervise("restarted", work)
        await asyncio.wait_for(steady.wait(), 20)
    assert runs == 4
    assert _restarts("restarted") - before == 3


async def test_tasks_end_in_reverse_order() -> None:
    """What was started last, and so may lean on the others, ends first."""
    ended: list[str] = []

    def factory(name: str):  # type: ignore[no-untyped-def]
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        return work

    async with Service("test") as service:
        for name in ("bus", "consumer", "server"):
            service.supervise(name, factory(name))
        await asyncio.sleep(0)
    assert ended == ["server", "consumer", "bus"]


async def test_a_user_error_ends_the_service() -> None:
    """What only a person can put right is not retried: `wait` raises it."""

    async def work() -> None:
        raise UserError("the database is of an unknown revision", "atlhyper db upgrade")

    async def run() -> None:
        async with Service("test") as service:
            service.supervise("store", work)
            await service.wait()

    with pytest.raises(UserError, match="unknown revision"):
        await asyncio.wait_for(run(), 20)


async def test_a_temporary_user_error_is_retried() -> None:
    """What may succeed later (EXIT_TEMPORARY) does not end the service: the task starts again."""
    runs = 0
    steady = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise DatabaseUnavailable("database x: another process holds it")
        steady.set()
        await asyncio.Event().wait()

    async with Service("test") as service:
        service.supervise("store", work)
        await asyncio.wait_for(steady.wait(), 20)
        assert not service.stopping.is_set()


async def test_waiting_for_a_task_s_end_can_be_cancelled() -> None:
    """A cancellation of whoever ends a task is not taken for the task's own."""
    release = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    ending = asyncio.create_task(cancelled(task))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    assert ending.cancelled()
    release.set()
    await cancelled(task)
    assert task.cancelled()


async def test_a_task_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end has a deadline: one stubborn task does not keep the process."""
    deadline = lifecycle.STOP_DEADLINE
    monkeypatch.setattr(lifecycle, "STOP_DEADLINE", 0.2)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    loop = asyncio.get_running_loop()
    async with Service("test") as service:
        task = service.supervise("stubborn", stubborn)
        await asyncio.sleep(0)
        started = loop.time()
    assert loop.time() - started < deadline
    release.set()
    await cancelled(task)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_service(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C set `stopping`; afterwards the handlers are as before."""
    before = signal.getsignal(signal.SIGTERM)
    async with Service("test") as service:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(service.wait(), 20)
    assert signal.getsignal(signal.SIGTERM) == before
