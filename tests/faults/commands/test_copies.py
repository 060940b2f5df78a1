"""Copies of commands on the real stream: late, often and in any order, they change nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from schemas import subjects
from schemas.envelope import Envelope
from services.runtime.bus import client
from services.runtime.bus.client import Bus
from tests.faults.commands import invariants
from tests.faults.commands.scenario import HEARD_LONG, Result, Stage, check, stage
from tests.faults.commands.world import NAMESPACE
from tests.waiting import until

pytestmark = [pytest.mark.timeout(1500), pytest.mark.cluster]

COMMANDS = 500
TIMES = 20
"""Deliveries of each."""


@dataclass(slots=True)
class Copier:
    """Publishes again, as the master, what the master has published; the broker takes it for new."""

    bus: Bus
    heard: dict[str, tuple[str, Envelope]] = field(default_factory=dict)
    """Subject and envelope by command id."""
    copies: int = 0

    async def hear(self, subject: str, envelope: Envelope) -> None:
        """A subscriber to the commands."""
        self.heard.setdefault(envelope.id, (subject, envelope))

    async def copy(self, command_id: str) -> None:
        """One more delivery."""
        subject, envelope = self.heard[command_id]
        self.copies += 1
        await self.bus.publish(subject, envelope, message_id=f"{command_id}.copy-{self.copies}")


@asynccontextmanager
async def copier(on: Stage) -> AsyncIterator[Copier]:
    """It knows the commands that are sent from now on."""
    async with client.connect(on.system.settings, "master", name="harness copies", wait=True) as bus:
        await bus.wait_connected()
        found = Copier(bus)
        await on.system.reader.subscribe(subjects.commands(on.system.target), found.hear)
        yield found


async def test_a_copy_that_comes_after_a_newer_command_changes_nothing(tmp_path: Path) -> None:
    """A scale and a restart are delivered again when another scale and another restart of the same object
    have succeeded: the object stays as the newer ones have made it, version and all.
    """
    result = Result(1)
    async with stage(tmp_path / "run", 1, whims=False) as on, copier(on) as copies:
        about = ("deployments", NAMESPACE, "workload-0")
        commands = [
            await on.driver.one(on.world.wanted(action, *about, **params))
            for replicas in (1001, 1002)
            for action, params in (("scale", {"replicas": replicas}), ("restart", {}))
        ]
        assert [told.state for told in commands] == ["succeeded"] * 4
        older = commands[:2]
        before = await on.world.workload("workload-0")
        for _ in range(5):
            for told in older:
                await copies.copy(told.id)
        await until(lambda: _taken(on))
        assert await on.world.workload("workload-0") == before
        for told in older:
            await on.driver.follow(told)
        await check(on, result)
    assert not result.violations, result.text()
    assert (result.states, result.effects) == ({"succeeded": 4}, 4)


async def test_each_of_many_commands_delivered_many_times_has_one_effect(tmp_path: Path) -> None:
    """500 commands wait for their agent, each of them twenty times and all of them shuffled."""
    result = Result(1)
    async with (
        stage(tmp_path / "run", 1, seconds=240, whims=False, variables=HEARD_LONG) as on,
        copier(on) as copies,
    ):
        await on.system.services["agent"].kill()

        async def ask(_: object) -> None:
            await on.driver.ask(await on.world.next())

        await _each(ask, range(COMMANDS))
        await until(lambda: len(copies.heard) == COMMANDS, 120)
        deliveries = list(copies.heard) * (TIMES - 1)
        on.dice.shuffle(deliveries)
        await _each(copies.copy, deliveries)
        await on.system.services["agent"].start()
        for told in on.driver.commands:
            await on.driver.follow(told)
        await check(on, result)
    assert not result.violations, result.text()
    assert (result.states, result.effects) == ({"succeeded": COMMANDS}, COMMANDS)


async def _each(work: Callable[[Any], Awaitable[object]], items: Iterable[Any]) -> None:
    """A few at a time, begun in their order."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(worker())


async def _taken(on: Stage) -> bool:
    return not await invariants.waiting(on.system)
