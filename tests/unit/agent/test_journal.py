"""The journal: what was taken into custody, and what became of it, over restarts and whatever damages."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from schemas.commands import CommandCompleted, CommandState, ErrorCode
from services.agent.store import journal_index, journal_rows, rows
from services.agent.store.file import StateDamaged, StateFile, StateUnavailable
from services.agent.store.journal import Journal
from services.agent.store.journal_rows import Entry
from services.agent.store.spool import Spool

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BEGUN = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)


def entry(name: str, body: bytes = b"{}") -> Entry:
    """Of a command that is new."""
    return Entry(
        id=name,
        body=body,
        extensions={"journal": "j", "signature": "s"},
        stored_at=NOW,
        received_at=NOW,
        start_by=NOW + timedelta(minutes=5),
        finish_by=NOW + timedelta(minutes=7),
    )


def completed(name: str, state: CommandState = CommandState.SUCCEEDED) -> CommandCompleted:
    return CommandCompleted(
        command_id=name, state=state, success=state is CommandState.SUCCEEDED, executed_at=NOW
    )


Opened = Callable[..., AbstractAsyncContextManager[Journal]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "kubernetes_a.db"


@pytest.fixture
def opened(path: Path) -> Opened:
    @asynccontextmanager
    async def open_(now: datetime = NOW) -> AsyncIterator[Journal]:
        async with StateFile(path, (*rows.TABLES, *journal_rows.TABLES)) as file:
            journal = Journal(file, lambda: now)
            await journal.begin()
            yield journal

    return open_


async def test_what_comes_together_waits_for_the_disk_once(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What several commands have to note while one is written is one transaction, and all of it is kept."""
    names = ["a", "b", "c", "d"]
    async with opened() as journal:
        await journal.accept([entry(name) for name in names])
        commits: list[int] = []
        write_all = journal_rows.write_all

        def counted(db: sqlite3.Connection, lines: list[tuple[int, Entry, bytes]]) -> None:
            commits.append(len(lines))
            write_all(db, lines)

        monkeypatch.setattr(journal_rows, "write_all", counted)
        begins = (journal.started(name, b"seen", BEGUN, lasting=True) for name in names[:3])
        end = journal.done("d", completed("d"), b"1", lasting=True)
        await asyncio.gather(*begins, end)
        assert sum(commits) == 4
        assert len(commits) <= 2
    async with opened() as journal:
        assert [one.begun for one in journal.open.values()] == [1, 1, 1]
        assert journal.unconfirmed == ["d"]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("fails", ["when it is made", "when it is written"])
async def test_a_fault_in_one_change_is_told_to_whoever_asked_for_it(
    opened: Opened, fails: str, place: int
) -> None:
    """Of what waits for the disk together the one that is wrong raises that, and is as it was before; the
    others are on the disk, whichever of them wrote for all.
    """
    names = ["a", "b", "c", "d", "end"]
    wrong = names[place]
    async with opened() as journal:
        await journal.accept([entry(name) for name in names])

        async def change(name: str) -> Entry | None:
            if name == wrong and fails == "when it is made":
                await journal.done(name, None, b"", lasting=False)  # type: ignore[arg-type]
            if name == wrong:
                return await journal.started(name, object(), BEGUN, lasting=True)  # type: ignore[arg-type]
            if name == "end":
                await journal.done(name, completed(name), b"1", lasting=False)
                return None
            return await journal.started(name, b"seen", BEGUN, lasting=True)

        async with asyncio.timeout(20):
            said = await asyncio.gather(*map(change, names), return_exceptions=True)
        fault = said.pop(place)
        assert isinstance(fault, AttributeError if fails == "when it is made" else TypeError)
        assert [one.begun for one in said if isinstance(one, Entry)] == [1, 1, 1]
        assert said[-1] is None
        assert (list(journal.open), journal.unconfirmed, journal.trouble()) == (names[:4], ["end"], "")
        assert (journal.open[wrong].begun, journal.open[wrong].done) == (0, False)
    async with opened() as journal:
        begun = {name: one.begun for name, one in journal.open.items()}
        assert begun == {name: int(name != wrong) for name in names[:4]}
        assert journal.unconfirmed == ["end"]


