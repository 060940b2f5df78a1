"""Each named step of the code may be the last one of its process."""

from pathlib import Path

import pytest

from services.runtime.failpoints import Point
from tests.faults.scenario import Plan, run

pytestmark = [pytest.mark.timeout(240), pytest.mark.cluster]


async def test_any_step_may_be_the_last_one(tmp_path: Path) -> None:
    """At every failpoint in turn the process is killed with -9 under load, and every invariant holds."""
    plan = Plan(faults=tuple(Point), outage=(0.0, 1.0), calm=0.5)
    result = await run(tmp_path / "run", 1, plan)
    assert result.verdict == "held", result.text()
    assert {row.name for row in result.rows} == set(Point)
