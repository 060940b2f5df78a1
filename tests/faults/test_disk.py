"""Disks that are full: told, nothing acknowledged is lost, and all goes on when there is room."""

from pathlib import Path

import pytest

from tests.faults.disk import MOUNTS
from tests.faults.scenario import Plan, run

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.cluster,
    pytest.mark.skipif(not MOUNTS, reason="only root on Linux mounts a small disk"),
]


async def test_any_disk_may_be_full(tmp_path: Path) -> None:
    """The disks of agent, broker and database in turn, under load: each is told within 10 s.

    The broker needs a restart besides the room. Every invariant holds.
    """
    names = ("agent-disk-full", "broker-disk-full", "database-disk-full")
    result = await run(tmp_path / "run", 1, Plan(faults=names, shuffled=False))
    assert result.verdict == "held", result.text()
