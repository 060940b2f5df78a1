"""Each named step of the code may be the last one of its process."""

from pathlib import Path

import pytest

from services.runtime.failpoints import Point
from tests.faults.scenario import Plan, run
from tests.postgres.server import Postgres

pytestmark = [pytest.mark.timeout(300), pytest.mark.cluster]


async def test_any_step_may_be_the_last_one(tmp_path: Path) -> None:
    """At every failpoint in turn the process is killed with -9 under load, and every invariant holds."""
    plan = Plan(faults=tuple(Point), outage=(1.0, 1.5), calm=0.5)
    result = await run(tmp_path / "run", 1, plan)
    # No void for a slow moment of the machine: all steps but the takeover are reached by load anyway.
    assert not result.violations + result.untouched, result.text()
    assert {row.name for row in result.rows} == set(Point)


async def test_a_takeover_may_end_at_once(tmp_path: Path, postgres: Postgres) -> None:
    """Of two masters one dies holding leases whose work it has not begun: the other has it within 10 s."""
    plan = Plan(faults=("replica master killed in takeover",), replicas=2, outage=(4.0, 4.0))
    result = await run(tmp_path / "run", 1, plan, postgres=postgres)
    assert result.verdict == "held", result.text()
