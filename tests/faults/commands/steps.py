"""Single steps of a command's way, each of which may be the last one of a process or of the broker."""

import random
import signal
from dataclasses import dataclass

from services.runtime import failpoints
from services.runtime.failpoints import Point
from tests.faults.commands.driver import Driver
from tests.faults.system import System

POINTS = tuple(point for point in Point if ".command." in point)
"""Every failpoint of a command's way."""
BROKER = "broker"
REACHED = 60.0
"""Seconds within which commands take a process to its step; it starts first."""
MOST = 4
"""The pass at which it fails is one of the first so many."""
HELD = 1.5
"""Seconds that a process stays at its step when another one is killed."""


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
    """Have commands under way until the step is reached, and kill; how many were under way.

    The victim starts again as ever. Raises TimeoutError, AssertionError when it ended in another way.
    """
    process, nth = system.services[step.process], dice.randint(1, MOST)
    own = step.victim == step.process
    action = "kill" if own else f"sleep={HELD:g}"
    await process.kill()
    written = process.log.stat().st_size
    await process.start(**{failpoints.VARIABLE: f"{step.point}:{nth}:{action}"})
    ends = len(process.exits)

    def reached() -> bool:
        if own:
            return len(process.exits) > ends
        with process.log.open("rb") as log:
            log.seek(written)
            return f'"{step.point}"'.encode() in log.read()

    await driver.keep(reached, REACHED)
    under_way = driver.under_way
    if own:
        end = process.exits[-1]
        last = (end.tail.splitlines() or [""])[-1]
        assert end.code == -signal.SIGKILL, f"{end.name} ended with {end.code}:\n{end.tail}"
        assert f'"{step.point}"' in last, f"{end.name} was not at {step.point}:\n{end.tail}"
        process.exits.remove(end)  # what it was asked for
    elif step.victim == BROKER:
        await system.kill_broker()
        await system.start_broker()
    else:
        await system.services[step.victim].kill()
        await system.services[step.victim].start()
    return under_way
