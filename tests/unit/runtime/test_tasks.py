"""Cancellation survives libraries that swallow it."""

import asyncio

import pytest

from services.runtime.tasks import cancellation_kept


async def swallowing() -> None:
    """What nats-py does while it flushes."""
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        return


async def kept() -> None:
    with cancellation_kept():
        await swallowing()


async def test_a_swallowed_cancellation_ends_the_task() -> None:
    """A loop around such a call ends when it is cancelled."""

    async def loop() -> None:
        while True:
            with cancellation_kept():
                await swallowing()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0.01)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=20)
    assert done
    assert task.cancelled()


async def test_a_swallowed_timeout_is_a_timeout() -> None:
    """A deadline that passes inside such a call is told as that."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await kept()


async def test_an_earlier_cancellation_does_not_end_the_cleaning_up() -> None:
    """What a task does after it was cancelled is not cut short."""

    async def clean() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            with cancellation_kept():
                await asyncio.sleep(0)
        return "clean"

    task = asyncio.create_task(clean())
    await asyncio.sleep(0.01)
    task.cancel()
    assert await task == "clean"
