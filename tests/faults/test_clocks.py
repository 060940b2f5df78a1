"""Clocks that are wrong: the broker's is the only one that decides, and Events bring their own times."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.faults import clocks
from tests.faults.scenario import Plan, run
from tests.faults.shim import COMPILER
from tests.faults.system import System
from tests.postgres.server import Postgres

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.cluster,
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler, on Linux"),
]


async def test_any_clock_may_be_wrong(tmp_path: Path) -> None:
    """The agent runs an hour ahead and all others an hour behind, and the other way round, under load.

    A live agent stays live and a silent one is told as lost, `as_of` is now, Events keep the times that the
    API server has given them, and every invariant holds. Commands end as if all clocks were right, also with
    a database an hour off the broker.
    """
    plan = Plan(faults=("clocks-agent-ahead", "clocks-agent-behind"), outage=(1.0, 1.0), calm=1.0)
    result = await run(tmp_path / "run", 1, plan)
    assert result.verdict == "held", result.text()


async def test_commands_with_any_clock_wrong(tmp_path: Path, postgres: Postgres) -> None:
    """Agent, master and api each an hour ahead and behind, by clocks that differ, as on hosts of their own.

    A command is done once and its times are the database's; one that is too late is refused, or expires at
    its moment. What SQLite cannot have: master and api with clocks of their own, for it has none.
    """
    hour = clocks.HOUR
    async with System(tmp_path / "run", 1, postgres=postgres, shimmed=True) as system:
        for shift in (hour, -hour):
            await clocks.set_clocks(system, {"agent": shift, "master": -shift, "api": shift})
            await clocks.judge_commands(system, database=timedelta(0))
