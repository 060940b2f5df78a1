"""Commands that wait for each other: those that name one object, and no others."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.actions import ACTIONS
from schemas.commands import CommandObject
from schemas.ids import AgentKind
from services.agent.scheduler.commands.turns import Turns
from services.agent.scheduler.commands.work import Work
from services.agent.store.journal_rows import Entry
from services.cli.reference.actions import actions_page
from tests.agent.commands.desk import command

KUBERNETES = ACTIONS[AgentKind.KUBERNETES]
APPLIED = {"manifest": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}}
PATCHED = {"verb": "patch", "resource": "configmaps", "name": "a", "body": {}}


def about(action: str, **values: Any) -> object:
    """What others may have to wait for."""
    given = command(action, **values)
    now = datetime.now(UTC)
    entry = Entry(
        id=given.id, body=b"", extensions={}, stored_at=now, received_at=now, start_by=now, finish_by=now
    )
    return Work(given, KUBERNETES[action], entry).about


@pytest.mark.parametrize(("action", "params"), [("apply", APPLIED), ("dynamic", PATCHED)])
async def test_what_names_its_object_in_its_parameters_waits_for_none(
    action: str, params: dict[str, object]
) -> None:
    """Two of them about one object have their turn at a time, and the page of the action says so."""
    mine = about(action, object=CommandObject(), params=params)
    assert mine is None
    turns = Turns()
    async with asyncio.timeout(30), turns.turn(mine, long=False), turns.turn(mine, long=False):
        pass
    [page] = actions_page().values()
    told = page.partition(f"\n### `{action}`\n")[2].partition("\n### ")[0]
    assert "in either order" in told
    assert "may end as `unknown`" in told


async def test_what_names_one_object_waits() -> None:
    """The next one has its turn when the first one's is over; the page says that of no other action."""
    mine = about("restart", object=CommandObject(resource="deployments", namespace="a", name="b"))
    assert mine is not None
    turns = Turns()
    async with turns.turn(mine, long=False):
        second = turns.turn(mine, long=False)
        waiting = asyncio.create_task(second.__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(30):
        await waiting
    await second.__aexit__(None, None, None)
    [page] = actions_page().values()
    unqueued = [action for action in KUBERNETES.values() if not action.needs_object]
    assert page.count("do not queue per object") == len(unqueued) == 2
