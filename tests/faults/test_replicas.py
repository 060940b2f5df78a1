"""Any replica may be killed: two masters and two apis on PostgreSQL."""

from pathlib import Path

import pytest

from tests.faults.catalogue import HAD_THE_SHARD
from tests.faults.scenario import Plan, run
from tests.faults.system import SHORT
from tests.postgres.server import Postgres

pytestmark = [pytest.mark.timeout(900), pytest.mark.cluster]


async def test_any_replica_may_be_killed(tmp_path: Path, postgres: Postgres) -> None:
    """Masters and apis are killed with -9 in turn, leases are as by default: work goes on within 10 s.

    No sequence is skipped or applied twice, and all is equal in the end.
    """
    names = [f"replica {name} killed" for name in ("master", "master-2", "api", "api-2")]
    variables = SHORT | {"MASTER_LEASE": "6s"}
    plan = Plan(faults=names, replicas=2, outage=(8.0, 10.0), variables=variables)
    result = await run(tmp_path / "run", 1, plan, postgres=postgres)
    assert result.verdict == "held", result.text()
    assert any(row.choice == HAD_THE_SHARD for row in result.rows), result.text()
    assert all(row.recovered is not None and row.recovered <= 10 for row in result.rows), result.text()
