"""Commands inside the agent: taken, refused, executed, ended. The other end is in memory."""

import asyncio
import json
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.commands import (
    CommandObject,
    CommandProgressed,
    CommandState,
    ErrorCode,
    TargetReference,
)
from schemas.ids import AgentKind
from services.agent.scheduler.commands import attempts as attempts_module
from services.agent.scheduler.commands import early as early_cancels
from services.agent.scheduler.commands import execution, results
from services.agent.scheduler.commands.early import EarlyCancels
from services.agent.store import journal_rows
from tests.agent.commands.bench import Bench, Opened
from tests.agent.commands.desk import command, order
from tests.agent.commands.world import WorldActions
from tests.waiting import until

IN_TIME = 6.0
"""Seconds within which also a slow machine takes a command and begins it."""

# --- custody -----------------------------------------------------------------------------------------


async def test_done_once_and_reported_in_order(bench: Bench) -> None:
    """Received, started, completed; acknowledged; confirmed, and then nothing is left to be said."""
    about = command()
    end = await bench.do(about)
    assert (end.state, end.data, end.warnings) == (
        CommandState.SUCCEEDED,
        {"version": 1, "text": ""},
        ["a warning"],
    )
    assert bench.gateway.names(about.id) == ["received", "started", "completed"]
    assert bench.gateway.acknowledged == [about.id]
    await until(lambda: not bench.journal.unconfirmed)
    assert not bench.journal.open
    assert bench.actions.world.effects() == {about.id: 1}


async def test_a_copy_is_answered_and_not_executed(bench: Bench) -> None:
    """Copies before, while and after it runs change nothing but that all is said again."""
    about = command(params={"seconds": 60})
    bench.hand_out(about, about, about)
    await until(lambda: bench.actions.running)
    bench.hand_out(about)
    await until(lambda: bench.gateway.acknowledged.count(about.id) == 4)
    bench.actions.hurry()
    await bench.gateway.end(about)
    bench.hand_out(about)
    await until(lambda: len(bench.gateway.ends(about.id)) >= 2)
    assert bench.actions.world.effects() == {about.id: 1}
    assert len({end.model_dump_json() for end in bench.gateway.ends(about.id)}) == 1
    assert bench.gateway.acknowledged.count(about.id) == 5


@pytest.mark.parametrize(
    ("changes", "state", "code"),
    [
        ({"action": "explode"}, CommandState.REJECTED, ErrorCode.UNKNOWN_ACTION),
        ({"params": {"nonsense": 1}}, CommandState.REJECTED, ErrorCode.INVALID),
        ({"object": CommandObject()}, CommandState.REJECTED, ErrorCode.INVALID),
        ({"object": CommandObject(resource="pods", name="x")}, CommandState.REJECTED, ErrorCode.INVALID),
        ({"action": "plan", "dry_run": True}, CommandState.REJECTED, ErrorCode.INVALID),
        (
            {"target": TargetReference(kind=AgentKind.KUBERNETES, id="b")},
            CommandState.REJECTED,
            ErrorCode.WRONG_TARGET,
        ),
        ({"instance": "uid-b"}, CommandState.REJECTED, ErrorCode.WRONG_TARGET),
        ({"name": "forbidden"}, CommandState.REJECTED, ErrorCode.NOT_ALLOWED),
        ({"name": "missing"}, CommandState.FAILED, ErrorCode.NOT_FOUND),
        ({"start_by": datetime.now(UTC) - timedelta(seconds=1)}, CommandState.EXPIRED, ErrorCode.LATE),
    ],
)
async def test_refusals(
    opened: Opened, changes: dict[str, Any], state: CommandState, code: ErrorCode
) -> None:
    """What may not be begun ends with its reason and no effect, and is journaled: also after a restart."""
    about = command(**changes)
    async with opened() as bench:
        bench.actions.forbidden.add("forbidden")
        end = await bench.do(about)
        assert (end.state, end.error and end.error.code, end.success) == (state, code, False)
        assert end.error
        assert end.error.message
        assert bench.gateway.acknowledged == [about.id]
    async with opened() as bench:
        bench.hand_out(about, stored_at=datetime.now(UTC))
        assert await bench.gateway.end(about) == end
        assert bench.actions.world.effects() == {}


