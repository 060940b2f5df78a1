"""Effects whose answer is lost, and disks that take more than they say: what becomes of a command then."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from sqlite3 import Connection
from typing import Any

import pytest

from schemas.commands import CommandError, CommandState, ErrorCode
from services.agent.capability import Doubtful, Outcome, Refused, Stale
from services.agent.scheduler.commands import attempts as attempts_module
from services.agent.scheduler.commands import custody as custody_module
from services.agent.store.file import StateFile, StateUnavailable
from tests.agent.commands.bench import Bench, Opened
from tests.agent.commands.desk import command, order
from tests.agent.commands.world import WorldActions
from tests.waiting import until

_LOST = Doubtful(CommandError(code=ErrorCode.TIMEOUT, message="no answer"))
_MODIFIED = CommandError(
    code=ErrorCode.CONFLICT, message="the object has been modified", status=409, reason="Conflict"
)
_REFUSED = Refused(CommandError(code=ErrorCode.THROTTLED, message="too many requests", status=429))

Answers = Callable[..., None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """`answers(*errors, late=…)`: what comes back instead of the next effects; `late` before the last one."""
    perform = WorldActions._perform

    def prepare(*errors: Exception, late: Callable[[], None] = lambda: None) -> None:
        following = list(errors)

        async def fails(self: WorldActions, *about: Any) -> Outcome:
            if not following:
                return await perform(self, *about)
            if len(following) == 1:
                late()
            raise following.pop(0)

        monkeypatch.setattr(WorldActions, "_perform", fails)

    return prepare


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("action", ["change", "set"])
async def test_a_lost_answer(bench: Bench, action: str, lost: str) -> None:
    """Judged by what is there: done if it is done, done now if it was not."""
    about = command(action, params={"lost": lost})
    assert (await bench.do(about)).success
    if action == "change":
        assert bench.actions.world.effects() == {about.id: 1}
        assert len(bench.actions.performed) == (2 if lost == "before" else 1)


async def test_a_lost_answer_and_somebody_else(bench: Bench) -> None:
    """The object is another one than before, and not by us: unknown, and never another look and attempt."""
    about = command(params={"lost": "before"})
    bench.actions.unreachable = 2
    bench.hand_out(about)
    await until(lambda: bench.actions.unreachable < 2)
    bench.actions.world.touch("one", None, "somebody")
    end = await bench.gateway.end(about)
    assert (end.state, end.error and end.error.code) == (CommandState.UNKNOWN, ErrorCode.TIMEOUT)
    assert (bench.actions.looks, len(bench.actions.performed)) == (1, 1)


async def test_changed_between_look_and_effect(bench: Bench) -> None:
    """Nothing was done, so it looks again and does it."""
    about = command(params={"seconds": 0.3})
    bench.hand_out(about)
    await until(lambda: bench.actions.running)
    bench.actions.world.touch("one", None, "somebody")
    assert (await bench.gateway.end(about)).success
    assert bench.actions.looks == 2
    assert bench.actions.world.effects()[about.id] == 1


@pytest.mark.parametrize("lost", [None, 0, 2])
@pytest.mark.parametrize("stale", [Stale(_MODIFIED), Stale()])
async def test_changed_each_time(
    bench: Bench, answers: Answers, monkeypatch: pytest.MonkeyPatch, stale: Stale, lost: int | None
) -> None:
    """It fails in the words of the server, where that has spoken; also after a lost answer, whose attempt has
    no effect any more."""
    monkeypatch.setattr(attempts_module, "ATTEMPTS", 3)
    errors: list[Exception] = [stale] * 3
    if lost is not None:
        errors.insert(lost, _LOST)
    answers(*errors)
    end = await bench.do(command())
    assert end.state is CommandState.FAILED
    if stale.error is None:
        assert end.error
        assert "changed each time" in end.error.message
        assert (end.error.code, end.error.status) == (ErrorCode.CONFLICT, 0)
    else:
        assert end.error == _MODIFIED
    assert bench.actions.world.effects() == {}


async def test_an_action_that_breaks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in an action ends its command, and nothing else."""

    async def broken(*_: object) -> None:
        raise KeyError("oops")

    with monkeypatch.context() as patched:
        patched.setattr(bench.actions, "_perform", broken)
        patched.setattr(attempts_module, "ATTEMPTS", 2)
        end = await bench.do(command())
        assert (end.state, end.error and end.error.code) == (CommandState.UNKNOWN, ErrorCode.INTERNAL)
        patched.setattr(bench.actions, "look", broken)
        end = await bench.do(command())
        assert (end.state, end.error and end.error.code) == (CommandState.FAILED, ErrorCode.INTERNAL)
        patched.setattr(bench.actions, "check", broken)
        end = await bench.do(command())
        assert (end.state, end.error and end.error.code) == (CommandState.REJECTED, ErrorCode.INTERNAL)
    assert (await bench.do(command())).success


