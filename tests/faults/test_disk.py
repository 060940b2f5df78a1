"""Disks that are full or fail: told, nothing acknowledged is lost, and all goes on when they are well."""

from pathlib import Path

import pytest

from tests.faults.disk import MOUNTS
from tests.faults.scenario import Plan, run
from tests.faults.shim import COMPILER

pytestmark = [pytest.mark.timeout(900), pytest.mark.cluster]


@pytest.mark.skipif(not MOUNTS, reason="only root on Linux mounts a small disk")
async def test_any_disk_may_be_full(tmp_path: Path) -> None:
    """The disks of agent, broker and database in turn, under load: each is told within 10 s.

    The broker needs a restart besides the room. Every invariant holds.
    """
    names = ("agent-disk-full", "broker-disk-full", "database-disk-full")
    result = await run(tmp_path / "run", 1, Plan(faults=names, shuffled=False))
    assert result.verdict == "held", result.text()


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler, on Linux")
async def test_a_disk_may_fail(tmp_path: Path) -> None:
    """Each write of the agent, then of master and API, ends with EIO for a while, under load.

    Each is told within 10 s, the API goes on to answer, and nothing has to be restarted. Every invariant
    holds.
    """
    names = ("agent-disk-fails", "database-disk-fails")
    result = await run(tmp_path / "run", 1, Plan(faults=names, shuffled=False))
    assert result.verdict == "held", result.text()
