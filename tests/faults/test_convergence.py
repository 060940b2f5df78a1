"""The read model converges to the cluster, whatever breaks: seven faults in turn, under load."""

from pathlib import Path

import pytest

from tests.faults.catalogue import IN_TURN
from tests.faults.scenario import Plan, run

pytestmark = [pytest.mark.cluster]

SEEDS = (1, 2, 3)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
async def test_the_read_model_converges(seed: int, tmp_path: Path) -> None:
    """Under 100 changes a second of every kind every invariant holds, in whatever order the faults come.

    API server restarted, etcd compacted, a link cut, one half-open, broker, agent and master killed with -9.
    """
    result = await run(tmp_path / "run", seed, Plan())
    assert result.verdict == "held", result.text()
    assert {row.name for row in result.rows} == set(IN_TURN)


@pytest.mark.timeout(900)
async def test_the_broker_may_lose_its_store(tmp_path: Path) -> None:
    """The broker's data folder is deleted under load, twice: it converges again, and no Event is lost."""
    result = await run(tmp_path / "run", 1, Plan(faults=("broker-store-deleted",) * 2))
    assert result.verdict == "held", result.text()


@pytest.mark.timeout(900)
async def test_processes_that_hang_and_links_that_stutter(tmp_path: Path) -> None:
    """What neither lives nor dies: processes and API server stopped in their tracks, links stalled and reset;
    a token that ends: every invariant holds."""
    names = ("apiserver-hangs", "agent-hangs", "master-hangs", "link-stalled", "link-resets", "token-rotated")
    result = await run(tmp_path / "run", 4, Plan(faults=names))
    assert result.verdict == "held", result.text()