async def test_what_the_subject_says_must_agree(bench: Bench) -> None:
    """A command on the subject of another action is refused: permissions are by subject."""
    end = await bench.do(command(), subject_action="read")
    assert (end.state, end.error and end.error.code) == (CommandState.REJECTED, ErrorCode.INVALID)


@pytest.mark.parametrize(
    ("action", "dry_run", "state"),
    [
        ("change", False, CommandState.REJECTED),
        ("set", False, CommandState.REJECTED),
        ("change", True, CommandState.SUCCEEDED),
        ("read", False, CommandState.SUCCEEDED),
    ],
    ids=["change", "repeat-safe", "dry run", "read"],
)
async def test_read_only(opened: Opened, action: str, dry_run: bool, state: CommandState) -> None:
    """A read-only agent does what has no effect, and tells how it is allowed more."""
    async with opened(read_only=True) as bench:
        end = await bench.do(command(action, dry_run=dry_run))
        assert end.state is state
        assert not end.error or "AGENT_READ_ONLY" in end.error.message
        assert bench.actions.world.effects() == {}


async def test_of_another_journal(bench: Bench) -> None:
    """What was first sent to a journal that is gone ends as unknown, since it may have been begun there."""
    about = command()
    bench.gateway.hand_out(order(about, "0123456789abcdef"))
    end = await bench.gateway.end(about)
    assert (end.state, end.error and end.error.code) == (CommandState.UNKNOWN, ErrorCode.JOURNAL_LOST)
    assert bench.actions.world.effects() == {}


async def test_a_failed_disk_takes_no_custody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the journal can't be written commands stay with the broker, and the agent says so."""
    about = command()
    with monkeypatch.context() as full:
        full.setattr(journal_rows, "insert", _disk_full)
        bench.hand_out(about)
        await until(lambda: bench.gateway.deferred)
        assert "no command is taken" in bench.scheduler.trouble()
        assert bench.gateway.acknowledged == []
        assert bench.actions.performed == []
    await until(lambda: not bench.scheduler.trouble())
    assert (await bench.do(about)).success


@pytest.mark.parametrize("place", [0, 2, 4])
async def test_what_can_not_be_written_is_refused_alone(bench: Bench, place: int) -> None:
    """A command of which the journal can keep nothing costs no other of its batch."""
    batch = [command(name=f"thing-{number}") for number in range(5)]
    orders = [order(about, bench.journal.id) for about in batch]
    extensions = {"journal": bench.journal.id, "traceparent": "\ud800"}  # no UTF-8 has it
    orders[place] = order(batch[place], bench.journal.id, extensions=extensions)
    bench.gateway.hand_out(*orders)
    for number, about in enumerate(batch):
        end = await bench.gateway.end(about)
        assert end.success is (number != place)
    refused = bench.gateway.ends(batch[place].id)[-1]
    assert (refused.state, refused.error and refused.error.code) == (
        CommandState.REJECTED,
        ErrorCode.INTERNAL,
    )
    assert sorted(bench.gateway.acknowledged) == sorted(about.id for about in batch)
    assert bench.gateway.deferred == []
    assert bench.scheduler.trouble() == ""
    assert bench.actions.world.effects() == {about.id: 1 for about in batch if about is not batch[place]}


async def test_such_a_refusal_outlives_a_restart(opened: Opened) -> None:
    """It is an entry like any other: a copy that comes later is answered from it."""
    about = command()
    async with opened() as bench:
        bench.hand_out(about, extensions={"journal": bench.journal.id, "traceparent": "\ud800"})
        end = await bench.gateway.end(about)
        journal = bench.journal.id
    async with opened() as bench:
        assert bench.journal.id == journal
        bench.hand_out(about)
        assert await bench.gateway.end(about) == end


