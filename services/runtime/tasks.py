"""Cancellation: ending a task that was started beside one's own work, and not losing one's own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end.

    Not `suppress(CancelledError)` around `await task`: that would swallow a cancellation of the caller too.
    """
    task.cancel()
    await asyncio.wait([task])


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raise the cancellation that a library inside has swallowed.

    nats-py does while it flushes, and `asyncio.wait_for` of Python 3.11 when its future is just done: the
    task would go on for ever, and whoever cancelled it would wait as long. Ours use `asyncio.timeout`.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
