"""Single steps of a command's way, each of which may be the last one of a process or of the broker."""

import contextlib
import random
from dataclasses import dataclass

from services.runtime import failpoints
from services.runtime.failpoints import Point
from tests.faults.commands.driver import Driver
from tests.faults.system import System

POINTS = tuple(point for point in Point if {"command", "cancel"} & set(point.split(".")))
"""Every failpoint of a command's way, and of the wish for its end."""
BROKER = "broker"
FEWEST = 20
"""Commands that a kill has to meet, or it proves nothing."""
REACHED = 60.0
"""Seconds within which commands take a process to its step; it starts first."""
MOST = 4
"""The pass at which it is held is one of the first so many; before its own kill, also at all that follow."""
HELD = 1.5
"""Seconds that a process stays at its step when another one is killed."""
MET = 1.0
"""Seconds within which commands are asked for in place of those that have ended just before the step; ten
times that before its own kill, which ends the hold."""
WISHED = 0.3
"""Share of the commands that somebody wants ended, on the way to a step of such a wish."""
TRIES = 10
"""Times that a process is taken to its step until the kill meets enough."""


@dataclass(frozen=True, slots=True)
class Step:
    """`victim` is killed with -9 while the process of `point` is at it."""

    point: Point
    victim: str

    @property
    def process(self) -> str:
        """Whose code has the point."""
        return self.point.partition(".")[0]


EACH = tuple(Step(point, victim) for point in POINTS for victim in (point.partition(".")[0], BROKER))
"""Each process at each step of its own, and the broker at each step of anybody's."""

ALL = tuple(Step(point, victim) for point in POINTS for victim in ("agent", "master", "api", BROKER))
"""Every process and the broker at each step of anybody's."""


async def take(step: Step, system: System, driver: Driver, dice: random.Random) -> int:
    """Have commands under way until the step is reached, and kill; how many the kill has met.

    The victim starts again as ever. Raises TimeoutError, AssertionError when the process did not stay there,
    or never with enough of them.
    """
    met = 0
    with driver.world.more_canceled(WISHED if ".cancel." in step.point else 0.0):
        for _ in range(TRIES):
            met = await _hold(step, system, driver, dice.randint(1, MOST))
            if met >= FEWEST:
                break
    assert met >= FEWEST, f"the kill would meet {met} commands only, and did not meet more in {TRIES} tries"
    if step.victim == BROKER:
        await system.kill_broker()
        await system.start_broker()
    else:
        await system.services[step.victim].kill()
        await system.services[step.victim].start()
    return met


async def _hold(step: Step, system: System, driver: Driver, nth: int) -> int:
    """Start the process anew and have it held at its step; how many are under way then."""
    process, met = system.services[step.process], 0
    own = step.victim == step.process
    passes, held, patience = (FEWEST, REACHED, 10 * MET) if own else (1, HELD, MET)
    holds = [f"{step.point}:{number}:sleep={held:g}" for number in range(nth, nth + passes)]

    async def enough() -> bool:
        nonlocal met
        met = await under_way(step, system, driver)
        return met >= FEWEST

    if step.process == "api":  # without it nothing can be asked for, and what there is ends
        await driver.keep(enough, REACHED)
        await process.kill()
    else:
        await process.kill()
        await driver.keep(enough, REACHED)  # it starts into them
    written = process.log.stat().st_size
    await process.start(**{failpoints.VARIABLE: ",".join(holds)})
    pid = process.pid

    def reached() -> bool:
        with process.log.open("rb") as log:
            log.seek(written)
            return f'"{step.point}"'.encode() in log.read()

    await driver.keep(reached, REACHED)
    with contextlib.suppress(TimeoutError):
        await driver.keep(enough, patience)
    assert process.pid == pid, f"{process.name} ended at {step.point}:\n{process.tail()}"
    return met


async def under_way(step: Step, system: System, driver: Driver) -> int:
    """Commands that are accepted and have not ended, by the database: nobody has to have seen the end.

    At a step of the API also those that were asked for and have no answer: it begins with these when it is
    started, and what it had accepted before has ended by then.
    """
    begun = [command for command in driver.commands if command.id or step.process == "api"]
    return len(begun) - await system.audit.ended_commands()
