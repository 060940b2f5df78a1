"""Bringing one effect about, at most once.

What it rests on is in the journal before it. When it is unknown whether it came about, after a crash or
because the answer was lost, the capability judges by that; what nobody can prove ends as `unknown`.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from schemas.commands import CommandError, CommandProgressed, CommandState, ErrorCode
from services.agent.capability import (
    Actions,
    Done,
    Doubtful,
    Incomplete,
    Refused,
    Stale,
    Unprovable,
    Untouched,
    Verdict,
)
from services.agent.scheduler.commands.reports import Reporter
from services.agent.scheduler.commands.results import Ending, ended, fault, succeeded
from services.agent.scheduler.commands.work import Phase, Work
from services.agent.store.file import StateDamaged, StateUnavailable
from services.agent.store.journal import Journal
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.failpoints import Point, reach

_log = logs.get_logger(__name__)

ATTEMPTS = 8
"""How often one is tried when what was seen has changed, or the answer was lost."""
JUDGING = 10.0
"""Seconds after `finish_by` in which it is found out what became of one."""
WAITED = timedelta(seconds=5)
"""A command that is older than that when it is taken has waited at the broker, its agent being away."""
HOLD = 1.5
"""Seconds from its being taken in which it is not begun then. Its cancel may have been told while nobody was
there to hear it; the master tells it at once when it sees `received`."""
STEPS_PER_RUN = 1_000_000
"""Reports of progress count on after a crash, from here times the number of earlier runs."""

_CONFLICT = CommandError(
    code=ErrorCode.CONFLICT, message="its object changed each time between the look at it and the effect"
)
_INTERRUPTED = CommandError(code=ErrorCode.INTERRUPTED, message="the agent ended while it was under way")
_NOT_BEGUN = ended(
    CommandState.EXPIRED,
    ErrorCode.LATE,
    "it was taken in time, and could not be begun by `start_by`; nothing was done",
)


class Attempts:
    """How the effects of one agent come about. `now`: the core's time."""

    def __init__(
        self, journal: Journal, actions: Actions, reporter: Reporter, now: Callable[[], datetime]
    ) -> None:
        self._journal = journal
        self._actions = actions
        self._reporter = reporter
        self._now = now

    def time_left(self, work: Work) -> float:
        """Seconds until `finish_by`, at least 0."""
        return max(0.0, (work.command.finish_by - self._now()).total_seconds())

    async def first(self, work: Work) -> Ending:
        """Look and act; whatever has no effect, or may have it twice, also after a crash."""
        if self._is_late(work):
            return _NOT_BEGUN
        backoff, problem, undone = Backoff(base=0.1, cap=5.0), _CONFLICT, True
        try:
            for _ in range(ATTEMPTS):
                seen = await self._actions.look(work.command)
                await reach(Point.COMMAND_AFTER_LOOK)
                if not await self._begin(work, seen):
                    return _NOT_BEGUN
                try:
                    return await self._perform(work)
                except Stale as stale:
                    problem, undone = stale.error or _CONFLICT, True
                except Doubtful as doubtful:
                    problem, undone = doubtful.error, False
                    if not work.repeatable:
                        settled = await self._settle(work, problem)
                        if isinstance(settled, Ending):
                            return settled
                        problem, undone = settled.error or _CONFLICT, True
                await backoff.sleep()
        except Refused as refused:
            if work.in_flight and not work.harmless:  # it speaks for the last attempt only
                return await self.judged(work, refused.error)
            return Ending(CommandState.FAILED, refused.error)
        if undone or work.harmless:
            return Ending(CommandState.FAILED, problem)
        return await self.judged(work, problem)

    async def resume(self, work: Work) -> Ending:
        """Find out what became of one that was begun before a crash, and go on only if that was nothing."""
        settled = await self._settle(work, _INTERRUPTED)
        return settled if isinstance(settled, Ending) else await self.first(work)

    async def judged(self, work: Work, error: CommandError) -> Ending:
        """What became of one that is not to go on, because of `error`."""
        match await self._judge(work):
            case Done(outcome):
                return succeeded(*outcome)
            case Untouched() if not work.in_flight:
                return Ending(CommandState.FAILED, error)
            case Untouched():
                return _unknown(error, "nothing of it was to be seen, and it may still have been under way")
            case Unprovable(why):
                return _unknown(error, why)

    async def timed_out(self, work: Work, partial: Ending | None) -> Ending:
        """How one ends that was cut off at `finish_by`; `partial`: how it ended by itself then."""
        text = f"it was not finished by {work.command.finish_by.isoformat()}"
        if partial is not None:
            if partial.error is None or partial.error.code != ErrorCode.CANCELED:
                return partial
            text += f"; {partial.error.message}{work.before}"
            error = CommandError(code=ErrorCode.TIMEOUT, message=text)
            return Ending(CommandState.FAILED, error, partial.data, partial.warnings)
        if not work.entry.begun:
            return ended(
                CommandState.EXPIRED, ErrorCode.LATE, f"{text}: it could not begin; nothing was done"
            )
        error = CommandError(code=ErrorCode.TIMEOUT, message=text)
        if work.harmless:
            return Ending(CommandState.FAILED, error)
        try:
            async with asyncio.timeout(JUDGING):
                return await self.judged(work, error)
        except TimeoutError:
            return _unknown(error, f"what became of it could not be found out within {JUDGING:.0f} s")

    async def hold(self, work: Work) -> None:
        """Give the word that one is to end the time to come, where it may have been missed.

        What came together is held together; nothing so long that it would be too late for it.
        """
        if work.harmless or work.entry.begun:
            return
        passed = time.monotonic() - work.taken
        taken_at = self._now() - timedelta(seconds=passed)
        if taken_at - work.entry.stored_at > WAITED:
            hold = min(HOLD, (work.command.start_by - taken_at).total_seconds() / 2)
            await asyncio.sleep(max(0.0, hold - passed))

    # --- steps ----------------------------------------------------------------------------------------

    def _is_late(self, work: Work) -> bool:
        """Whether it may no longer be begun."""
        return not work.entry.begun and self._now() > work.command.start_by

    async def _go_on(self, work: Work) -> None:
        """Begin nothing more when it is to end; whoever ends it cancels us."""
        if work.stop.is_set() or work.cut or not self.time_left(work):
            await asyncio.get_running_loop().create_future()

    async def _begin(self, work: Work, seen: bytes) -> bool:
        """Note what was seen: from then on it may have an effect. Waits for a journal that fails.

        False: `start_by` has passed meanwhile.
        """
        while True:
            await self._go_on(work)
            if self._is_late(work):
                return False
            before, work.phase = work.phase, work.phase if work.harmless else Phase.EFFECT
            try:
                work.entry = await self._journal.started(
                    work.entry.id, seen, self._now(), lasting=not work.harmless
                )
            except (StateUnavailable, StateDamaged):
                work.phase = before
                await asyncio.sleep(1.0)
                continue
            work.steps = 0
            self._reporter.report(work.entry.id)
            return True

    async def _perform(self, work: Work) -> Ending:
        """The effect, by what the journal has. Raises Refused, Stale, Doubtful."""
        await self._go_on(work)
        await reach(Point.COMMAND_BEFORE_EFFECT)

        async def progress(message: str, done: int, total: int) -> None:
            work.steps += 1
            sequence = (work.entry.begun - 1) * STEPS_PER_RUN + work.steps
            self._reporter.progressed(
                CommandProgressed(
                    command_id=work.entry.id,
                    sequence=sequence,
                    at=self._now(),
                    message=message,
                    done=done,
                    total=total,
                )
            )

        before, work.in_flight = work.in_flight, True
        try:
            outcome = await self._actions.perform(work.command, work.entry.seen, progress)
        except (Refused, Stale):
            work.in_flight = before  # this attempt has done nothing; one before it still may
            raise
        except Incomplete as incomplete:
            work.in_flight = False
            return Ending(CommandState.FAILED, incomplete.error, incomplete.data)
        except Doubtful:
            raise
        except Exception as error:
            _log.exception("an action failed inside the agent", command=work.entry.id)
            raise Doubtful(CommandError(code=ErrorCode.INTERNAL, message=fault(error))) from error
        work.in_flight = False
        await reach(Point.COMMAND_AFTER_EFFECT)
        return succeeded(*outcome)

    async def _settle(self, work: Work, doubt: CommandError) -> Ending | Stale:
        """Whether the effect came about; if it did not, once more on the same ground.

        Not on the ground of another look: that would take what the first attempt has brought about for what
        was there before it. Stale: that ground has gone, and what rests on it has no effect any more; nor had
        it before. So it may be looked at again.
        """
        stale: Stale | None = None
        backoff = Backoff(base=0.2, cap=5.0)
        for _ in range(ATTEMPTS):
            match await self._judge(work):
                case Done(outcome):
                    return succeeded(*outcome)
                case Unprovable(why):
                    return _unknown(doubt, why)
                case Untouched() if stale is not None:
                    work.in_flight = False
                    return stale
                case Untouched():
                    try:
                        return await self._perform(work)
                    except Stale as changed:  # the first attempt has come through, or somebody was there
                        stale = changed
                    except Doubtful as doubtful:
                        doubt = doubtful.error
                    except Refused as refused:  # perhaps because the first attempt has come through
                        return await self.judged(work, refused.error)
            await backoff.sleep()
        return _unknown(doubt, f"{ATTEMPTS} attempts were not answered")

    async def _judge(self, work: Work) -> Verdict:
        """Ask until there is an answer; the caller's time is the limit."""
        backoff = Backoff(base=0.2, cap=5.0)
        while True:
            try:
                return await self._actions.judge(work.command, work.entry.seen)
            except Refused as refused:
                _log.warning("can't be judged yet", command=work.entry.id, reason=str(refused))
            await backoff.sleep()


def _unknown(error: CommandError, why: str) -> Ending:
    return Ending(CommandState.UNKNOWN, error.model_copy(update={"message": f"{error.message}; {why}"}))
