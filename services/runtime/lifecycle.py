"""The life of a service process: signals, supervised tasks, an ordered and timed end."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from prometheus_client import Counter

from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.errors import EXIT_TEMPORARY, UserError

_log = logs.get_logger(__name__)

STOP_DEADLINE = 10.0
"""Seconds that all tasks together have to end."""
STEADY = 60.0
"""Seconds after which a task that dies is taken to have worked: its back-off starts again."""

RESTARTS = Counter(
    "atlhyper_task_restarts", "Tasks of the service that died and were started again", ["task"]
)


def tune_collector() -> None:
    """Let the cyclic garbage collector look less often, and not at what lives as long as the process.

    A page of a list is tens of thousands of containers without a cycle; with the default of 700 the
    collector walked them as they were made, which doubled the time of decoding. References still free
    whatever is not a cycle at once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Service:
    """A running service: `async with Service("master") as service: …; await service.wait()`.

    SIGTERM and SIGINT set `stopping`; a second signal has its default effect, so a person never has to
    look for `kill -9`. On the way out the tasks are cancelled, the last started first.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._error: UserError | None = None

    async def __aenter__(self) -> Self:
        tune_collector()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_by_signal, number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        try:
            await self._cancel_tasks()
        finally:
            self._restore_signals()
        _log.info("stopped", service=self.name)

    def supervise(self, name: str, factory: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run `factory()` for as long as the service lives; when it ends or fails it is started again.

        A UserError ends the service, unless its exit code is EXIT_TEMPORARY. `name` labels
        `atlhyper_task_restarts_total`.
        """
        task = asyncio.create_task(self._keep_running(name, factory), name=name)
        self._tasks.append(task)
        return task

    def fatal(self, error: UserError) -> None:
        """End the service; `wait()` raises the first such error."""
        self._error = self._error or error
        self.stopping.set()

    async def wait(self) -> None:
        """Until the service is to stop. Raises the UserError given to `fatal`."""
        await self.stopping.wait()
        if self._error is not None:
            raise self._error

    async def _keep_running(self, name: str, factory: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(base=0.5, cap=30.0)
        own = asyncio.current_task()
        while True:
            started = loop.time()
            try:
                await factory()
                _log.error("task ended on its own", task=name)
            except UserError as error:
                if error.exit_code != EXIT_TEMPORARY:
                    self.fatal(error)
                    return
                _log.warning("task failed", task=name, reason=str(error))
            except asyncio.CancelledError:
                if own is None or own.cancelling():
                    raise
                _log.error("task was cancelled from inside", task=name)
            except Exception:  # noqa: BLE001 whatever it was, it is logged and the task starts again
                _log.exception("task failed", task=name)
            if self.stopping.is_set():
                return
            if loop.time() - started > STEADY:
                backoff.reset()
            RESTARTS.labels(task=name).inc()
            delay = backoff.delay()
            _log.info("task starts again", task=name, seconds=round(delay, 2))
            await asyncio.sleep(delay)

    async def _cancel_tasks(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_DEADLINE
        for task in reversed(self._tasks):
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=max(0.0, deadline - loop.time()))
            if not done:
                _log.error("task did not end in time", task=task.get_name())
            elif not task.cancelled() and (error := task.exception()) is not None:
                _log.error("task failed while stopping", task=task.get_name(), reason=error)

    def _stop_by_signal(self, number: signal.Signals) -> None:
        _log.info("stopping", service=self.name, signal=number.name)
        self._restore_signals()
        self.stopping.set()

    def _restore_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(number)
