"""Reports that break the contract, from an agent with its own credential: they stop nobody else's."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from schemas import registry, subjects, topology
from schemas.commands import CommandCompleted, CommandState
from schemas.envelope import Envelope
from schemas.registry import EventType
from tests.bus.fixtures import AGENTS, Connect
from tests.master.commanding import Commands, command_for
from tests.master.conftest import Fleet
from tests.master.duty import Takers, at_work
from tests.waiting import until

pytestmark = pytest.mark.timeout(90)

A, B = AGENTS
GOOD = "2026-11-22T04:00:00Z"
TIMES = ["2026-11-22T04:00:00", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"]
END = {"state": "succeeded", "success": True, "data": None, "executed_at": GOOD}
STEP = {"sequence": 1, "message": "", "at": GOOD}
HUGE = msgspec.Raw(str(10**30).encode())
BAD: list[tuple[EventType[Any], dict[str, Any]]] = [
    *((registry.COMMAND_RECEIVED, {"journal": "j", "at": time}) for time in TIMES),
    *((registry.COMMAND_STARTED, {"at": time}) for time in TIMES),
    *((registry.COMMAND_PROGRESSED, STEP | {"at": time}) for time in TIMES),
    (registry.COMMAND_PROGRESSED, STEP | {"sequence": HUGE}),
    (registry.PART_PUBLISHED, {"index": HUGE, "count": HUGE, "data": ""}),
    *((registry.COMMAND_COMPLETED, END | {"executed_at": time}) for time in TIMES),
    (registry.COMMAND_COMPLETED, END | {"parts": HUGE}),
]


@pytest.mark.usefixtures("own_broker")  # the dead letters of other tests are none of these
async def test_they_are_dead_letters_at_once(fleet: Fleet, bus: Connect) -> None:
    """None of them is tried again: the result of another agent that comes behind them waits for nothing."""
    commands, operator = Commands(fleet.db), await bus("operator")
    async with AsyncExitStack() as stack, at_work(await bus("master"), fleet.db, 30.0):
        takers = Takers(bus, fleet.db, stack)
        attacker, other = await takers.meet(A), await takers.meet(B)
        about, good = command_for(A), command_for(B)
        for command in (about, good):
            await commands.accept(command)

        async def sent() -> bool:
            return set((await commands.states()).values()) == {CommandState.SENT}

        await until(sent, 20)
        before = _retries()
        for event_type, body in BAD:
            envelope = Envelope(
                type=event_type.name,
                source=subjects.agent_source(A),
                data=msgspec.json.encode({"command_id": about.id} | body),
            )
            await attacker.bus.publish(subjects.result(A, about.id), envelope)
        end = CommandCompleted(
            command_id=good.id, state=CommandState.SUCCEEDED, success=True, executed_at=datetime.now(UTC)
        )
        await other.report(registry.COMMAND_COMPLETED, end)

        async def stored() -> bool:
            return await commands.state(good.id) is CommandState.SUCCEEDED

        await until(stored, 20)
        assert _retries() == before
        assert await commands.state(about.id) is CommandState.SENT
        info = await operator.api(f"$JS.API.STREAM.INFO.{topology.DEAD_LETTERS.name}")
        assert info["state"]["messages"] == len(BAD)


def _retries() -> float:
    labels = {"stream": topology.RESULTS.name}
    return REGISTRY.get_sample_value("atlhyper_consumer_retries_total", labels) or 0.0
