"""Keeps commands under way: asks for them, follows each to its end, and notes what it was told."""

import asyncio
import inspect
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas.commands import CommandState
from tests.faults.commands.rest import Refused, Rest
from tests.faults.commands.world import Wanted, World

WIDTH = 30
"""Commands that are under way at one time, as their author knows it: he sees an end a moment after it."""
LATE = 15.0
"""Seconds after `finish_by` within which the end must be readable: faults may keep the API down."""
LOOK = 2.0
"""Seconds of one look at a command: it waits for the end."""


@dataclass(slots=True)
class Told:
    """One command as its author knows it."""

    wanted: Wanted
    key: str
    id: str = ""
    """Empty until it is accepted."""
    states: list[str] = field(default_factory=list)
    """Each state that was seen, in order, without repetitions."""
    last: dict[str, Any] = field(default_factory=dict)
    """As it was seen last."""
    ended: bool = False
    """Its end was seen."""

    @property
    def state(self) -> str:
        """The last one seen."""
        return self.states[-1] if self.states else ""

    @property
    def code(self) -> str:
        """Of its error; empty without one."""
        return str((self.last.get("error") or {}).get("code", ""))

    def see(self, item: dict[str, Any]) -> None:
        """What the API shows."""
        self.last = item
        if not self.states or self.states[-1] != item["state"]:
            self.states.append(item["state"])


class Driver:
    """`async with Driver(rest, world, seed) as driver:` → `keep`, `one`, `finish`."""

    def __init__(self, rest: Rest, world: World, seed: int, width: int = WIDTH) -> None:
        self.commands: list[Told] = []
        self.wrong: list[str] = []
        """What the API did that it must not do."""
        self._rest = rest
        self.world = world
        self._dice = random.Random(seed)
        self._width = width
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Driver":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def fill(self) -> None:
        """So many new ones that `width` are under way."""
        for _ in range(self._width - len(self._under_way)):
            self._begin(self._random())

    async def keep(self, until: Callable[[], object], seconds: float) -> None:
        """`width` of them under way until something holds, which may be a coroutine function.

        Raises TimeoutError.
        """
        async with asyncio.timeout(seconds):
            while True:
                holds = until()
                if await holds if inspect.isawaitable(holds) else holds:
                    return
                self.fill()
                await asyncio.sleep(0.02)

    async def one(self, wanted: Wanted) -> Told:
        """This one, followed to its end."""
        told = await self.ask(wanted)
        await self.follow(told)
        return told

    async def ask(self, wanted: Wanted) -> Told:
        """This one, accepted; one that is refused has no id."""
        key = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        told = Told(wanted, key)
        self.commands.append(told)
        try:
            item = await self._rest.post(wanted, key)
        except Refused as refused:
            self.wrong.append(f"refused: {refused}")
            return told
        told.id = item["id"]
        told.see(item)
        return told

    async def follow(self, told: Told) -> None:
        """To its end, or until it should have been."""
        if not told.id:
            return
        if told.wanted.cancel:
            await self._rest.cancel(told.id)
        finish_by = datetime.fromisoformat(told.last["finish_by"])
        while not CommandState(told.state).terminal:
            found = await self._rest.get(told.id, LOOK)
            if found is not None:
                told.see(found)
            else:
                await asyncio.sleep(0.1)
            if (datetime.now(UTC) - finish_by).total_seconds() > LATE:
                return  # `invariants.ended_once` tells it
        told.ended = True

    async def finish(self) -> None:
        """The end of all that are under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    # --- one command -----------------------------------------------------------------------------------

    def _begin(self, course: Any) -> None:
        task = asyncio.create_task(course)
        self._under_way.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.wrong.append(f"the harness: {type(error).__name__}: {error}")

    async def _random(self) -> None:
        await self.one(await self.world.next())
