"""The agent killed at every step with a real broker at its other end, which goes on without it."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.commands import Command, CommandStarted, CommandState
from schemas.topology import COMMANDS
from services.runtime.failpoints import VARIABLE, Point
from services.runtime.tasks import cancelled
from tests.agent.commands.desk import TARGET, Desk, command
from tests.agent.commands.world import World
from tests.agent.test_commands_crashes import IN_FLIGHT, POINTS, TIMES, Nursery, times
from tests.bus.fixtures import Connect, RunningBroker
from tests.waiting import until

ACK_WAIT = 1.0
"""Seconds until the broker hands out again what an agent has pulled before it died."""
AT_ONCE = 5
"""Objects that `held` is about: so many are in their effect."""
OFTEN = 0.1
"""Seconds from one message to the next: what comes together is pulled, and noted, together."""


def held(count: int) -> list[Command]:
    """So many that do not end before the last start: the first ones are in their effect, others wait."""
    names = [f"held-{number % AT_ONCE}" for number in range(count)]
    return [command(name=name, params={"seconds": 3600}, **times(hours=2)) for name in names]


def brief(nth: int) -> list[Command]:
    """Some that end at once: on one object in a row, and each on its own."""
    names = ["same"] * 3 + [f"{nth}-{place}" for place in range(5)]
    return [
        *(command(name=name, **times(hours=2)) for name in names),
        *(command(action, **times(hours=2)) for action in ("explode", "set", "read")),
    ]


@dataclass
class Agent:
    """One that is started again and again, and what it was sent."""

    folder: Path
    broker: tuple[str, str]
    """Home and URL."""
    nursery: Nursery
    desk: Desk
    commands: list[Command] = field(default_factory=list)

    async def begin(self) -> None:
        """Its journal is made, and the broker has a consumer for it."""
        self.folder.mkdir()
        journal = self.folder / "journal"
        await self.run_until(journal.exists)
        self.desk.journal = journal.read_text()
        await self.desk.open(consumer=False)
        await self.desk.make_consumer(ACK_WAIT)

    async def send(self, some: Iterable[Command]) -> None:
        for about in some:
            self.commands.append(about)
            await self.desk.send(about)

    async def kill_at(self, point: Point, nth: int) -> None:
        """Start it, and have it killed when it comes by for the n-th time."""
        plan = {VARIABLE: f"{point.value}:{nth}:kill"}
        code = await self.nursery.start(self.folder, hold=True, broker=self.broker, **plan)
        assert code == -signal.SIGKILL
        assert sum(not self.desk.ends(about) for about in self.commands) >= IN_FLIGHT

    async def run_until(self, condition: Callable[[], object], *, hold: bool = False) -> None:
        """Start it, and have it end by itself when something holds."""
        end = self.folder / "end"
        running = asyncio.create_task(self.nursery.start(self.folder, hold=hold, broker=self.broker))
        try:
            await until(condition)
        finally:
            end.touch()
            code = await running
        assert code == 0
        end.unlink()

    async def finish(self) -> dict[str, int]:
        """Everything ends; how many effects each command had."""
        await self.run_until(self._nothing_waits)
        world = World(self.folder / "world.db")
        effects = world.effects()
        world.close()
        return effects

    async def _nothing_waits(self) -> bool:
        """Nor at the broker."""
        info = await self.desk.reader.api(f"$JS.API.CONSUMER.INFO.{COMMANDS.name}.{TARGET.durable}")
        ended = all(self.desk.ends(about) for about in self.commands)
        return ended and (info["num_pending"], info["num_ack_pending"]) == (0, 0)

    def states(self, about: Command) -> set[CommandState]:
        """In which it has ended, by all that was said of it."""
        return {end.state for end in self.desk.ends(about)}


@pytest.fixture
async def agent(own_broker: RunningBroker, bus: Connect, tmp_path: Path) -> AsyncIterator[Agent]:
    desk = Desk(await bus("master"), await bus("reader"))
    async with Nursery(tmp_path / "log") as nursery:
        found = Agent(tmp_path / "agent", (str(own_broker.home), own_broker.url), nursery, desk)
        await found.begin()
        yield found


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_every_step_on_a_real_broker(agent: Agent, point: Point) -> None:
    """Killed there when it comes by for the first to the fifth time since its start, with twenty commands
    and more under way: each has one effect and one end, which arrives; the broker has none left over.
    """

    async def feed() -> None:
        for number in itertools.count():
            await asyncio.sleep(OFTEN)
            await agent.send([command(name=f"fed-{number}", **times(hours=2))])

    await agent.send(held(IN_FLIGHT))
    for nth in range(1, TIMES + 1):
        await agent.send(brief(nth))
        feeding = asyncio.create_task(feed())
        await agent.kill_at(point, nth)
        await cancelled(feeding)
    effects = await agent.finish()
    for about in agent.commands:
        right = CommandState.REJECTED if about.action == "explode" else CommandState.SUCCEEDED
        assert agent.states(about) == {right}, (about, agent.desk.ends(about))
        if about.action != "set":  # that is safe to repeat
            assert effects.get(about.id, 0) == (about.action == "change"), about


async def test_killed_when_it_hears_of_a_cancel(agent: Agent) -> None:
    """Killed at the first to the fifth one since its start: what was not begun ends as canceled all the same,
    once and without an effect, as it is told again until then; what was begun goes on.
    """
    several = held(AT_ONCE + 2 * IN_FLIGHT)
    begun, waiting = several[:AT_ONCE], several[AT_ONCE:]

    async def cancel() -> None:
        for about in itertools.cycle([*waiting, *begun]):
            if not agent.desk.ends(about):
                await agent.desk.cancel(about)
            await asyncio.sleep(OFTEN)

    await agent.send(several)
    await agent.run_until(lambda: all(agent.desk.bodies(about, CommandStarted) for about in begun), hold=True)
    canceling = asyncio.create_task(cancel())
    for nth in range(1, TIMES + 1):
        await agent.kill_at(Point.CANCEL_AFTER_HEARD, nth)
    await agent.run_until(lambda: all(agent.desk.ends(about) for about in waiting), hold=True)
    await cancelled(canceling)
    assert await agent.finish() == {about.id: 1 for about in begun}
    assert all(agent.states(about) == {CommandState.CANCELED} for about in waiting)
    assert all(agent.states(about) == {CommandState.SUCCEEDED} for about in begun)
