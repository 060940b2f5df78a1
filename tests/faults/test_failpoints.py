"""Each named step of the code may be the last one of its process."""

import base64
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas import registry, subjects, topology
from schemas.deadletter import DeadLetter
from services.runtime import failpoints
from services.runtime.bus import client
from services.runtime.failpoints import Point
from tests.faults.catalogue import STEPS
from tests.faults.commands.steps import POINTS
from tests.faults.scenario import Plan, run
from tests.faults.system import System
from tests.postgres.server import Postgres
from tests.waiting import until

pytestmark = [pytest.mark.timeout(900), pytest.mark.cluster]


async def test_any_step_may_be_the_last_one(tmp_path: Path) -> None:
    """At every failpoint in turn the process is killed with -9 under load, and every invariant holds."""
    plan = Plan(faults=STEPS, outage=(1.0, 1.5), calm=0.5, patience=0.0)
    result = await run(tmp_path / "run", 1, plan)
    # No void for a slow moment of the machine: all steps but the takeover are reached by load anyway.
    assert not result.violations + result.untouched, result.text()
    assert {row.name for row in result.rows} == set(STEPS)


def test_every_failpoint_belongs_to_a_test() -> None:
    """Each is a step of what is observed or of a command; that of operations is in tests/e2e."""
    assert set(STEPS) | set(POINTS) | {Point.OPERATION_AFTER_STEP} == set(Point)


async def test_a_takeover_may_end_at_once(tmp_path: Path, postgres: Postgres) -> None:
    """Of two masters one dies holding leases whose work it has not begun: the other has it within 10 s."""
    plan = Plan(faults=("replica master killed in takeover",), replicas=2, outage=(4.0, 4.0))
    result = await run(tmp_path / "run", 1, plan, postgres=postgres)
    assert result.verdict == "held", result.text()


async def test_a_dead_letter_that_was_not_acknowledged_is_one_row(tmp_path: Path) -> None:
    """The API is killed with -9 when it has stored a dead letter and not acknowledged it: it is delivered
    again to the next API, and is shown once.
    """
    letter = DeadLetter(
        reason="planted",
        consumer="master",
        subject="atlhyper.up.kubernetes.faulty.heartbeat",
        stream=topology.HEARTBEATS.name,
        stream_sequence=1,
        received_at=datetime.now(UTC),
        headers={},
        body=base64.b64encode(b"unreadable"),
    )
    async with System(tmp_path / "run", 1) as system:
        api = system.services["api"]
        await api.stop()
        await api.start(**{failpoints.VARIABLE: f"{Point.CONSUMER_BEFORE_SETTLE}:1:kill"})
        async with client.connect(system.settings, "master", name="harness", wait=True) as bus:
            await bus.wait_connected()
            source = subjects.service_source("master", bus.name)
            envelope = registry.MESSAGE_REJECTED.envelope(letter, source=source)
            await bus.publish(subjects.service_dead("master"), envelope)
        await until(lambda: api.exits)
        await system.until_ready(second=True)

        async def acknowledged() -> bool:
            metrics = await system.metrics("api")
            return any("consumer_lag" in name and value == 0 for name, value in metrics.items())

        await until(acknowledged)
        assert [end.code for end in api.exits] == [-signal.SIGKILL]
        assert [item["reason"] for item in (await system.get("/dead-letters"))["items"]] == ["planted"]