async def test_the_ground_has_gone_and_nothing_was_done(bench: Bench, answers: Answers) -> None:
    """The write was lost, and its object's version has passed without it: it is looked at again, and done."""
    answers(_LOST, Stale())
    about = command()
    assert (await bench.do(about)).success
    assert bench.actions.looks == 2
    assert bench.actions.world.effects() == {about.id: 1}


async def test_begun_before_a_crash_and_the_ground_has_gone(opened: Opened, answers: Answers) -> None:
    """The same over a restart."""
    about = command(params={"seconds": 30})
    async with opened() as bench:
        bench.hand_out(about)
        await until(lambda: bench.actions.running)
    async with opened() as bench:
        bench.actions.hurry()
        answers(Stale())
        assert (await bench.gateway.end(about)).success
        assert bench.actions.looks == 1
        assert bench.actions.world.effects() == {about.id: 1}


async def test_refused_the_second_time(bench: Bench, answers: Answers) -> None:
    """A refusal speaks for its own attempt: the one before it, whose answer was lost, may still come."""
    answers(_LOST, _REFUSED)
    end = await bench.do(command())
    assert (end.state, end.error and end.error.code) == (CommandState.UNKNOWN, ErrorCode.THROTTLED)
    assert end.error
    assert "may still have been under way" in end.error.message


async def test_refused_because_the_first_time_came_through(bench: Bench, answers: Answers) -> None:
    """Such as `already exists`: it is our own effect, so it is done."""
    about = command()

    def late() -> None:
        bench.actions.world.touch("one", None, about.id)

    answers(_LOST, _REFUSED, late=late)
    end = await bench.do(about)
    assert (end.state, bench.actions.world.effects()) == (CommandState.SUCCEEDED, {about.id: 1})


async def test_safe_to_repeat_and_then_refused(bench: Bench, answers: Answers) -> None:
    """Not failed as if nothing had been done: its first attempt may have been."""
    answers(_LOST, _REFUSED)
    end = await bench.do(command("set"))
    assert (end.state, end.error and end.error.code) == (CommandState.UNKNOWN, ErrorCode.THROTTLED)


# --- a journal that fails ----------------------------------------------------------------------------


async def test_not_begun_after_its_time(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the journal could not note until `start_by` is not begun when it can."""
    ahead = timedelta(0)
    async with opened(now=lambda: datetime.now(UTC) + ahead) as bench:
        about = command()
        started, refused = bench.journal.started, asyncio.Event()

        async def failing(*_: object, **__: object) -> None:
            refused.set()
            raise StateUnavailable("no space left on device")

        monkeypatch.setattr(bench.journal, "started", failing)
        bench.hand_out(about)
        async with asyncio.timeout(20):
            await refused.wait()
        ahead = timedelta(seconds=61)
        monkeypatch.setattr(bench.journal, "started", started)
        end = await bench.gateway.end(about)
        assert (end.state, end.error and end.error.code) == (CommandState.EXPIRED, ErrorCode.LATE)
        assert bench.actions.performed == []


async def test_custody_that_the_disk_took_after_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails behind the commit: nothing is acknowledged, and what the file has is carried out."""
    good, bad = command(), command("explode")
    run = StateFile.run

    async def failing(file: StateFile, work: Any, *, lasting: bool = False) -> Any:
        await run(file, work, lasting=lasting)
        raise StateUnavailable("no space left on device")

    with monkeypatch.context() as full:
        full.setattr(StateFile, "run", failing)
        bench.hand_out(good, bad)
        await until(lambda: len(bench.gateway.deferred) == 2)
        assert bench.gateway.acknowledged == []
    assert (await bench.gateway.end(good)).success
    assert (await bench.gateway.end(bad)).state is CommandState.REJECTED
    bench.hand_out(good, bad)
    await until(lambda: len(bench.gateway.acknowledged) == 2)
    assert bench.actions.world.effects() == {good.id: 1}


async def test_a_copy_of_what_is_left_to_the_broker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in the journal is not acknowledged, and neither is a copy beside it."""
    monkeypatch.setattr(custody_module, "MAX_OPEN", 0)
    about = command()
    bench.hand_out(about, about)
    await until(lambda: len(bench.gateway.deferred) == 2)
    assert bench.gateway.acknowledged == []


async def test_custody_is_taken_once(bench: Bench) -> None:
    """What the journal has by now is not written a second time."""
    about = command(params={"seconds": 0.3})
    one = await bench.scheduler.custody._entry(order(about, bench.journal.id))
    await bench.journal.accept([one])
    await bench.journal.accept([one])
    file = bench.journal._file

    def count(db: Connection) -> int:
        return int(db.execute("SELECT count(*) FROM journal").fetchone()[0])

    assert await file.run(count) == 1
