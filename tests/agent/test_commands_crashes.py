"""The agent killed at every step and at every write to the disk: one effect at most, one end exactly."""

import asyncio
import itertools
import json
import shutil
import signal
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.commands import Command, CommandState
from services.agent.store import journal_rows
from services.runtime.failpoints import VARIABLE, Point
from tests.agent.commands.child import lines
from tests.agent.commands.desk import command
from tests.agent.commands.world import World

POINTS = [point for point in Point if point.value.startswith("agent.command.")]
TIMES = 5
"""Kills at each step, one after the other."""
IN_FLIGHT = 20
"""Commands under way, at least, whenever the agent is killed."""
TRANSACTIONS = {
    "Journal._load",
    "Journal._insert",
    "Journal._insert lasting",
    "Changes._make",
    "Changes._make lasting",
    "Journal._confirm",
    "Journal._prune lasting",
}
"""All that the journal writes, by where it is done; `lasting` goes on after the commit."""


def write_orders(folder: Path, commands: list[Command]) -> None:
    (folder / "orders").write_text("".join(f"{about.model_dump_json()}\n" for about in commands))


def check(folder: Path, commands: list[Command]) -> dict[str, set[CommandState]]:
    """What must hold whatever happened; the states that were told of each."""
    states: dict[str, set[CommandState]] = defaultdict(set)
    for line in lines(folder, "reports"):
        id_, name, state = json.loads(line)
        if name == "completed":
            states[id_].add(CommandState(state))
    world = World(folder / "world.db")
    effects = world.effects()
    world.close()
    for about in commands:
        assert len(states[about.id]) == 1, (about, states[about.id])
        (state,) = states[about.id]
        if about.action == "change":
            assert effects.get(about.id, 0) <= 1, about
        if state is CommandState.SUCCEEDED and about.action != "read":
            assert effects.get(about.id, 0) >= 1, about
        if state in (CommandState.REJECTED, CommandState.CANCELED, CommandState.EXPIRED):
            assert about.id not in effects, about
    assert set(lines(folder, "acknowledged")) == {about.id for about in commands}
    return dict(states)


def mixed(number: int) -> list[Command]:
    """One object's commands in a row, others beside it, one that is refused; the rest each on its own."""
    same = [command(name="same") for _ in range(3)]
    others = [command("explode"), command("set"), command("read"), command(params={"lost": "after"})]
    return [*same, *others, *(command(name=f"{number}-{place}") for place in range(IN_FLIGHT))]


class Nursery:
    """Agents that are forked off one process."""

    def __init__(self, log: Path) -> None:
        self._log = log

    async def __aenter__(self) -> "Nursery":
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.agent.commands.child", "-"),
                cwd=Path(__file__).parents[2],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        await self._process.wait()

    async def start(
        self,
        folder: Path,
        injection: str = "",
        *,
        within: str = "",
        hold: bool = False,
        broker: Sequence[str] = (),
        **variables: str,
    ) -> int:
        """Run one until it ends; its exit code, negative: the signal."""
        assert self._process.stdin
        assert self._process.stdout
        told = [str(folder), variables, injection, within, hold, broker]
        self._process.stdin.write(f"{json.dumps(told)}\n".encode())
        async with asyncio.timeout(120):
            code = int(await self._process.stdout.readline())
        if code not in (0, -signal.SIGKILL):
            pytest.fail(f"exit code {code}: {self._log.read_text()[-3000:]}")
        return code


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_every_step(tmp_path: Path, point: Point) -> None:
    """Killed there when it comes by for the first to the fifth time since its start, each time with more
    commands than it has had: every one has its end, and nothing is ever unknown.
    """
    commands: list[Command] = []
    async with Nursery(tmp_path / "log") as nursery:
        for nth in range(1, TIMES + 1):
            commands += mixed(nth)
            write_orders(tmp_path, commands)
            code = await nursery.start(tmp_path, **{VARIABLE: f"{point.value}:{nth}:kill"})
            assert code == -signal.SIGKILL
            assert len(commands) - len(set(lines(tmp_path, "confirmed"))) >= IN_FLIGHT
        assert await nursery.start(tmp_path) == 0
    states = check(tmp_path, commands)
    assert {state for said in states.values() for state in said} == {
        CommandState.SUCCEEDED,
        CommandState.REJECTED,
    }


