"""Commands that are late, cut off or canceled: what was done of them, and what is said of it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.commands import CommandState, ErrorCode
from services.agent.scheduler.commands import attempts as attempts_module
from services.agent.scheduler.commands import early as early_cancels
from services.agent.scheduler.commands.early import EarlyCancels
from tests.agent.commands.bench import Bench, Opened
from tests.agent.commands.desk import command
from tests.agent.commands.world import WorldActions
from tests.waiting import until

IN_TIME = 6.0
"""Seconds within which also a slow machine takes a command and begins it."""


@pytest.mark.parametrize("hours", [1, -1])
async def test_late_names_all_times(opened: Opened, hours: int) -> None:
    """A refusal as late says what time it was for the broker, the core and the agent."""
    shift = timedelta(hours=hours)
    async with opened(now=lambda: datetime.now(UTC) + shift) as bench:
        start_by = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        about = command(start_by=start_by)
        end = await bench.do(about, stored_at=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC))
        assert end.state is CommandState.EXPIRED
        assert end.error
        assert "2026-01-02T03:04:05.000Z" in end.error.message
        assert "2026-01-02T03:04:06.000Z" in end.error.message
        assert end.error.message.count("Z") == 4


async def test_turn_that_comes_too_late(opened: Opened) -> None:
    """What waits for another one on its object beyond `start_by` is not begun."""
    ahead = timedelta(0)
    async with opened(now=lambda: datetime.now(UTC) + ahead) as bench:
        first, second = command(params={"seconds": 90}), command()
        bench.hand_out(first, second)
        await until(lambda: first.id in bench.actions.running and second.id in bench.journal.open)
        ahead = timedelta(seconds=61)
        bench.actions.hurry()
        end = await bench.gateway.end(second)
        assert (end.state, end.error and end.error.code) == (CommandState.EXPIRED, ErrorCode.LATE)
        assert bench.actions.world.effects() == {first.id: 1}


@pytest.mark.parametrize(
    ("action", "state"),
    [("read", CommandState.FAILED), ("change", CommandState.UNKNOWN), ("empty", CommandState.FAILED)],
)
async def test_cut_off_at_finish_by(bench: Bench, action: str, state: CommandState) -> None:
    """Cut off in the middle: failed where that is certain or its part is known, otherwise unknown."""
    finish_by = datetime.now(UTC) + timedelta(seconds=IN_TIME)
    about = command(action, params={"seconds": 100}, start_by=finish_by, finish_by=finish_by)
    end = await bench.do(about)
    assert (end.state, end.error and end.error.code) == (state, ErrorCode.TIMEOUT)
    assert (end.data == {"steps": 0}) is (action == "empty")
    assert not bench.actions.running


async def test_done_just_before_it_was_cut_off(bench: Bench) -> None:
    """An effect that is there is a success, also when its answer was cut off."""
    finish_by = datetime.now(UTC) + timedelta(seconds=IN_TIME)
    about = command(params={"lost": "after"}, start_by=finish_by, finish_by=finish_by)
    bench.actions.unreachable = 10**9
    bench.hand_out(about)
    await until(bench.actions.world.effects)
    await until(lambda: datetime.now(UTC) > finish_by)
    bench.actions.unreachable = 0
    end = await bench.gateway.end(about)
    assert end.state is CommandState.SUCCEEDED
    assert bench.actions.world.effects() == {about.id: 1}


async def test_what_can_not_be_found_out_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers what became of it: unknown, a while after `finish_by`."""
    monkeypatch.setattr(attempts_module, "JUDGING", 0.5)
    finish_by = datetime.now(UTC) + timedelta(seconds=IN_TIME)
    about = command(params={"lost": "before"}, start_by=finish_by, finish_by=finish_by)
    bench.actions.unreachable = 10**9
    end = await bench.do(about)
    assert (end.state, end.error and end.error.code) == (CommandState.UNKNOWN, ErrorCode.TIMEOUT)


async def test_cancel_before_it_is_begun(bench: Bench) -> None:
    """It overtakes what runs on its object: nothing was done."""
    first, second = command(params={"seconds": 60}), command()
    bench.hand_out(first, second)
    await until(lambda: first.id in bench.actions.running and second.id in bench.journal.open)
    await bench.gateway.cancel(second.id, "changed my mind")
    end = await bench.gateway.end(second)
    assert bench.actions.running == {first.id}
    bench.actions.hurry()
    assert (end.state, end.error and end.error.code) == (CommandState.CANCELED, ErrorCode.CANCELED)
    assert end.error
    assert "changed my mind; nothing was done" in end.error.message
    assert (await bench.gateway.end(first)).success
    assert bench.actions.world.effects() == {first.id: 1}


