"""A simulated agent that takes commands: it says of each at once that it is done, and has nothing behind it.

What it says travels as the agent's own reports do, through the same gateway.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.processes import Rest
from schemas.actions import ACTIONS, capability
from schemas.commands import CommandCompleted, CommandReceived, CommandStarted, CommandState
from schemas.ids import Target, uuid7
from schemas.presence import Health, Heartbeat
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.commands import BusCommands
from services.agent.gateway.interfaces import Order, Report
from services.runtime.bus.client import Bus

INTERVAL = 15.0
"""Seconds between heartbeats."""


async def run(bus: Bus, target: Target) -> None:
    """Until cancelled."""
    gateway = BusGateway(bus, target)
    commands = BusCommands(bus, target, gateway, poll_interval=1.0, patience=60.0)
    beat = _heartbeat(target)

    async def handle(orders: Sequence[Order]) -> None:
        for order in orders:
            await commands.acknowledge(order)
            await commands.publish_reports(order.command.id, _reports(order, beat.journal), again=False)

    async with asyncio.TaskGroup() as group:
        group.create_task(commands.take_commands(handle))
        while True:
            await gateway.beat(beat)
            await asyncio.sleep(INTERVAL)


async def ready(rest: Rest, targets: Sequence[Target], seconds: float) -> None:
    """Until the api knows every one of them."""
    async with asyncio.timeout(seconds):
        while not {target.id for target in targets} <= (await rest.agents()).keys():  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.2)


def _heartbeat(target: Target) -> Heartbeat:
    return Heartbeat(
        version="0.1.0",
        instance=f"instance-{target.id}",
        platform="v1.36.3",
        epoch=uuid7(),
        interval=INTERVAL,
        read_only=False,
        journal=uuid7(),
        capabilities=[capability(action) for action in ACTIONS[target.kind]],
        health=Health(healthy=True, status="running", start_time=datetime.now(UTC)),
        collection=[],
        counters={},
    )


def _reports(order: Order, journal: str) -> list[Report]:
    now = datetime.now(UTC)
    command_id = order.command.id
    completed = CommandCompleted(
        command_id=command_id, state=CommandState.SUCCEEDED, success=True, executed_at=now
    )
    return [
        Report("received", CommandReceived(command_id=command_id, journal=journal, at=now), now),
        Report("started", CommandStarted(command_id=command_id, at=now), now),
        Report("completed", completed, now),
    ]
