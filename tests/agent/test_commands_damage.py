"""A damaged state file, in the middle of commands: the agent starts, and nothing is done twice."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import REGISTRY

from schemas.commands import Command, CommandState
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows, rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from tests.agent.commands.desk import TARGET, MemoryGateway, command, order
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.waiting import until

PLACES = 40
"""At which each kind of damage is tried, the same ones in every run."""
RIGHT: dict[str, set[CommandState]] = {
    "confirmed": set(),
    "refused": {CommandState.REJECTED},
    "canceled": {CommandState.CANCELED},
    "unconfirmed": {CommandState.SUCCEEDED},
    "running": {CommandState.SUCCEEDED},
    "doubtful": {CommandState.SUCCEEDED},
    "waiting": {CommandState.SUCCEEDED},
    "safe": {CommandState.SUCCEEDED},
    "reading": {CommandState.SUCCEEDED},
}
"""What an agent that has its whole journal says of each."""


@asynccontextmanager
async def agent(
    folder: Path, world: World, at: datetime
) -> AsyncIterator[tuple[CommandScheduler, MemoryGateway, WorldActions]]:
    """On the state file of a folder, starting at that time."""
    loop = asyncio.get_running_loop()
    begun = loop.time()

    def now() -> datetime:
        return at + timedelta(seconds=loop.time() - begun)

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
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
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
        async with agent(before, world, datetime.now(UTC)) as (scheduler, gateway, actions):
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
            moment.at = datetime.now(UTC)
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


class Healed(NamedTuple):
    """What an agent has made of a file."""

    journal: str
    """The id of its journal."""
    known: set[str]
    """The commands that were in it when it had started."""
    open: set[str]
    """Those of them that had not ended."""
    states: dict[str, set[CommandState]]
    """What it said of each command, by name."""
    set_aside: bool
    files: float
    """How many damaged files it has counted."""
    entries: float
    """The same of entries of the journal."""


def counted(what: str) -> float:
    return REGISTRY.get_sample_value(f"atlhyper_agent_{what}_damaged_total") or 0.0


async def heal(folder: Path, moment: Moment) -> Healed:
    """Start an agent there, and ask it for what has not ended; nothing has happened twice or unsaid."""
    world = World(folder / "world.db")
    files, entries = counted("state"), counted("journal")
    async with agent(folder, world, moment.at) as (scheduler, gateway, actions):
        journal = scheduler.journal
        id_, open_ = journal.id, set(journal.open)
        known = {about.id for about in moment.commands.values() if journal.knows(about.id)}
        actions.hurry()
        asked = [about for about in moment.commands.values() if about.id not in moment.ended]
        gateway.hand_out(*(order(about, moment.journal) for about in asked))
        await until(lambda: all(gateway.ends(about.id) for about in asked), 40)
        await until(lambda: not journal.open and not journal.unconfirmed)
        assert journal.id == id_
        effects = world.effects()
        states = {name: gateway.states(about.id) for name, about in moment.commands.items()}
    world.close()
    for name, about in moment.commands.items():
        said = states[name] | ({moment.ended[about.id]} if about.id in moment.ended else set())
        if about.action == "change":
            assert effects.get(about.id, 0) <= 1, name
        if CommandState.SUCCEEDED in said and about.action == "change":
            assert effects.get(about.id) == 1, name
        if said <= {CommandState.REJECTED, CommandState.CANCELED, CommandState.EXPIRED}:
            assert about.id not in effects, name
    return Healed(
        id_,
        known,
        open_,
        states,
        (folder / "agent.db.damaged").exists(),
        counted("state") - files,
        counted("journal") - entries,
    )


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
    """Everything ends as it can, without anything unknown."""
    healed = await heal(copied(), moment)
    assert (healed.journal, healed.states) == (moment.journal, RIGHT)


def check(healed: Healed, moment: Moment, *, gone: bool) -> str:
    """What the agent may say with the journal that it has; what has become of the file.

    `gone`: there was no file any more, or an empty one.
    """
    told = healed.states
    assert (healed.set_aside, healed.files) in ((False, 0), (True, 1))
    if healed.journal == moment.journal:
        assert (healed.set_aside, healed.entries, told) == (False, 0, RIGHT)
        return "whole"
    if gone or healed.set_aside:
        assert (healed.known, healed.set_aside) == (set(), not gone)
    else:
        assert healed.entries >= 1
    for name, about in moment.commands.items():
        if about.id in healed.open:
            assert told[name] == RIGHT[name], name
        elif about.id in healed.known:  # it has ended; the end that was kept may be that it is damaged
            assert told[name] in (RIGHT[name], {CommandState.UNKNOWN}), name
        else:
            assert told[name] == (set() if about.id in moment.ended else {CommandState.UNKNOWN}), name
    return "gone" if gone else "set aside" if healed.set_aside else "in part"


@pytest.mark.parametrize(("suffix", "logged"), [("", True), ("", False), ("-wal", True)])
@pytest.mark.parametrize("damage", [flip, cut, blank, remove])
async def test_damaged(
    moment: Moment, copied: Callable[[], Path], suffix: str, logged: bool, damage: Damage
) -> None:
    """Wherever the damage is: at most one effect, and an end of each command that agrees with it.

    A journal that is whole goes on, and everything has its right end. One that is not has another id: the
    file was set aside and counted, or its damaged entries were; what was lost and is asked for again is
    unknown, what was kept ends as it would have. SQLite's log may be lost at any place, or gone before: what
    was only there is found out again.
    """
    fates: list[str] = []
    for place in range(1 if damage is remove else PLACES):
        folder = copied()
        file = folder / f"agent.db{suffix}"
        if not logged:
            (folder / "agent.db-wal").unlink()
        damage(file, random.Random(f"{suffix} {place}"))
        gone = not suffix and not (file.exists() and file.stat().st_size)
        try:
            fates.append(check(await heal(folder, moment), moment, gone=gone))
        except BaseException as error:
            error.add_note(f"place {place}, {folder}")
            raise
    if suffix:
        assert set(fates) == {"whole"}
    else:
        assert {flip: "in part", remove: "gone"}.get(damage, "set aside") in fates