async def test_cancel_in_the_middle(bench: Bench) -> None:
    """What can be ended ends with what was done by then; what can't goes on to its result."""
    steps, whole = (
        command("empty", name="a", params={"seconds": 20}),
        command(name="b", params={"seconds": 60}),
    )
    bench.hand_out(steps, whole)
    await until(lambda: len(bench.actions.running) == 2)
    await until(lambda: any(r.name.startswith("progressed") for _, r, _ in bench.gateway.reports))
    for about in (steps, whole, command()):
        await bench.gateway.cancel(about.id)
    end = await bench.gateway.end(steps)
    assert (end.state, end.data) == (CommandState.CANCELED, {"steps": 1})
    assert bench.actions.running == {whole.id}
    bench.actions.hurry()
    assert (await bench.gateway.end(whole)).success
    await bench.gateway.cancel(whole.id)
    assert len(bench.gateway.states(whole.id)) == 1


@pytest.mark.parametrize("late", [False, True], ids=["before it goes on", "in the middle"])
async def test_canceled_after_a_restart(opened: Opened, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run before had done is not in the result, and the result says so."""
    about = command("empty", params={"seconds": 60})
    async with opened() as bench:
        bench.hand_out(about)
        await until(lambda: bench.actions.running)
    if not late:

        async def look(_: WorldActions, __: Any) -> bytes:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        monkeypatch.setattr(WorldActions, "look", look)
    async with opened() as bench:
        await until(lambda: about.id in (bench.actions.running if late else bench.scheduler.executor.in_hand))
        await bench.gateway.cancel(about.id, "enough")
        end = await bench.gateway.end(about)
    assert end.state is CommandState.CANCELED
    assert (end.data is not None) is late
    assert end.error
    assert "canceled on request: enough" in end.error.message
    assert "an earlier run of the agent had done" in end.error.message


async def test_a_cancel_that_comes_before_its_command(bench: Bench) -> None:
    """It is remembered: the command ends as canceled when it comes, with the first reason, and once."""
    about, other = command(), command()
    await bench.gateway.cancel(about.id, "changed my mind")
    await bench.gateway.cancel(about.id, "again")
    end = await bench.do(about)
    assert (end.state, end.error and end.error.code) == (CommandState.CANCELED, ErrorCode.CANCELED)
    assert end.error
    assert "changed my mind; nothing was done" in end.error.message
    assert (await bench.do(other)).success
    assert bench.actions.world.effects() == {other.id: 1}
    assert bench.gateway.names(about.id) == ["received", "completed"]


def test_early_cancels_are_few_and_not_old() -> None:
    """What nobody has ever sent does not fill the memory."""
    now = 0.0
    early = EarlyCancels(lambda: now)
    early.note("old", "")
    now = 1.0
    for number in range(early_cancels.MOST):
        early.note(str(number), "why")
    assert early.take("old") is None
    assert (early.take("5"), early.take("5")) == ("why", None)
    now += early_cancels.KEPT / 2
    early.note("7", "later")
    now += early_cancels.KEPT / 2 + 1.0
    assert (early.take("6"), early.take("7")) == (None, "why")


async def test_what_has_waited_is_held_for_its_cancel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was long at the broker is reported, and begins a moment later, in order with the others
    on its object; a cancel that comes in that moment ends it. What has no effect is not held.
    """
    monkeypatch.setattr(attempts_module, "HOLD", IN_TIME)
    long_ago = datetime.now(UTC) - timedelta(seconds=20)
    canceled, kept, read = command(), command(), command("read")
    begun_at = time.monotonic()
    bench.hand_out(canceled, kept, read, stored_at=long_ago)
    fresh = command()
    bench.hand_out(fresh)
    assert (await bench.gateway.end(read)).success
    await until(lambda: bench.gateway.names(canceled.id))
    await bench.gateway.cancel(canceled.id, "enough")
    end = await bench.gateway.end(canceled)
    assert (end.state, end.error and end.error.code) == (CommandState.CANCELED, ErrorCode.CANCELED)
    assert bench.actions.performed == [read.id]
    assert (await bench.gateway.end(fresh)).success
    assert time.monotonic() - begun_at >= IN_TIME
    assert bench.actions.world.order() == [kept.id, fresh.id]


async def test_what_came_together_is_held_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are; and none for so long that it would be too late to begin it."""
    monkeypatch.setattr(attempts_module, "HOLD", 2 * IN_TIME)
    now = datetime.now(UTC)
    waited = [command(name=f"n{number}") for number in range(60)]
    soon = command(name="soon", start_by=now + timedelta(seconds=1.5 * IN_TIME))
    bench.hand_out(soon, *waited, stored_at=now - timedelta(seconds=20))
    assert (await bench.gateway.end(soon)).success
    for about in waited:
        assert (await bench.gateway.end(about, seconds=40)).success
    # Together: sixteen at a time, one after the other, takes this four times.
    assert datetime.now(UTC) - now < timedelta(seconds=3 * 2 * IN_TIME)
