"""The master, the api and the broker killed at the steps of commands: one effect, one end, none lost."""

import itertools
import shutil
import signal
from pathlib import Path

import pytest

from services.runtime.bus import client
from services.runtime.failpoints import Point
from tests.agent.test_commands_crashes import POINTS as OF_THE_AGENT
from tests.bus.fixtures import RunningBroker
from tests.master.crashing import Stage, stage
from tests.waiting import until

pytestmark = pytest.mark.timeout(1800)

TIMES = 5
"""Kills at each step."""
BURST = 20
"""Commands that an api is asked for before it is at its step: so many are to be under way, and while it was
away they have ended.
"""
OF_A_CANCEL = 5
"""The same of cancels: a part of the commands is canceled, each after it was accepted."""
POINTS = [point for point in Point if point.name.startswith(("COMMAND_", "RESULT_", "CANCEL_"))]
OF_THE_MASTER = [point for point in POINTS if point.startswith("master.")]
OF_THE_API = [point for point in POINTS if point.startswith("api.")]


@pytest.fixture
def database_url(tmp_path: Path, empty_database: Path) -> str:
    """One that has the tables and the tests' token."""
    return f"sqlite+aiosqlite:///{shutil.copy(empty_database, tmp_path / 'atlhyper.db')}"


def test_every_step_of_a_command_is_one_to_be_killed_at() -> None:
    """Here, or where the agent is killed."""
    assert {*OF_THE_AGENT, Point.CANCEL_AFTER_HEARD, *OF_THE_MASTER, *OF_THE_API} == {*POINTS}


async def test_the_master_may_be_killed_at_any_step(
    own_broker: RunningBroker, database_url: str, tmp_path: Path
) -> None:
    """When it is there for the first to the fifth time since its start, with 20 commands under way: each
    command has one effect and one end, in its time, and succeeds, or it was canceled and has no effect.
    """
    async with stage(own_broker, database_url, tmp_path) as on:
        for nth, point in itertools.product(range(1, TIMES + 1), OF_THE_MASTER):
            await kill_at(on, point, nth)
        await on.services["master"].start()
        await on.check()


async def test_the_api_may_be_killed_at_any_step(
    own_broker: RunningBroker, database_url: str, tmp_path: Path
) -> None:
    """The same of an api: whoever has no answer asks again under the same key."""
    async with stage(own_broker, database_url, tmp_path) as on:
        for nth, point in itertools.product(range(1, TIMES + 1), OF_THE_API):
            await kill_at(on, point, burst(point) + nth)
        await on.services["api"].start()
        await on.check()


@pytest.mark.parametrize("service", ["master", "api"])
async def test_the_broker_may_be_killed_at_any_step(
    own_broker: RunningBroker,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    service: str,
) -> None:
    """While a master or an api is at a step, five times at each."""
    monkeypatch.setattr(client, "RECONNECT_CAP", 0.5)  # of the agent: the broker never stays for long
    async with stage(own_broker, database_url, tmp_path) as on:
        for point in OF_THE_MASTER if service == "master" else OF_THE_API:
            await on.kill_broker_at(point, 1 if service == "master" else burst(point), TIMES)
        await on.services[service].kill()  # it would stay at its last step again and again
        await on.services[service].start()
        await on.check()


def burst(point: Point) -> int:
    """How often an api passes there, before it is held or killed, so that enough is under way."""
    return OF_A_CANCEL if point.name.startswith("CANCEL_") else BURST


async def kill_at(on: Stage, point: Point, nth: int) -> None:
    """Its process dies there when it comes by for the n-th time; it is left to others to start it again."""
    process = await on.begin_at(point, [nth], "kill")
    await until(lambda: process.ended is not None)
    assert process.ended == -signal.SIGKILL
    assert f'"{point.value}"' in process.log.splitlines()[-1]
