"""The harness can fail: each invariant is broken by a bug on purpose, and it is seen by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import planted
from tests.faults.scenario import Plan, run
from tests.faults.system import SHORT
from tests.postgres.server import Postgres

pytestmark = [pytest.mark.timeout(600), pytest.mark.cluster]

PLANTED = {"master": "tests.faults.planted"}
SEEN_AS = {
    "skipped-frame": "sequence and version part",
    "sweep-without-synced": "the row of an object that was never deleted was removed",
    "deaf-to-deletions": "not equal after 5 s: configmaps",
    "deaf-but-mended": "the digest disagrees: configmaps",
    "lost-event": "Events on the bus are",
    "unreadable": "dead letters",
    "crash": "master ended with 3 on its own",
    "stale-owner": "the version falls",
}


FROZEN = Plan(faults=("replica master frozen",), replicas=2, outage=(planted.FREEZE + 4, planted.FREEZE + 4))


def _plan(bug: str) -> Plan:
    """No fault but the bug: a few seconds of load, and as many to become equal."""
    variables = SHORT | {planted.VARIABLE: bug, "AGENT_SNAPSHOT_FULL_INTERVAL": "5s"}
    if bug == "deaf-to-deletions":
        variables["AGENT_SNAPSHOT_FULL_INTERVAL"] = "1h"  # a new epoch would put it right
    if bug == "stale-owner":
        return replace(FROZEN, variables=variables)
    return Plan(faults=(), load=8.0, convergence=5.0, variables=variables)


@pytest.mark.parametrize("bug", sorted(planted.BUGS))
async def test_a_planted_bug_is_seen(bug: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A master with a bug in it violates the invariant that the bug is about."""
    postgres = request.getfixturevalue("postgres") if bug == "stale-owner" else None
    result = await run(tmp_path / "run", 1, _plan(bug), modules=PLANTED, postgres=postgres)
    assert result.verdict == "violated", result.text()
    assert any(SEEN_AS[bug] in violation for violation in result.violations), result.text()


async def test_an_owner_that_was_frozen_does_no_harm(tmp_path: Path, postgres: Postgres) -> None:
    """With the fence it cannot do what the stale owner does: another takes over, nothing is violated."""
    variables = SHORT | {planted.VARIABLE: "no-bug-but-frozen"}
    plan = replace(FROZEN, variables=variables)
    result = await run(tmp_path / "run", 1, plan, modules=PLANTED, postgres=postgres)
    assert not result.violations, result.text()
    log = (tmp_path / "run" / "master.log").read_text()
    assert "lease lost" in log or "leases could not be renewed in time" in log


async def test_without_a_bug_nothing_is_violated(tmp_path: Path) -> None:
    """The same run without a bug holds: what the others report is not the harness' own doing."""
    plan = Plan(faults=(), load=8.0, variables=SHORT | {"AGENT_SNAPSHOT_FULL_INTERVAL": "5s"})
    result = await run(tmp_path / "run", 1, plan)
    assert not result.violations, result.text()


async def test_a_run_without_load_is_void(tmp_path: Path) -> None:
    """Faults that met no load prove nothing, and the run says so."""
    result = await run(tmp_path / "run", 1, Plan(faults=("api-killed",), rate=10.0, patience=1.0))
    assert result.verdict == "void", result.text()
    assert "api-killed" in result.void
