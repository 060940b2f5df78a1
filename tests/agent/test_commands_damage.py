"""A damaged state file, in the middle of commands: the agent starts, and nothing is done twice."""

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.commands import Command, CommandState
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows, rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from tests.agent.commands.desk import TARGET, MemoryGateway, command, order
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.waiting import until


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def agent(
    folder: Path, world: World
) -> AsyncIterator[tuple[CommandScheduler, MemoryGateway, WorldActions]]:
    """On the state file of a folder."""
    gateway, actions = MemoryGateway(), WorldActions(world)
    async with StateFile(folder / "agent.db", (*rows.TABLES, *journal_rows.TABLES)) as file:
        journal = Journal(file, now)
        scheduler = CommandScheduler(
            TARGET, "uid", actions, journal, gateway, read_only=False, patience=5.0, now=now
        )
        async with running(scheduler):
            yield scheduler, gateway, actions


@dataclass
class Moment:
    """Everything as it was on the disk, and at the other end, when the power went."""

    folder: Path
    journal: str
    commands: dict[str, Command]
    """By what becomes of them."""
    ended: dict[str, CommandState] = field(default_factory=dict)
    """What the master has committed, and will never ask for."""


def commands() -> dict[str, Command]:
    """By what becomes of them. They have long enough for a slow machine.

    The doubtful one has had its effect, and cannot be judged; the running one has had none yet.
    """
    made = {
        "confirmed": command(name="a"),
        "unconfirmed": command(name="b", params={"size": 3000}),
        "refused": command("explode"),
        "canceled": command(name="c"),
        "running": command(name="c", params={"seconds": 60}),
        "doubtful": command(name="d", params={"lost": "after"}),
        "waiting": command(name="d"),
        "safe": command("set", name="e", params={"seconds": 60}),
        "reading": command("read", name="f", params={"seconds": 60}),
    }
    now = datetime.now(UTC)
    times = {"start_by": now + timedelta(hours=1), "finish_by": now + timedelta(hours=2)}
    return {name: about.model_copy(update=times) for name, about in made.items()}


@pytest.fixture(scope="module")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Moment:
    """A state file with a command in each of the states that there are."""
    before, copy = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("moment")
    all_ = commands()

    async def bring_about() -> Moment:
        world = World(before / "world.db")
        async with agent(before, world) as (scheduler, gateway, actions):
            gateway.confirming = False
            actions.unreachable = 10**9
            moment = Moment(copy, scheduler.journal.id, all_)
            hand_out = lambda *names: gateway.hand_out(  # noqa: E731
                *(order(all_[name], scheduler.journal.id) for name in names)
            )
            hand_out("confirmed", "refused")
            for name in ("confirmed", "refused"):
                end = await gateway.end(all_[name])
                moment.ended[all_[name].id] = end.state
            await gateway.confirm(all_["confirmed"].id)
            hand_out("running", "canceled", "doubtful", "waiting", "safe", "reading")
            await until(lambda: len(actions.running) == 3 and all_["doubtful"].id in world.effects())
            await gateway.cancel(all_["canceled"].id)
            moment.ended[all_["canceled"].id] = (await gateway.end(all_["canceled"])).state
            hand_out("unconfirmed")
            await gateway.end(all_["unconfirmed"])
            await until(lambda: actions.unreachable < 10**9)
            for path in before.iterdir():
                shutil.copy(path, copy)
        world.close()
        return moment

    return asyncio.run(bring_about())


Damage = Callable[[Path, random.Random], None]


def flip(path: Path, dice: random.Random) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def cut(path: Path, dice: random.Random) -> None:
    """Its end is missing, from anywhere on."""
    path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size + 1)])


def blank(path: Path, dice: random.Random) -> None:
    """A sector of zeros."""
    data = bytearray(path.read_bytes())
    if data:
        at = dice.randrange(len(data)) // 512 * 512
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


async def heal(folder: Path, moment: Moment) -> dict[str, set[CommandState]]:
    """Start an agent there, have it asked for what has not ended, and what it says of each."""
    world = World(folder / "world.db")
    async with agent(folder, world) as (scheduler, gateway, actions):
        actions.hurry = True
        asked = [about for about in moment.commands.values() if about.id not in moment.ended]
        gateway.hand_out(*(order(about, moment.journal) for about in asked))
        await until(lambda: all(gateway.ends(about.id) for about in asked), 15)
        await until(lambda: not scheduler.journal.open and not scheduler.journal.unconfirmed)
        effects = world.effects()
        states = {about.id: gateway.states(about.id) for about in moment.commands.values()}
    world.close()
    exact = {about.id for about in moment.commands.values() if about.action == "change"}
    assert {id_: count for id_, count in effects.items() if count > 1 and id_ in exact} == {}
    for about in moment.commands.values():
        said = states[about.id] | ({moment.ended[about.id]} if about.id in moment.ended else set())
        assert said & {CommandState.UNKNOWN} or len(said) == 1, (about, said)
        if CommandState.SUCCEEDED in said and about.action == "change":
            assert effects.get(about.id) == 1
        if said <= {CommandState.REJECTED, CommandState.CANCELED, CommandState.EXPIRED}:
            assert about.id not in effects
    return states


@pytest.fixture
def copied(moment: Moment, tmp_path: Path) -> Callable[[], Path]:
    """A new copy of the moment's files; the running ones take no time from now on."""
    number = iter(range(10**6))

    def copy() -> Path:
        folder = tmp_path / f"copy{next(number)}"
        shutil.copytree(moment.folder, folder)
        return folder

    return copy


async def test_undamaged(moment: Moment, copied: Callable[[], Path]) -> None:
    """Everything ends as it can, without anything unknown but what nobody can prove."""
    states = await heal(copied(), moment)
    by_name = {name: states[about.id] for name, about in moment.commands.items()}
    assert by_name["unconfirmed"] == by_name["safe"] == by_name["reading"] == {CommandState.SUCCEEDED}
    assert by_name["doubtful"] == by_name["running"] == by_name["waiting"] == {CommandState.SUCCEEDED}
    assert by_name["confirmed"] == set()


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("damage", [flip, cut, blank, remove])
async def test_damaged(moment: Moment, copied: Callable[[], Path], suffix: str, damage: Damage) -> None:
    """Wherever the damage is: at most one effect, and an end of each command that agrees with it."""
    deadline = time.monotonic() + 8
    for seed in range(1 if damage is remove else 60):
        folder = copied()
        damage(folder / f"agent.db{suffix}", random.Random(f"{suffix} {seed}"))
        try:
            await heal(folder, moment)
        except BaseException as error:
            error.add_note(f"seed {seed}, {folder}")
            raise
        if time.monotonic() > deadline:
            break
