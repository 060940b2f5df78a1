"""Commands while processes, the broker and its store go: each has at most one effect and exactly one end."""

from pathlib import Path

import pytest

from services.runtime.bus import client, topology
from tests.faults import invariants as of_the_system
from tests.faults.commands import store
from tests.faults.commands.scenario import HEARD_LONG, Result, check, run, stage
from tests.faults.commands.steps import EACH, FEWEST
from tests.faults.load import Load
from tests.faults.system import System
from tests.waiting import until

pytestmark = [pytest.mark.timeout(2400), pytest.mark.cluster]


async def test_any_step_of_a_command_may_be_the_last_one(tmp_path: Path) -> None:
    """With 20 commands or more under way each process is killed with -9 at each of its steps, and the broker
    at each step of anybody's: no command has two effects, none is lost, each has one end, and it is
    the truth.
    """
    result = await run(tmp_path / "run", 1, EACH)
    assert not result.violations, result.text()
    assert [row.step for row in result.rows] == list(EACH)
    assert min(row.under_way for row in result.rows) >= FEWEST >= 20
    assert result.states["succeeded"] > result.states.total() / 2, result.text()


async def test_the_brokers_store_may_be_deleted(tmp_path: Path) -> None:
    """It is deleted once with commands in it that the agent has not fetched, and once with results and Events
    that the master has not read: none is lost, none has two effects or rows, streams and consumers are made
    again.
    """
    result = Result(1)
    async with (
        stage(tmp_path / "run", 1, seconds=240, whims=False, variables=HEARD_LONG) as on,
        Load(on.system.plane, on.system.recorder, 1, 30.0) as load,
    ):
        await load.prepare()
        load.begin()
        await on.driver.keep(lambda: any(command.ended for command in on.driver.commands), 60)
        await store.delete_with_unfetched_commands(on)
        await store.delete_with_unread_results(on)
        await load.end()
        await check(on, result)
        await until(lambda: _events_are_kept(on.system), 60)
        assert await _differences(on.system) == []
    assert not result.violations, result.text()
    assert result.states == {"succeeded": len(on.driver.commands)}, result.text()


async def _events_are_kept(system: System) -> bool:
    return not await of_the_system.events_kept(system, (await of_the_system.truth(system))["events"])


async def _differences(system: System) -> list[topology.Change]:
    async with client.connect(system.settings, "operator", name="harness") as bus:
        return await topology.diff(bus)
