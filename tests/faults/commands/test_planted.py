"""The harness can fail: a bug on purpose in the agent's custody of commands is seen by name."""

from pathlib import Path

import pytest

from services.runtime.failpoints import Point
from tests.faults import planted as of_the_system
from tests.faults.commands import planted, store
from tests.faults.commands.scenario import HEARD_LONG, VARIABLES, Result, check, run, stage
from tests.faults.commands.steps import Step
from tests.faults.load import Load

pytestmark = [pytest.mark.timeout(900), pytest.mark.cluster]

PLANTED = {"agent": "tests.faults.commands.planted"}
KILLS = [Step(Point.COMMAND_AFTER_EFFECT, "agent")] * 2


@pytest.mark.parametrize("bug", ["acknowledged-before-fsync", "rerun-without-looking"])
async def test_an_effect_that_is_forgotten_is_seen(bug: str, tmp_path: Path) -> None:
    """An agent with a bug is killed with -9 after an effect: some command has a second one or, where it can't
    be done twice or it is too late by then, ends as if it had none.
    """
    variables = VARIABLES | {of_the_system.VARIABLE: bug}
    result = await run(tmp_path / "run", 1, KILLS, variables=variables, modules=PLANTED)
    seen = ("2 effects of", "has an effect", "has changed nothing")
    assert any(text in violation for text in seen for violation in result.violations), result.text()


async def test_a_result_that_is_forgotten_is_seen(tmp_path: Path) -> None:
    """An agent forgets what the broker has, and the broker's store goes before the master has read it."""
    variables = HEARD_LONG | {of_the_system.VARIABLE: "dropped-at-the-brokers-ack"}
    result = Result(1)
    async with (
        stage(tmp_path / "run", 1, whims=False, variables=variables, modules=PLANTED) as on,
        Load(on.system.plane, on.system.recorder, 1, 30.0) as load,
    ):
        await load.prepare()
        load.begin()
        await store.delete_with_unread_results(on)
        await load.end()
        await check(on, result)
    seen = ("2 effects of", "its result was lost", "has an effect", "has not ended")
    assert any(text in violation for text in seen for violation in result.violations), result.text()


def test_every_bug_is_planted_somewhere() -> None:
    """None is left out above."""
    assert set(planted.BUGS) == {
        "acknowledged-before-fsync",
        "dropped-at-the-brokers-ack",
        "rerun-without-looking",
    }
