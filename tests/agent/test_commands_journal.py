"""Commands and the agent's journal: while it cannot be written, and over a restart."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.commands import CommandState, ErrorCode
from services.agent.scheduler.commands import execution
from services.agent.store import journal_rows
from tests.agent.commands.bench import Bench, Opened
from tests.agent.commands.desk import command, order
from tests.waiting import until


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


@pytest.mark.parametrize("action", ["change", "read"])
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), TypeError("no such thing")])
async def test_an_end_that_can_not_be_kept_is_kept_later(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, action: str, fault: Exception
) -> None:
    """Nobody has to ask: it is tried again until the journal takes it, and has one effect."""
    about, write, refused = command(action), journal_rows.write, 0

    def failing(db: Any, number: int, entry: journal_rows.Entry, data: bytes) -> None:
        nonlocal refused
        if entry.done and refused < 2:
            refused += 1
            raise fault
        write(db, number, entry, data)

    monkeypatch.setattr(journal_rows, "write", failing)
    async with opened() as bench:
        bench.gateway.confirming = False
        bench.hand_out(about)
        assert (await bench.gateway.end(about)).success
        await until(lambda: refused == 2 and not bench.scheduler.trouble(), 20)
    async with opened() as bench:
        assert (await bench.gateway.end(about)).success
        assert bench.actions.performed == []
        assert bench.actions.world.effects() == ({about.id: 1} if action == "change" else {})


def _disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


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
