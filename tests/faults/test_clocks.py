"""Clocks that are wrong: the broker's is the only one that decides, and Events bring their own times."""

from pathlib import Path

import pytest

from tests.faults.scenario import Plan, run
from tests.faults.shim import COMPILER

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.cluster,
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler, on Linux"),
]


async def test_any_clock_may_be_wrong(tmp_path: Path) -> None:
    """The agent runs an hour ahead and all others an hour behind, and the other way round, under load.

    A live agent stays live and a silent one is told as lost, `as_of` is now, Events keep the times that the
    API server has given them, and every invariant holds.
    """
    plan = Plan(faults=("clocks-agent-ahead", "clocks-agent-behind"), outage=(1.0, 1.0), calm=1.0)
    result = await run(tmp_path / "run", 1, plan)
    assert result.verdict == "held", result.text()
