"""Failpoints: off unless asked for, exact when they are."""

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime import failpoints
from services.runtime.errors import UserError
from services.runtime.failpoints import Failure, Point, arm, reach

NAME = Point.FRAMES_BEFORE_COMMIT.value
SERVICES = Path(failpoints.__file__).parents[1]


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm({})


async def _reached(times: int) -> int:
    """At which of so many times it raised; 0 for never."""
    for number in range(1, times + 1):
        try:
            await reach(Point.FRAMES_BEFORE_COMMIT)
        except Failure:
            return number
    return 0


def _called(code: str) -> Iterator[str]:
    """The arguments of `await reach(…)`, as they are written."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Await(value=ast.Call(func=ast.Name(id="reach"), args=[argument])):
                yield ast.unparse(argument)


def test_each_stands_at_one_place() -> None:
    """What is declared is what is reached, each by one line of the services."""
    called = [name for file in SERVICES.rglob("*.py") for name in _called(file.read_text())]
    assert sorted(called) == sorted(f"Point.{point.name}" for point in Point)


async def test_off_by_default() -> None:
    """Without the variable nothing happens."""
    arm({})
    assert await _reached(5) == 0


async def test_the_nth_time_and_only_then() -> None:
    """A plan acts once, at its number, and at its own point."""
    arm({failpoints.VARIABLE: f"{NAME}:3:raise"})
    await reach(Point.FRAMES_AFTER_COMMIT)
    assert await _reached(5) == 3
    assert await _reached(5) == 0


async def test_several_plans() -> None:
    """Plans are separated by commas; one sleeps and one raises."""
    arm({failpoints.VARIABLE: f"{NAME}:1:sleep=0.2, {NAME}:2:raise"})
    began = time.monotonic()
    assert await _reached(5) == 2
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no.such.point:1:kill", "there is no failpoint no.such.point"),
        (f"{NAME}:0:kill", "is no failpoint"),
        (f"{NAME}:1:explode", "is no failpoint"),
        (NAME, "is no failpoint"),
    ],
)
def test_a_mistake_is_told(text: str, told: str) -> None:
    """A name that does not exist, and what is no plan, is an error that names it."""
    with pytest.raises(UserError, match=told):
        arm({failpoints.VARIABLE: text})


def test_kill_is_sigkill() -> None:
    """`kill` leaves no chance to clean up."""
    code = (
        "import asyncio; from services.runtime.failpoints import Point, reach\n"
        "try: asyncio.run(reach(Point.FRAMES_BEFORE_COMMIT))\nfinally: print('cleaned up')"
    )
    environment = os.environ | {failpoints.VARIABLE: f"{NAME}:1:kill"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")


async def test_it_costs_nothing_when_off() -> None:
    """A point that is off costs less than a microsecond or so: it may stand in every transaction."""
    arm({})
    costs: list[float] = []
    for _ in range(100):  # the best of them: what else the machine does is no cost of the point
        began = time.perf_counter()
        for _ in range(200):
            await reach(Point.FRAMES_BEFORE_COMMIT)
        costs.append((time.perf_counter() - began) / 200)
    assert min(costs) < 10e-6
