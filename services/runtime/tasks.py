"""Cancellation and waiting: what asyncio makes easy to get wrong."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end.

    Not `suppress(CancelledError)` around `await task`: that would swallow a cancellation of the caller too.
    """
    task.cancel()
    await asyncio.wait([task])


async def to_its_end(work: Awaitable[Result]) -> Result:
    """What `work` returns; it is finished also when we are cancelled meanwhile, as a transaction must be."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # seen
        raise


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event at most so long; whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raise the cancellation that a library inside has swallowed, or has made another error of.

    nats-py does while it flushes, and `asyncio.wait_for` of Python 3.11 when its future is just done: the
    task would go on for ever, and whoever cancelled it would wait as long. Ours use `asyncio.timeout`.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except Exception as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
