"""Executing commands: each at most once, in order per object, never longer than it may."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime

from pydantic import ValidationError

from schemas.commands import Command, CommandError, CommandState, ErrorCode
from schemas.errors import explained
from services.agent.capability import Actions
from services.agent.scheduler.commands import metrics
from services.agent.scheduler.commands.attempts import Attempts
from services.agent.scheduler.commands.checks import Checks
from services.agent.scheduler.commands.early import EarlyCancels
from services.agent.scheduler.commands.reports import Reporter
from services.agent.scheduler.commands.results import Ending, completed, ended, fault
from services.agent.scheduler.commands.turns import Turns
from services.agent.scheduler.commands.work import Phase, Work
from services.agent.store.journal import Journal
from services.agent.store.journal_rows import Entry
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.failpoints import Point, reach
from services.runtime.tasks import cancelled

_log = logs.get_logger(__name__)

GRACE = 3.0
"""Seconds in which what has begun may end when the agent stops."""
STOP = 10.0
"""Seconds that an action may take to end when it is cancelled."""


class Executor:
    """Carries out what is open in the journal. `now`: the core's time."""

    def __init__(
        self,
        journal: Journal,
        actions: Actions,
        checks: Checks,
        reporter: Reporter,
        attempts: Attempts,
        now: Callable[[], datetime],
    ) -> None:
        self._journal = journal
        self._actions = actions
        self._checks = checks
        self._reporter = reporter
        self._attempts = attempts
        self._now = now
        self._turns = Turns()
        self._early = EarlyCancels()
        self._news = asyncio.Event()
        self._works: dict[str, Work] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.done = 0
        """Commands that have ended since the agent started, refusals apart."""

    @property
    def in_hand(self) -> Mapping[str, Work]:
        """What is being carried out, or waits for its turn."""
        return self._works

    def wake(self) -> None:
        """There may be something new in the journal."""
        self._news.set()

    def cancel(self, command_id: str, reason: str) -> None:
        """End a command if that is still possible; otherwise its result follows anyway.

        One that is not in hand yet ends when it comes. Asked again, the first reason stays.
        """
        work = self._works.get(command_id)
        if work is not None:
            _stop(work, reason)
        elif command_id in self._journal.open or not self._journal.knows(command_id):
            self._early.note(command_id, reason)

    async def run(self) -> None:
        """Until cancelled; what has begun then is left to the journal, and to the next run."""
        try:
            while True:
                self._news.clear()
                for entry in [entry for id_, entry in self._journal.open.items() if id_ not in self._tasks]:
                    task = asyncio.create_task(self._carry_out(entry), name=f"command {entry.id}")
                    self._tasks[entry.id] = task
                await self._news.wait()
        finally:
            await self._wind_down()

    async def _wind_down(self) -> None:
        """What is in the middle of its effect may end: it saves finding out what became of it."""
        brief = [
            task
            for id_, task in self._tasks.items()
            if (work := self._works.get(id_)) and work.phase is Phase.EFFECT and not work.action.long
        ]
        waiting = [task for task in self._tasks.values() if task not in brief]
        for task in waiting:
            task.cancel()
        if brief:
            await asyncio.wait(brief, timeout=GRACE)
        for task in brief:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        self._tasks.clear()
        self._works.clear()

    # --- one command ----------------------------------------------------------------------------------

    async def _carry_out(self, entry: Entry) -> None:
        """Until it has its end in the journal: where that could not be kept it is taken up again, after a
        pause, by what the journal has of it then.
        """
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._once(entry)
                    return
                except Exception:  # noqa: BLE001 - it stays in the journal as it is
                    _log.exception("command stays open: its end could not be kept", command=entry.id)
                finally:
                    self._works.pop(entry.id, None)
                await backoff.sleep()
                if (now := self._journal.open.get(entry.id)) is None:
                    return
                entry = now
        finally:
            self._tasks.pop(entry.id, None)

    async def _once(self, entry: Entry) -> None:
        work = self._work(entry)
        if isinstance(work, Ending):
            await self.finish(entry, work)
            return
        self._works[entry.id] = work
        if (reason := self._early.take(entry.id)) is not None:
            _stop(work, reason)
        await self._to_its_end(work)

    async def _to_its_end(self, work: Work) -> None:
        # The turn lasts until the result is in the journal: were the next one on the object begun before, a
        # crash would leave what became of this one unprovable.
        async with AsyncExitStack() as turn:
            try:
                ending = await self._ending(work, turn)
            except Exception as error:  # noqa: BLE001 - it ends in any case, and the others go on
                _log.exception("command failed inside the agent", command=work.entry.id)
                state = CommandState.UNKNOWN if work.phase is Phase.EFFECT else CommandState.FAILED
                ending = ended(state, ErrorCode.INTERNAL, fault(error))
            await self.finish(work.entry, ending)

    def _work(self, entry: Entry) -> Work | Ending:
        """The command in hand; or its end, where this version of the agent cannot even read it."""
        state = CommandState.UNKNOWN if entry.begun else CommandState.REJECTED
        try:
            command = Command.model_validate_json(entry.body)
        except ValidationError as error:
            return ended(
                state, ErrorCode.INVALID, f"this version of the agent can't read it: {explained(error)}"
            )
        action = self._actions.declared().get(command.action)
        if action is None:
            text = f"this agent has no action {command.action!r} any more"
            return ended(state, ErrorCode.UNKNOWN_ACTION, text)
        return Work(command, action, entry)

    async def _ending(self, work: Work, turn: AsyncExitStack) -> Ending:
        """Carry it out, until `finish_by` or until it is to end."""
        if not (left := self._attempts.time_left(work)):
            return await self._attempts.timed_out(work, None)
        acting = asyncio.create_task(self._act(work, turn), name=f"act {work.entry.id}")
        stopping = asyncio.create_task(work.stop.wait())
        try:
            await asyncio.wait([acting, stopping], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                return acting.result()
            work.cut = True
            await _end(acting)
            partial = acting.result() if acting.done() and not acting.cancelled() else None
            if work.stop.is_set():
                return _canceled(work, partial)
            return await self._attempts.timed_out(work, partial)
        finally:
            await cancelled(stopping)
            await _end(acting)

    async def _act(self, work: Work, turn: AsyncExitStack) -> Ending:
        await turn.enter_async_context(self._turns.turn(work.about, long=work.action.long))
        refusal = await self._checks.of_command(work.command)  # it may have changed with a restart
        if refusal is not None:
            if work.entry.begun:
                return await self._attempts.judged(work, refusal.error)
            return Ending(refusal.state, refusal.error)
        if work.entry.begun and not work.repeatable:
            return await self._attempts.resume(work)
        await self._attempts.hold(work)
        return await self._attempts.first(work)

    async def finish(self, entry: Entry, ending: Ending) -> None:
        """Keep the result, then report it."""
        report, data = completed(entry.id, ending, self._now())
        # What was begun is judged by what is there, should the file's log lose its end. What was not, would
        # be begun after all.
        try:
            await self._journal.done(entry.id, report, data, lasting=not entry.begun)
            await reach(Point.COMMAND_AFTER_DONE)
        finally:  # also where we are cancelled: it is kept by then
            self._reporter.report(entry.id)
        self.done += 1
        metrics.ENDED.labels(state=report.state.value).inc()
        code, message = (report.error.code, report.error.message) if report.error else ("", "")
        _log.info("command ended", command=entry.id, state=report.state.value, code=code, reason=message)


def _stop(work: Work, reason: str) -> None:
    if not work.stop.is_set() and work.end(reason):
        _log.info("command is canceled", command=work.entry.id, reason=reason)


async def _end(task: asyncio.Task[Ending]) -> None:
    """Cancel it, and wait for its end; not for ever: it is others' code."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=STOP)
        if not task.done():
            _log.error("an action does not end when it is cancelled", task=task.get_name())


def _canceled(work: Work, partial: Ending | None) -> Ending:
    """How it ends on request; `partial`: how it ended by itself at that moment."""
    if partial is not None and partial.error is None:
        return partial
    text = f"canceled on request{f': {work.reason}' if work.reason else ''}"
    if work.phase is Phase.WAITING:
        text += "; nothing was done"
    elif partial is not None and partial.error is not None:
        text += f"; {partial.error.message}"
    error = CommandError(code=ErrorCode.CANCELED, message=text + work.before)
    data, warnings = (partial.data, partial.warnings) if partial else (None, ())
    return Ending(CommandState.CANCELED, error, data, warnings)