async def test_a_disk_that_fails_is_told_to_everyone_who_waits(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun of what was written together; what ended is kept in memory."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    names = ["a", "b", "c"]
    async with opened() as journal:
        await journal.accept([entry(name) for name in (*names, "end")])
        with monkeypatch.context() as failing:
            failing.setattr(journal_rows, "write_all", full)
            begins = (journal.started(name, b"seen", BEGUN, lasting=True) for name in names)
            end = journal.done("end", completed("end"), b"1", lasting=False)
            async with asyncio.timeout(20):
                *begun, ended = await asyncio.gather(*begins, end, return_exceptions=True)
        assert [type(one) for one in begun] == [StateUnavailable] * 3
        assert ended is None
        assert [one.begun for one in journal.open.values()] == [0, 0, 0]
        assert journal.unconfirmed == ["end"]


async def test_a_command_from_custody_to_confirmation(opened: Opened) -> None:
    """Each step is there after a restart, byte for byte; the order is that in which they came."""
    a, b = entry("a", b"body of a"), entry("b", b"body of b")
    async with opened() as journal:
        id_ = journal.id
        assert len(id_) == 16
        await journal.accept([b, a])
        assert journal.knows("a")
        assert not journal.knows("c")
    async with opened() as journal:
        assert journal.id == id_
        assert list(journal.open.values()) == [b, a]
        begun = await journal.started("a", b"seen", BEGUN, lasting=True)
        assert (begun.begun, begun.started_at, begun.seen) == (1, BEGUN, b"seen")
    async with opened() as journal:
        assert journal.open["a"] == begun
        await journal.done("a", completed("a"), b"[1, 2]", lasting=False)
        assert (list(journal.open), journal.unconfirmed) == (["b"], ["a"])
    async with opened() as journal:
        assert (list(journal.open), journal.unconfirmed) == (["b"], ["a"])
        assert REGISTRY.get_sample_value("atlhyper_agent_commands_open") == 1
        found = await journal.read("a")
        assert found
        assert (found[0].body, found[0].begun, found[1]) == (b"body of a", 1, b"[1, 2]")
        assert CommandCompleted.model_validate_json(found[0].result) == completed("a")
        assert await journal.confirm(["a", "b", "nobody"]) == ["a"]
        assert await journal.confirm(["a"]) == []
    async with opened() as journal:
        assert (journal.unconfirmed, journal.knows("a")) == ([], True)
        assert not journal.awaits_confirmation("a")


async def test_custody_is_on_the_disk_when_accept_returns(opened: Opened, path: Path, tmp_path: Path) -> None:
    """A copy of the files as they lie there, taken while the agent runs, holds what was accepted."""
    async with opened() as journal:
        await journal.accept([entry("a")])
        copy = tmp_path / "copy.db"
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    with sqlite3.connect(copy) as db:
        assert db.execute("SELECT count(*) FROM journal").fetchone() == (1,)
    db.close()


async def test_work_behind_the_closing(path: Path) -> None:
    """What still comes when the file is being closed is refused: it would open it again, and keep it."""
    file = StateFile(path, rows.TABLES)
    await file.__aenter__()
    closing = asyncio.create_task(file.__aexit__(None, None, None))
    await asyncio.sleep(0)  # the closing is on its way
    with pytest.raises(StateUnavailable, match="is closed"):
        await file.run(lambda _: None)
    await closing
    async with StateFile(path, rows.TABLES) as other:
        await other.run(lambda _: None)


async def test_what_was_begun_survives_the_log(opened: Opened, path: Path) -> None:
    """What an effect rests on is in the file itself: a log that is gone, or was cut, does not undo it."""
    async with opened() as journal:
        await journal.accept([entry("a"), entry("b")])
        await journal.started("a", b"seen", BEGUN, lasting=True)
        assert Path(f"{path}-wal").stat().st_size == 0


async def test_large_data_goes_when_it_is_confirmed(opened: Opened, path: Path) -> None:
    """The other end has it; the state stays for whoever asks once more."""
    async with opened() as journal:
        await journal.accept([entry("a"), entry("b")])
        await journal.done("a", completed("a"), b"x" * 100_000, lasting=False)
        await journal.done("b", completed("b"), b"y" * 100, lasting=False)
        await journal.confirm(["a", "b"])
        large, small = await journal.read("a"), await journal.read("b")
        assert large
        assert small
        assert (large[0].data_size, large[1], small[1]) == (100_000, b"", b"y" * 100)


async def test_what_is_old_is_forgotten(opened: Opened) -> None:
    """Confirmed and an hour past, or a week past; a copy that comes later still is not taken for new."""
    async with opened() as journal:
        await journal.accept([entry("confirmed"), entry("unconfirmed"), entry("open")])
        for name in ("confirmed", "unconfirmed"):
            await journal.done(name, completed(name), b"", lasting=False)
        await journal.confirm(["confirmed"])
        await journal.prune()
        assert journal.knows("confirmed")
        assert not journal.may_have_forgotten(NOW + timedelta(minutes=5))
    async with opened(NOW + timedelta(hours=1, minutes=8)) as journal:
        await journal.prune()
        assert [journal.knows(name) for name in ("confirmed", "unconfirmed", "open")] == [False, True, True]
        assert journal.may_have_forgotten(NOW + timedelta(minutes=5))
        assert not journal.may_have_forgotten(NOW + timedelta(minutes=6))
    async with opened(NOW + timedelta(days=8)) as journal:
        assert journal.may_have_forgotten(NOW + timedelta(minutes=5))
        id_ = journal.id
        await journal.prune()
        assert [journal.knows(name) for name in ("unconfirmed", "open")] == [False, True]
    async with opened() as journal:
        assert (journal.id, list(journal.open)) == (id_, ["open"])


async def test_bounds(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that nobody confirms is full at some point, and says what to do."""
    monkeypatch.setattr(journal_index, "MAX_DATA", 1000)
    async with opened() as journal:
        await journal.accept([entry("a")])
        await journal.done("a", completed("a"), b"x" * 1000, lasting=False)
        assert journal.full
        assert "see that a master runs" in journal.trouble()
        monkeypatch.setattr(journal_index, "MAX_DATA", 2000)
        assert not journal.full
        monkeypatch.setattr(journal_index, "MAX_ENTRIES", 1)
        assert journal.full


# --- damage ------------------------------------------------------------------------------------------


def change_row(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.create_function("flip", 1, lambda value: value.replace(b"body of", b"bodx of"))
    db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET entry = flip(entry) WHERE number = 1",
        "UPDATE journal SET checksum = checksum + 1 WHERE number = 1",
        "UPDATE journal SET number = 7 WHERE number = 1",
    ],
)
async def test_a_changed_row(opened: Opened, path: Path, statement: str) -> None:
    """It ends as unknown, its neighbours go on, and the journal is another one: what is meant for the one
    before may have been there."""
    async with opened() as journal:
        before = journal.id
        await journal.accept([entry("a", b"body of a"), entry("b", b"body of b")])
    change_row(path, statement)
    async with opened() as journal:
        assert journal.id != before
        assert list(journal.open) == ["b"]
        assert journal.unconfirmed == ["a"]
        found = await journal.read("a")
        assert found
        end = CommandCompleted.model_validate_json(found[0].result)
        assert (end.state, end.error and end.error.code) == (CommandState.UNKNOWN, ErrorCode.JOURNAL_LOST)
        after = journal.id
    async with opened() as journal:
        assert (journal.id, journal.unconfirmed) == (after, ["a"])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET entry = x'00'",
        "DELETE FROM journal",
        "ALTER TABLE journal RENAME TO kournal",
        "UPDATE meta SET value = 'x' WHERE name = 'journal_rows'",
        "UPDATE meta SET value = x'00' WHERE name = 'journal'",
        "UPDATE meta SET value = x'00' WHERE name = 'journal_horizon'",
        "DELETE FROM meta",
    ],
)
async def test_a_lost_row(opened: Opened, path: Path, statement: str) -> None:
    """Whatever is missing makes the journal another one."""
    async with opened() as journal:
        before = journal.id
        await journal.accept([entry("a")])
    change_row(path, statement)
    async with opened() as journal:
        assert journal.id not in ("", before)
        await journal.accept([entry("c")])
        after = journal.id
    async with opened() as journal:
        assert journal.id == after
        assert "c" in journal.open


async def test_damaged_data(opened: Opened, path: Path) -> None:
    """Of a result whose data was damaged the state is still known."""
    async with opened() as journal:
        await journal.accept([entry("a")])
        await journal.done("a", completed("a"), b"[1, 2, 3]", lasting=False)
    change_row(path, "UPDATE journal SET data = x'00'")
    async with opened() as journal:
        found = await journal.read("a")
        assert found
        assert (found[0].done, found[0].data_size, found[1]) == (True, 9, b"")


async def test_a_schema_that_is_not_ours(opened: Opened, path: Path) -> None:
    """Bits flipped in the schema: the file is set aside like any other damaged one."""
    async with opened() as journal:
        before = journal.id
    change_row(path, "ALTER TABLE journal RENAME COLUMN checksum TO checksuN2")
    async with opened() as journal:
        assert journal.id not in ("", before)
        await journal.accept([entry("a")])


async def test_damage_while_it_runs(path: Path) -> None:
    """What memory has goes into the new file, under another id; the spool's part of the damage is its own."""
    async with StateFile(path, (*rows.TABLES, *journal_rows.TABLES)) as file:
        journal, spool = Journal(file, lambda: NOW), Spool(file, 2**20)
        await journal.begin()
        await spool.begin()
        before = journal.id
        await journal.accept([entry("begun"), entry("open"), entry("gone")])
        await journal.started("begun", b"seen", BEGUN, lasting=True)
        await journal.done("gone", completed("gone"), b"", lasting=False)
        file._set_aside(sqlite3.DatabaseError("for the test"))
        file._close()
        assert journal.id == ""
        with pytest.raises(StateDamaged):
            await journal.accept([entry("new")])
        await journal.done("begun", completed("begun"), b"[1]", lasting=False)
        assert journal.unconfirmed
        await journal._load()
        assert journal.id not in ("", before)
        assert list(journal.open) == ["open"]
        assert [journal.knows(name) for name in ("begun", "open", "gone")] == [True, True, False]
    async with StateFile(path, (*rows.TABLES, *journal_rows.TABLES)) as file:
        journal = Journal(file, lambda: NOW)
        await journal.begin()
        assert (list(journal.open), journal.unconfirmed) == (["open"], ["begun"])


async def test_a_disk_that_fails(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken and nothing begun until the file was read again; what ended is kept in memory."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with opened() as journal:
        await journal.accept([entry("a"), entry("b")])
        with monkeypatch.context() as failing:
            failing.setattr(journal_rows, "write", full)
            with pytest.raises(StateUnavailable, match="No space left"):
                await journal.accept([entry("c")])
            with pytest.raises(StateUnavailable):
                await journal.started("a", b"seen", BEGUN, lasting=True)
            await journal.done("b", completed("b"), b"[1]", lasting=False)
            assert "see to the disk" in journal.trouble()
            found = await journal.read("b")
            assert found
            assert (found[0].done, found[1], journal.unconfirmed) == (True, b"[1]", ["b"])
            await journal._load()
            assert journal.trouble()
        await journal._load()
        assert journal.trouble() == ""
        assert not journal.knows("c")
    async with opened() as journal:
        assert (list(journal.open), journal.unconfirmed) == (["a"], ["b"])