def held() -> list[Command]:
    """IN_FLIGHT and more, none of which ends with `hold`: some are in their effect, others behind them."""
    in_effect = [
        *(("change", str(place)) for place in range(6)),
        ("set", "6"),
        ("empty", "7"),
        ("empty", "8"),
    ]
    behind = [("change", name) for _, name in in_effect] + [("change", "0")] * 4
    return [
        command(action, f"held-{name}", params={"seconds": 3600}, **times(hours=2))
        for action, name in [*in_effect, ("read", "9"), *behind]
    ]


def brief() -> dict[str, tuple[Command, CommandState]]:
    """Commands that end at once in every way, and how; by id."""
    done, no, late = CommandState.SUCCEEDED, CommandState.REJECTED, times(hours=2)
    told = [
        *((command(name="same", **late), done) for _ in range(3)),
        (command("explode", **late), no),
        (command(name="old", **times(minutes=10)), done),
        (command("set", **late), done),
        (command("read", **late), done),
        (command(params={"lost": "after"}, **late), done),
        (command(name="missing", **late), CommandState.FAILED),
        *((command(name=str(place), **late), done) for place in range(3)),
    ]
    return {about.id: (about, state) for about, state in told}


def times(**of_start: int) -> dict[str, datetime]:
    """Until when a command may begin, and until when it may last."""
    start_by = datetime.now(UTC) + timedelta(**of_start)
    return {"start_by": start_by, "finish_by": start_by + timedelta(hours=1)}


def in_custody(folder: Path) -> int:
    """How many commands that have not ended are in the journal, as it was left."""
    left = folder / "left"
    left.mkdir()
    for path in folder.glob("agent.db*"):
        shutil.copy(path, left)
    db = sqlite3.connect(left / "agent.db")
    found = sum(not row.entry.done for row in journal_rows.load(db).rows)
    db.close()
    return found


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["fdatasync,fsync", "pwrite64"])
async def test_killed_at_every_write(tmp_path: Path, call: str) -> None:
    """Killed when it asks the disk for the n-th time, for every n until it gets through, with twenty commands
    and more under way each time: one effect at most, one end of each, and the right one.

    How much is written together depends on how quick the machine is. So a kind of transaction that was not
    met that way is met by itself.
    """
    told, waiting = brief(), held()
    commands = [*(about for about, _ in told.values()), *waiting]
    right = {about.id: {CommandState.SUCCEEDED} for about in waiting}
    right |= {id_: {state} for id_, (_, state) in told.items()}
    before, folder = tmp_path / "before", tmp_path / "killed"
    before.mkdir()
    write_orders(before, waiting)

    async def killed_in(number: int, within: str = "") -> str:
        """The kind of transaction that was the last one; empty: it got through."""
        shutil.copytree(before, folder)
        write_orders(folder, commands)
        code = await nursery.start(folder, f"{call}:signal=SIGKILL:when={number}", within=within, hold=True)
        kind = lines(folder, "transactions")[-1]
        assert in_custody(folder) >= IN_FLIGHT
        assert await nursery.start(folder) == 0
        assert check(folder, commands) == right
        shutil.rmtree(folder)
        return kind if code else ""

    met: set[str] = set()
    async with Nursery(tmp_path / "log") as nursery:
        assert await nursery.start(before, hold=True) == 0
        for number in fibonacci() if call == "pwrite64" else itertools.count(1):
            if not (kind := await killed_in(number)):
                break
            met.add(kind)
        for kind in sorted(TRANSACTIONS - met):
            assert await killed_in(1, within=kind) == kind
    assert number > 20
    print(
        f"agent, killed at the n-th {call} for n up to {number - 1}, with {IN_FLIGHT} commands and more "
        "under way: one effect at most, one end of each"
    )


def fibonacci() -> Iterator[int]:
    """1, 2, 3, 5, 8, … while every single one would take too long."""
    a, b = 1, 2
    while True:
        yield a
        a, b = b, a + b
