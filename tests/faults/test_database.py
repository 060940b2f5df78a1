"""The database may be locked, or away: told, nothing acknowledged is lost, and all goes on by itself."""

from pathlib import Path

import pytest

from tests.faults.scenario import Plan, run
from tests.postgres.server import Postgres

pytestmark = [pytest.mark.timeout(900), pytest.mark.cluster]


async def test_the_database_may_be_locked(tmp_path: Path) -> None:
    """Another process holds SQLite's lock under load: the master says so within 10 s, and the API answers.

    Every invariant holds.
    """
    plan = Plan(faults=("database-locked",))
    result = await run(tmp_path / "run", 1, plan)
    assert result.verdict == "held", result.text()


async def test_the_database_may_be_killed(tmp_path: Path, own_postgres: Postgres) -> None:
    """PostgreSQL is killed with -9 under load and started again: master and API say so within 10 s.

    Every invariant holds.
    """
    plan = Plan(faults=("database-killed",))
    result = await run(tmp_path / "run", 1, plan, postgres=own_postgres)
    assert result.verdict == "held", result.text()
    assert "SIGKILL" in result.rows[0].choice
