"""What an agent tells of a command: its progress and its result, until that is confirmed."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from schemas.commands import CommandProgressed, CommandState, ErrorCode
from services.agent.scheduler.commands import results
from tests.agent.commands.bench import Bench, Opened
from tests.agent.commands.desk import command
from tests.waiting import until


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
        reporter = bench.scheduler.reporter
        # What was on its way when its confirmation came is said all the same.
        await until(lambda: not (bench.journal.unconfirmed or reporter._unconfirmed or reporter._busy))
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
