"""Commands inside the agent: taken, refused, executed, ended. The other end is in memory."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.commands import CommandObject, CommandState, ErrorCode, TargetReference
from schemas.ids import AgentKind
from tests.agent.commands.bench import Bench, Opened
from tests.agent.commands.desk import command, order
from tests.waiting import until


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


async def test_one_object_in_order_others_beside_it(bench: Bench) -> None:
    """Commands on one object follow each other in the order in which they came; others do not wait."""
    same = [command(name="one", params={"seconds": 0.02}) for _ in range(20)]
    others = [command(name=f"other{number}", params={"seconds": 60}) for number in range(60)]
    mixed = [one for group in zip(same, *[iter(others)] * 3, strict=True) for one in group]
    bench.hand_out(*mixed)
    await until(lambda: len(bench.actions.running) >= 8)
    bench.actions.hurry()
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
