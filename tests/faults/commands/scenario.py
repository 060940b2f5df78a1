"""One run: commands under way, kills in turn by a seed, and what must hold of every command afterwards."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.faults import invariants as of_the_system
from tests.faults.commands import invariants, steps
from tests.faults.commands.driver import Driver
from tests.faults.commands.effects import AuditLog
from tests.faults.commands.history import Ended, History
from tests.faults.commands.rest import Rest
from tests.faults.commands.steps import Step
from tests.faults.commands.world import World
from tests.faults.kube import administrator
from tests.faults.report import markdown
from tests.faults.system import SHORT, System

SETTLED = 60.0
"""Seconds after the last end within which nothing is open any more."""
RECOVERY = 30.0
"""Seconds within which a command that is asked for after a kill is carried out."""
GRACE = 2.0
"""Seconds after `finish_by` for which the master waits for a result."""
VARIABLES = SHORT | {
    "AGENT_READ_ONLY": "false",
    "AGENT_DYNAMIC": "read:*,write:configmaps@commands",
    "MASTER_COMMAND_RESEND_INTERVAL": "2s",
    "MASTER_COMMAND_GRACE": f"{GRACE:g}s",
}
HEARD_LONG = VARIABLES | {"AGENT_HEARTBEAT_INTERVAL": "60s"}
"""Nothing is sent to an agent that is lost: one that is cut off, or down, is so after three minutes."""

Say = Callable[[str], None]


@dataclass(slots=True)
class StepRow:
    """One kill. Seconds."""

    step: Step
    under_way: int
    """Commands."""
    recovered: float | None = None
    """Until a command asked for after the kill had succeeded; None: not measured, or not within the limit."""

    def text(self) -> str:
        """For a terminal."""
        recovered = "" if self.recovered is None else f", recovered in {self.recovered:.1f} s"
        return f"{self.step.point}, {self.step.victim}: {self.under_way} under way{recovered}"


@dataclass(slots=True)
class Result:
    """One run."""

    seed: int
    rows: list[StepRow] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    """How many commands have ended in which."""
    effects: int = 0
    """Commands that the API server has carried out."""
    calls: int = 0
    """Of the REST API."""
    unanswered: int = 0
    """Of these: they were repeated, what asks for a command under its key."""
    violations: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For a terminal or a failing test."""
        ends = ", ".join(f"{count} {state}" for state, count in self.states.most_common())
        verdict = "violated" if self.violations else "held"
        first = (
            f"seed {self.seed}: {verdict}; {self.states.total()} commands ({ends}), {self.effects} effects, "
            f"{self.calls} calls, {self.unanswered} of them without an answer"
        )
        return "\n".join([first, *(f"violated: {what}" for what in self.violations)])


@dataclass(slots=True)
class Stage:
    """What a run has at hand."""

    system: System
    world: World
    rest: Rest
    driver: Driver
    audit: AuditLog
    dice: random.Random


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    seed: int,
    *,
    seconds: float = 60.0,
    whims: bool = True,
    variables: Mapping[str, str] = VARIABLES,
    modules: Mapping[str, str] | None = None,
) -> AsyncIterator[Stage]:
    """A system with the objects that commands are about. `seconds`, `whims`: see World."""
    dice = random.Random(seed)
    async with (
        System(folder, seed, variables, modules=modules) as system,
        administrator(system.plane, connections=steps.MOST + 4, seconds=20.0) as session,
    ):
        world = World(session, system.plane.layout.url("etcd"), dice, seconds, whims=whims)
        await world.prepare()
        rest = Rest(system, History(folder / "commands.jsonl"))
        async with Driver(rest, world, seed) as driver:
            yield Stage(system, world, rest, driver, AuditLog(system.plane.layout.audit_log), dice)


async def run(
    folder: Path,
    seed: int,
    kills: Sequence[Step],
    say: Say = print,
    *,
    measured: bool = False,
    variables: Mapping[str, str] = VARIABLES,
    modules: Mapping[str, str] | None = None,
) -> Result:
    """All kills in turn on one system; never raises for what the system does wrong, that is in the result.

    `measured`: wait after each until work goes on.
    """
    say(f"seed {seed}")
    result = Result(seed)
    async with stage(folder, seed, variables=variables, modules=modules) as on:
        for step in kills:
            try:
                row = StepRow(step, await steps.take(step, on.system, on.driver, on.dice))
            except (TimeoutError, AssertionError) as wrong:
                result.violations.append(f"{step.point}, {step.victim}: {str(wrong) or 'was not reached'}")
                continue
            result.rows.append(row)
            if measured:
                row.recovered = await _recovery(on)
                if row.recovered is None:
                    result.violations.append(f"{step.point}, {step.victim}: nothing succeeds any more")
            say(f"  {row.text()}")
            on.audit.read()  # before it is full
        await check(on, result)
    return result


async def _recovery(on: Stage) -> float | None:
    """Seconds until a command that is asked for now has succeeded."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        async with asyncio.timeout(RECOVERY):
            while (await on.driver.one(await on.world.restart())).state != "succeeded":
                pass
    except TimeoutError:
        return None
    return loop.time() - start


async def check(on: Stage, result: Result) -> None:
    """Wait for the end of all commands, and hold every invariant against what there is."""
    await on.driver.finish()
    told = await _settled(on.system)
    commands = on.driver.commands
    effects = on.audit.of_commands([command.id for command in commands if command.id])
    by_agent = [effect for effect in on.audit.effects if effect.user == invariants.AGENT]
    result.states.update(command.state or "refused" for command in commands)
    result.effects += len(invariants.effective(commands, effects))
    result.calls, result.unanswered = on.rest.history.calls, on.rest.history.ended[Ended.UNKNOWN]
    keys = await on.system.audit.command_keys()
    result.violations += [
        *on.driver.wrong,
        *invariants.at_most_once(commands, effects, by_agent),
        *invariants.ended_once(commands, await on.system.audit.command_steps(), GRACE),
        *invariants.none_missing(commands, keys),
        *invariants.recorded(on.rest.history.entries(), keys),
        *invariants.as_asked(commands, effects),
        *invariants.honest(commands, effects),
        *await invariants.whole(on.world, commands, effects),
        *of_the_system.alive(on.system),
        *told,
    ]


async def _settled(system: System) -> list[str]:
    loop = asyncio.get_running_loop()
    start = loop.time()
    while (told := await _open(system)) and loop.time() - start < SETTLED:
        await asyncio.sleep(0.5)
    return told


async def _open(system: System) -> list[str]:
    try:
        return await invariants.settled(system)
    except (aiohttp.ClientError, TimeoutError) as error:
        return [f"the API does not answer: {error}"]


def table(results: Sequence[Result]) -> str:
    """Markdown over several runs: per step and victim how often, and how soon work went on."""
    rows: dict[Step, list[StepRow]] = {}
    for result in results:
        for row in result.rows:
            rows.setdefault(row.step, []).append(row)
    cells = []
    for step, found in rows.items():
        times = sorted(row.recovered for row in found if row.recovered is not None)
        middle, longest = (f"{times[len(times) // 2]:.1f} s", f"{times[-1]:.1f} s") if times else ("–", "–")
        fewest = str(min(row.under_way for row in found))
        cells.append((step.point.value, step.victim, str(len(found)), fewest, middle, longest))
    head = ("step", "killed with -9", "times", "fewest commands under way", "recovered in", "longest")
    return markdown(head, cells)
