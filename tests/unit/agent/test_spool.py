"""The spool: what was observed stays until it is confirmed, whatever happens to the file."""

import asyncio
import resource
import sqlite3
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from schemas.frames import content_hash
from services.agent.capability import Key, Observed
from services.agent.store import rows
from services.agent.store import spool as spool_module
from services.agent.store.file import StateDamaged, StateFile, StateUnavailable
from services.agent.store.rows import ROW_BYTES, Spooled
from services.agent.store.spool import Spool
from services.runtime.errors import UserError
from tests.waiting import until


def event(name: str, body: bytes = b"{}") -> Observed:
    """An observed event."""
    return Observed(
        "events",
        Key("ns", name),
        f"uid-{name}",
        body,
        content_hash("events", "ns", name, body),
        "Warning",
        about=Key("ns", "Pod"),
    )


def bodies(events: list[Spooled]) -> list[bytes]:
    return [event.body for event in events]


Open = Callable[..., AbstractAsyncContextManager[Spool]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "kubernetes_a.db"


@pytest.fixture
def opened(path: Path) -> Open:
    """`async with opened() as spool`: on the test's file, in a new epoch."""

    @asynccontextmanager
    async def open_(limit: int = 64 * 1024 * 1024) -> AsyncIterator[Spool]:
        async with StateFile(path, rows.TABLES) as file:
            spool = Spool(file, limit)
            await spool.begin()
            yield spool

    return open_


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes; the log that pytest captures is one of them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_what_is_not_confirmed_outlives_the_process(opened: Open, path: Path) -> None:
    """A new start finds what is unconfirmed with its envelopes as they were; new ones get another epoch."""
    async with opened() as spool:
        await spool.append([event("a", b"1"), event("b", b"2"), event("c", b"3")], [])
        before = await spool.after(0, 10)
        assert [(e.sequence, e.epoch) for e in before] == [(n, before[0].epoch) for n in (1, 2, 3)]
        assert await spool.confirm(before[0].epoch, 1)
        assert not await spool.confirm(before[0].epoch, 1)
    async with opened() as spool:
        assert await spool.after(0, 10) == before[1:]
        await spool.append([event("d", b"4")], [])
        *_, last = await spool.after(0, 10)
        assert (last.sequence, last.body) == (1, b"4")
        assert last.epoch > before[0].epoch
        assert (spool.first(before[0].epoch), spool.first(last.epoch)) == (2, 1)
        await spool.confirm(before[0].epoch, 3)
        assert (spool.unconfirmed, spool.keeps(before[2]), spool.keeps(last)) == (1, False, True)
        await spool.confirm("of somebody else", 99)
        assert bodies(await spool.after(0, 10)) == [b"4"]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_it_is_on_the_disk_when_append_returns(opened: Open, path: Path, tmp_path: Path) -> None:
    """A copy of the files as they lie there, taken while the agent runs, holds what was appended."""
    async with opened() as spool:
        await spool.append([event("a", b"1")], [])
        copy = tmp_path / "copy.db"
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    with sqlite3.connect(copy) as db:
        assert db.execute("SELECT body FROM spool").fetchall() == [(b"1",)]
    db.close()


async def test_what_was_taken_is_known_after_a_restart(path: Path) -> None:
    """The newest version of each is known, unconfirmed or confirmed, and one that is gone is not."""
    async with StateFile(path, rows.TABLES) as file:
        spool = Spool(file, 2**26)
        assert await spool.begin() == []
        await spool.append([event("a", b"1"), event("b", b"2"), event("c", b"3")], [])
        await spool.append([event("a", b"11")], [("events", Key("ns", "b"))])
        (first, *_) = await spool.after(0, 1)
        await spool.confirm(first.epoch, 4)
        taken = await spool.begin()
    expected = {event("a", b"11"), event("c", b"3")}
    assert {(o.key, o.uid, o.hash, o.state) for o in taken} == {
        (o.key, o.uid, o.hash, o.state) for o in expected
    }


async def test_one_process_per_file(opened: Open, path: Path) -> None:
    """A second agent on the same file is told so, and the first one goes on."""
    async with opened() as spool:
        with pytest.raises(UserError, match="in use by another agent") as caught:
            async with StateFile(path, rows.TABLES):
                pass
        assert "AGENT_STATE" in caught.value.next_step
        await spool.append([event("a")], [])
        assert spool.trouble() == ""


async def test_a_folder_that_may_not_be_made_is_told(tmp_path: Path) -> None:
    """What only a person can put right ends the start with the next step."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be used") as caught:
        async with StateFile(tmp_path / "file" / "agent.db", rows.TABLES):
            pass
    assert "AGENT_STATE" in caught.value.next_step


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 3 * 4096 + 100])


def flip(path: Path) -> None:
    """Turn bits in every page."""
    data = bytearray(path.read_bytes())
    for place in range(5, len(data), 97):
        data[place] ^= 0x40
    path.write_bytes(data)


def garble(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def blank(path: Path) -> None:
    """A page in the middle: only a look at all of them finds it."""
    data = bytearray(path.read_bytes())
    data[10 * 4096 : 11 * 4096] = bytes(4096)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, garble, blank])
async def test_a_damaged_file_is_set_aside(opened: Open, path: Path, damage: Callable[[Path], None]) -> None:
    """The agent starts with an empty file and the damaged one is kept beside it, unchanged."""
    async with opened() as spool:
        await spool.append([event(f"e{number}", b"x" * 500) for number in range(200)], [])
    damage(path)
    damaged = path.read_bytes()
    async with StateFile(path, rows.TABLES) as file:
        assert file.damaged == 1
        assert Path(f"{path}.damaged").read_bytes() == damaged
        spool = Spool(file, 2**26)
        await spool.begin()
        assert spool.unconfirmed == 0
        await spool.append([event("a", b"1")], [])
        assert bodies(await spool.after(0, 10)) == [b"1"]


async def test_damage_while_it_runs(path: Path) -> None:
    """It is told to whoever works with the file; what was in memory or comes then is kept."""
    async with StateFile(path, rows.TABLES) as file:
        spool = Spool(file, 2**26)
        await spool.begin()
        await spool.append([event("a", b"1")], [])

        def corrupt(_: sqlite3.Connection) -> None:
            raise type("_E", (sqlite3.DatabaseError,), {"sqlite_errorcode": sqlite3.SQLITE_CORRUPT})

        with pytest.raises(StateDamaged):
            await file.run(corrupt)
        with pytest.raises(StateDamaged):
            await spool.append([event("b", b"2")], [])
        with pytest.raises(StateDamaged):
            await asyncio.wait_for(spool.recover(), 20)
        await spool.begin()
        assert spool.dropped == 1
        await spool.append([event("c", b"3")], [])
        assert bodies(await spool.after(0, 10)) == [b"2", b"3"]


async def test_a_flipped_bit_in_one_event_costs_that_one(opened: Open, path: Path) -> None:
    """SQLite has no checksums of content: ours finds it, counts it, and the others are sent."""
    async with opened() as spool:
        await spool.append([event(name, name.encode() * 50) for name in "abc"], [])
    data = path.read_bytes()
    assert data.count(b"b" * 50) == 1
    path.write_bytes(data.replace(b"b" * 50, b"b" * 49 + b"c"))
    async with opened() as spool:
        assert bodies(await spool.after(0, 10)) == [b"a" * 50, b"c" * 50]
        assert (spool.dropped, spool.unconfirmed) == (1, 2)


async def test_beyond_its_limit_the_oldest_go(opened: Open) -> None:
    """They are counted and told, the lowest number rises; with room again it is no trouble any longer."""
    size = 100 + ROW_BYTES
    async with opened(limit=10 * size) as spool:
        for number in range(25):
            await spool.append([event(f"e{number}", b"%0100d" % number)], [])
        kept = await spool.after(0, 100)
        assert [int(body) for body in bodies(kept)] == list(range(15, 25))
        assert (spool.dropped, spool.unconfirmed, spool.first(kept[0].epoch)) == (15, 10, 16)
        assert "AGENT_SPOOL_BYTES" in spool.trouble()
        await spool.confirm(kept[0].epoch, 22)
        assert (spool.unconfirmed, spool.trouble()) == (3, "")


async def test_an_event_that_is_given_up_holds_up_no_other(opened: Open) -> None:
    """Once what is before it is confirmed, the lowest number is the one behind it."""
    async with opened() as spool:
        await spool.append([event(name, name.encode()) for name in "abc"], [])
        _, second, third = await spool.after(0, 10)
        await spool.discard([second.number], "too large")
        assert (spool.dropped, spool.first(third.epoch)) == (1, 1)
        await spool.confirm(third.epoch, 1)
        assert spool.first(third.epoch) == 3
        assert bodies(await spool.after(0, 10)) == [b"c"]


async def test_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told at once; Events go on from memory and may be confirmed; with room again all is on the disk."""
    monkeypatch.setattr(spool_module, "RETRY", 0.05)
    async with StateFile(path, rows.TABLES) as file:
        spool = Spool(file, 2**26)
        await spool.begin()
        recover = asyncio.create_task(spool.recover())
        await spool.append([event("before", b"0" * 100)], [])
        with disk_full_at(50_000):
            for number in range(1, 60):
                await spool.append([event(f"e{number}", b"%04000d" % number)], [])
            assert str(path) in spool.trouble()
            assert [int(body) for body in bodies(await spool.after(0, 100))] == list(range(60))
            (oldest, *_) = await spool.after(0, 1)
            assert await spool.confirm(oldest.epoch, 30)
            assert [int(body) for body in bodies(await spool.after(0, 100))] == list(range(30, 60))
            assert spool.first(oldest.epoch) == 31
            await asyncio.sleep(0.2)
            assert spool.trouble()
        await until(lambda: not spool.trouble())
        assert spool.dropped == 0
        recover.cancel()
    with sqlite3.connect(path) as db:
        assert [int(body) for (body,) in db.execute("SELECT body FROM spool ORDER BY number")] == list(
            range(30, 60)
        )
    db.close()


async def test_a_disk_that_fails_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent begins in memory; what the file has of before is found when it can be read again."""
    monkeypatch.setattr(spool_module, "RETRY", 0.05)
    async with StateFile(path, rows.TABLES) as file:
        spool = Spool(file, 2**26)
        await spool.begin()
        await spool.append([event("before", b"0")], [])
    async with StateFile(path, rows.TABLES) as file:
        spool = Spool(file, 2**26)
        with monkeypatch.context() as failing:
            failing.setattr(file, "run", AsyncMock(side_effect=StateUnavailable("disk I/O error")))
            await spool.begin()
            await spool.append([event("a", b"1")], [])
            assert "disk I/O error" in spool.trouble()
            assert bodies(await spool.after(0, 10)) == [b"1"]
        recover = asyncio.create_task(spool.recover())
        await until(lambda: not spool.trouble())
        assert bodies(await spool.after(0, 10)) == [b"0", b"1"]
        assert spool.unconfirmed == 2
        recover.cancel()


async def test_memory_is_bounded_while_the_disk_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the source is held back until something is confirmed."""
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", 1000)
    async with StateFile(path, rows.TABLES) as file:
        spool = Spool(file, 2**26)
        await spool.begin()
        with disk_full_at(20_000):
            await spool.append([event("a", b"x" * 40_000)], [])
            (first,) = await spool.after(0, 10)
            waiting = asyncio.create_task(spool.append([event("b", b"y" * 40_000)], []))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await spool.confirm(first.epoch, 1)
            await asyncio.wait_for(waiting, 20)
            assert bodies(await spool.after(0, 10)) == [b"y" * 40_000]


async def test_cancelled_while_it_is_written(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that has to stand by stops in the middle; what it knows and what is on the disk agree."""
    insert, begun, released = rows.insert, threading.Event(), threading.Event()

    def slow_insert(db: sqlite3.Connection, events: list[Spooled]) -> None:
        begun.set()
        released.wait(20)
        insert(db, events)

    async with opened() as spool:
        with monkeypatch.context() as slow:
            slow.setattr(rows, "insert", slow_insert)
            appending = asyncio.create_task(spool.append([event("a", b"1")], []))
            await until(begun.is_set)
            appending.cancel()
            asyncio.get_running_loop().call_later(0.1, released.set)
            with pytest.raises(asyncio.CancelledError):
                await appending
        await spool.begin()
        await spool.append([event("b", b"2")], [])
        assert bodies(await spool.after(0, 10)) == [b"1", b"2"]
        assert spool.unconfirmed == 2


async def test_a_disk_that_does_not_answer_is_told(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that hangs is no silence: the heartbeat can say so."""
    monkeypatch.setattr("services.agent.store.file.STUCK", 0.1)
    async with opened() as spool:
        released = threading.Event()
        hanging = asyncio.create_task(spool._file.run(lambda _: released.wait(30)))
        await until(lambda: "has not answered" in spool.trouble())
        released.set()
        await hanging
        assert spool.trouble() == ""


@pytest.mark.alone
async def test_bursts(opened: Open) -> None:
    """2,000 Events a second go in, with every batch on the disk before the next."""
    batch = [event(f"e{number}", b"x" * 700) for number in range(500)]
    async with opened() as spool:
        took: list[float] = []
        for _ in range(10):
            started = time.monotonic()
            await spool.append(batch, [])
            took.append(time.monotonic() - started)
        assert len(batch) / statistics.median(took) > 2000  # whatever stops the machine for a moment