async def test_what_can_not_even_be_refused_waits_at_the_broker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the refusal can't be written the others go on; nothing of it is done."""
    batch = [command(name=f"thing-{number}") for number in range(3)]
    poison, insert = batch[1].id, journal_rows.insert

    def failing(db: Any, lines: Any) -> None:
        if any(line[1].id == poison for line in lines):
            raise TypeError("no such thing")
        insert(db, lines)

    monkeypatch.setattr(journal_rows, "insert", failing)
    bench.hand_out(*batch)
    for about in (batch[0], batch[2]):
        assert (await bench.gateway.end(about)).success
    assert bench.gateway.deferred == [poison]
    assert sorted(bench.gateway.acknowledged) == sorted([batch[0].id, batch[2].id])
    assert not bench.journal.knows(poison)
    assert bench.scheduler.trouble() == ""


async def test_a_result_that_the_disk_does_not_take(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported from memory, written later, and its command is never executed again."""
    about = command(params={"seconds": 60})
    async with opened() as bench:
        bench.gateway.confirming = False
        bench.hand_out(about)
        await until(lambda: bench.actions.running)
        with monkeypatch.context() as full:
            full.setattr(journal_rows, "write", _disk_full)
            bench.actions.hurry()
            assert (await bench.gateway.end(about)).success
            assert "no command is taken" in bench.scheduler.trouble()
            bench.hand_out(about)
            await until(lambda: len(bench.gateway.ends(about.id)) >= 2)
        await until(lambda: not bench.scheduler.trouble())
    async with opened() as bench:
        assert (await bench.gateway.end(about)).success
        assert bench.actions.world.effects() == {about.id: 1}


def _disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


# --- time --------------------------------------------------------------------------------------------


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


# --- order and slots ---------------------------------------------------------------------------------


async def test_one_object_in_order_others_beside_it(bench: Bench) -> None:
    """Commands on one object follow each other in the order in which they came; others do not wait."""
    same = [command(name="one", params={"seconds": 0.02}) for _ in range(20)]
    others = [command(name=f"other{number}", params={"seconds": 1.0}) for number in range(60)]
    mixed = [one for group in zip(same, *[iter(others)] * 3, strict=True) for one in group]
    bench.hand_out(*mixed)
    for about in mixed:
        assert (await bench.gateway.end(about)).success
    ids = [one.id for one in same]
    assert [id_ for id_ in bench.actions.world.order() if id_ in ids] == ids
    assert 8 <= bench.actions.most <= 16
    assert set(bench.actions.world.effects().values()) == {1}


async def test_long_ones_do_not_block_others(bench: Bench) -> None:
    """However many long actions run and wait, a short one runs at once; reads wait for nobody."""
    long = [command("empty", name=f"n{number}", params={"seconds": 30}) for number in range(10)]
    bench.hand_out(*long)
    await until(lambda: len(bench.actions.running) == 4)
    assert (await bench.do(command())).success
    assert (await bench.do(command("read", name="n0"))).success
    for about in long:
        await bench.gateway.cancel(about.id)
    for about in long:
        assert (await bench.gateway.end(about)).state is CommandState.CANCELED


# --- cancel ------------------------------------------------------------------------------------------


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


async def test_progress(bench: Bench) -> None:
    """A long one says how far it is, counting up, and not more often than once in a while."""
    about = command("empty", params={"seconds": 3})
    assert (await bench.do(about)).success
    said = [r.body for _, r, _ in bench.gateway.reports if isinstance(r.body, CommandProgressed)]
    assert [p.sequence for p in said] == sorted({p.sequence for p in said})
    assert 2 <= len(said) <= 4
    assert (said[0].message, said[0].done, said[0].total) == ("step 1", 1, 4)


async def test_the_latest_progress_is_always_said(bench: Bench) -> None:
    """Words that follow each other closely are left out but for the last: it may hold for minutes."""
    about = command("empty", params={"seconds": 60})
    bench.hand_out(about)
    await until(lambda: bench.actions.running)
    for number, message in enumerate(("2 pods are to go", "a is to end", "b is held"), 10**6):
        bench.scheduler.reporter.progressed(
            CommandProgressed(command_id=about.id, sequence=number, at=datetime.now(UTC), message=message)
        )

    def said() -> list[str]:
        return [
            body.message
            for _, report, _ in bench.gateway.reports
            if isinstance(body := report.body, CommandProgressed)
        ]

    await until(lambda: "b is held" in said())
    assert "a is to end" not in said()
    await bench.gateway.cancel(about.id)


# --- results -----------------------------------------------------------------------------------------


async def test_large_data_goes_in_parts(bench: Bench) -> None:
    """What does not fit into one message comes in slices, all before the end, and is whole together."""
    about = command("read", params={"size": 2_000_000})
    end = await bench.do(about)
    parts = bench.gateway.parts(about.id)
    assert (end.data, end.parts) == (None, len(parts))
    assert [part.index for part in parts] == list(range(end.parts))
    assert {part.count for part in parts} == {end.parts}
    assert json.loads("".join(part.data for part in parts)) == {"version": 0, "text": "x" * 2_000_000}
    assert bench.gateway.names(about.id)[-1] == "completed"
    await until(lambda: not bench.journal.unconfirmed)
    bench.hand_out(about)
    await until(lambda: len(bench.gateway.ends(about.id)) == 2)
    again = bench.gateway.ends(about.id)[1]
    assert (again.success, again.parts, again.data) == (True, 0, None)
    assert "no longer kept" in again.warnings[0]


async def test_too_large(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a result may have fails, and says how it ended otherwise."""
    monkeypatch.setattr(results, "MAX_RESULT", 1_000_000)
    end = await bench.do(command("read", params={"size": 2_000_000}))
    assert (end.state, end.error and end.error.code) == (CommandState.FAILED, ErrorCode.TOO_LARGE)
    assert end.error
    assert "its state was succeeded" in end.error.message


async def test_a_broker_that_takes_less(bench: Bench) -> None:
    """A result that the broker refuses for its size is told without its data."""
    bench.gateway.largest = 10_000
    end = await bench.do(command("read", params={"size": 100_000}))
    assert (end.success, end.data) == (True, None)
    assert "no longer kept" in end.warnings[0]


def test_slices_do_not_cut_characters() -> None:
    """Each slice is text by itself, whatever characters there are at the edges."""
    data = results._json("aä€😀" * 200_000)
    pieces = list(results._slices(data))
    assert b"".join(pieces) == data
    assert "".join(piece.decode() for piece in pieces) == data.decode()
    assert max(map(len, pieces)) <= results.SLICE


async def test_data_that_is_no_json(bench: Bench) -> None:
    """It ends all the same, and says that its data is missing."""
    report, data = results.completed("id", results.succeeded({"x": float("nan")}), datetime.now(UTC))
    assert (report.state, data) == (CommandState.FAILED, b"")
    assert report.error
    assert report.error.code == ErrorCode.INTERNAL


def test_text_that_can_not_be_written() -> None:
    """Half a surrogate pair in somebody's words does not keep a command from its end."""
    words = "quotes \ud800"
    report, _ = results.completed(
        "c", results.ended(CommandState.FAILED, ErrorCode.SERVER, words), datetime.now(UTC)
    )
    assert report.error
    assert report.error.message == "quotes ?"
    assert b"quotes ?" in report.model_dump_json().encode()


async def test_results_are_repeated_until_confirmed(opened: Opened) -> None:
    """One is the question; once it is answered the others follow. None is said again after that."""
    async with opened(patience=0.3) as bench:
        bench.gateway.confirming = False
        several = [command(name=f"n{number}") for number in range(30)]
        bench.hand_out(*several)
        for about in several:
            await bench.gateway.end(about)
        ids = [about.id for about in several]
        count = lambda: sum(len(bench.gateway.ends(id_)) for id_ in ids)  # noqa: E731
        said = count()
        await until(lambda: count() > said)
        assert count() < said + 10
        bench.gateway.confirming = True
        await until(lambda: not bench.journal.unconfirmed)
        before = count()
        await asyncio.sleep(1.0)
        assert count() == before
    async with opened(patience=0.1) as bench:
        await asyncio.sleep(0.5)
        assert bench.gateway.reports == []


async def test_the_rest_waits_for_nobody(opened: Opened) -> None:
    """One result that nobody ever confirms does not keep the others from being asked for."""
    async with opened(patience=0.3) as bench:
        bench.gateway.confirming = False
        poison, other = command(name="a"), command(name="b")
        await bench.do(poison)
        await bench.do(other)
        await until(lambda: len(bench.gateway.ends(other.id)) >= 2)
        await bench.gateway.confirm(other.id)
        assert bench.journal.unconfirmed == [poison.id]


# --- over a restart ----------------------------------------------------------------------------------


async def test_what_waited_is_done_after_a_restart(opened: Opened) -> None:
    """Custody outlives the process: what was not begun is begun, what was ends by what is there."""
    begun, waiting = command(params={"seconds": 30}), command()
    async with opened() as bench:
        bench.hand_out(begun, waiting)
        await until(lambda: bench.actions.running)
    async with opened() as bench:
        assert bench.journal.open.keys() == {begun.id, waiting.id}
        await until(lambda: bench.actions.running)  # untouched, so it is performed
        assert bench.actions.looks == 0


async def test_now_read_only(opened: Opened) -> None:
    """A restart that forbids it ends what was not begun."""
    begun, waiting = command(params={"seconds": 30}), command()
    async with opened() as bench:
        bench.hand_out(begun, waiting)
        await until(lambda: bench.actions.running)
    async with opened(read_only=True) as bench:
        for about, state in ((begun, CommandState.FAILED), (waiting, CommandState.REJECTED)):
            end = await bench.gateway.end(about)
            assert (end.state, end.error and end.error.code) == (state, ErrorCode.NOT_ALLOWED)
        assert bench.actions.performed == []


async def test_begun_and_past_its_time(opened: Opened) -> None:
    """Found after `finish_by`: judged, never performed."""
    about = command(params={"seconds": 30})
    async with opened() as bench:
        bench.hand_out(about)
        await until(lambda: bench.actions.running)
    async with opened(now=lambda: datetime.now(UTC) + timedelta(hours=1)) as bench:
        end = await bench.gateway.end(about)
        assert (end.state, end.error and end.error.code) == (CommandState.FAILED, ErrorCode.TIMEOUT)
        assert bench.actions.performed == []


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


async def test_what_has_begun_may_end_when_the_agent_stops(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short effect is finished and journaled on the way out."""
    monkeypatch.setattr(execution, "GRACE", 30.0)
    about = command(params={"seconds": 0.4})
    async with opened() as bench:
        bench.hand_out(about)
        await until(lambda: bench.actions.running)
    async with opened() as bench:
        assert bench.journal.open == {}
        assert (await bench.gateway.end(about)).success
        assert bench.actions.performed == []


async def test_counters(bench: Bench) -> None:
    """The heartbeat counts what was taken, refused, done and came again."""
    good, bad = command(), command("explode")
    await bench.do(good)
    await bench.do(bad)
    await bench.do(good)
    await until(lambda: bench.scheduler.custody.redelivered)
    counters = bench.scheduler.counters()
    assert counters["commands_received"] == 2
    assert counters["commands_refused"] == 1
    assert counters["commands_done"] == 1
    assert counters["commands_redelivered"] == 1


# --- copies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_each_twenty_times(opened: Opened, seed: int) -> None:
    """Two thousand deliveries in any order, with a restart in the middle: one effect, one end of each."""
    later = datetime.now(UTC) + timedelta(hours=1)
    several = [command(name=f"n{n % 20}", start_by=later, finish_by=later) for n in range(100)]
    dice = random.Random(seed)
    deliveries = several * 20
    dice.shuffle(deliveries)
    states: dict[str, set[CommandState]] = {about.id: set() for about in several}
    journal, effects = "", {}
    for half in (deliveries[:1000], deliveries[1000:]):
        async with opened() as bench:
            journal = journal or bench.journal.id
            for start in range(0, len(half), 50):
                bench.gateway.hand_out(*(order(about, journal) for about in half[start : start + 50]))
            await until(bench.gateway.orders.empty, 30)
            if effects:
                await until(lambda: not bench.journal.open, 30)
                await until(lambda: all(map(bench.gateway.ends, states)), 30)
            for id_ in states:
                states[id_] |= bench.gateway.states(id_)
            effects = bench.actions.world.effects()
    assert effects == {about.id: 1 for about in several}
    assert all(said == {CommandState.SUCCEEDED} for said in states.values())


# --- cancel of what has waited -------------------------------------------------------------------------


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
