"""The relay alone: how often it looks at what it cannot send yet."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from schemas.ids import Target
from schemas.topology import Stream
from services.master.commands import relay
from services.master.commands.durables import Durables
from services.master.commands.hints import Hints
from services.master.commands.relay import Relay
from services.master.commands.sender import Sender
from services.master.commands.timing import Timing
from services.master.teller import Teller
from services.master.work import DatabaseWork
from services.persistence.commands import outbox
from services.persistence.commands.attempts import Attempt, Outcome, Outgoing, Place
from services.persistence.database.engine import Database
from services.persistence.presence.clockwatch import ClockWatch
from services.runtime.bus.client import Bus
from services.runtime.tasks import cancelled
from tests.master.commanding import Commands, command_for
from tests.master.conftest import Fleet
from tests.persistence.sending import GRACE, HERE, PACE, A, B, beat
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


class Consumers:
    """Of which agents there is one, in place of `Durables`."""

    def __init__(self) -> None:
        self.place = HERE
        self.made: set[Target] = set()

    def has(self, target: Target) -> bool:
        return target in self.made

    def look(self) -> None:
        pass


class Sent:
    """Stores whatever it is given, in place of `Sender`."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.under_way: set[str] = set()

    async def send(self, outgoing: Sequence[Outgoing], place: Place) -> list[Attempt]:
        self.ids += [item.command_id for item in outgoing]
        return [Attempt(item.command_id, item.attempt, Outcome.STORED, place, 1) for item in outgoing]


class Connected:
    """A bus that is there and that nothing goes over."""

    async def wait_connected(self) -> None:
        await asyncio.sleep(0)


class Turns(DatabaseWork):
    """Counts the transactions; with an `answer`, each takes a while, and says that."""

    TAKES = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.answer: outbox.Turn | None = None

    async def run(self, stream: Stream, work: Coroutine[Any, Any, Any]) -> Any:
        self.number += 1
        if self.answer is None:
            return await super().run(stream, work)
        work.close()
        await asyncio.sleep(self.TAKES)
        return self.answer


class Relaying:
    """A relay at work on a database, with what it was given."""

    def __init__(self, db: Database) -> None:
        self.consumers, self.sent, self.turns = Consumers(), Sent(), Turns()
        bus = cast(Bus, Connected())
        self.relay = Relay(
            bus,
            db,
            self.turns,
            cast(Durables, self.consumers),
            cast(Sender, self.sent),
            Hints(Teller(bus), "/atlhyper/master/a"),
            Timing(PACE, GRACE),
            ClockWatch(db),
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.relay.run())
        try:
            yield
            assert not task.done(), task.result()
        finally:
            await cancelled(task)


async def test_full_looks_that_move_nothing_leave_time_to_others(fleet: Fleet) -> None:
    """As much as they take themselves, though each says that there is more."""
    relaying = Relaying(fleet.db)
    relaying.turns.answer = outbox.Turn(held=True, full=True)
    began = time.monotonic()
    async with relaying.at_work():
        await until(lambda: relaying.turns.number >= 20, 60)
        assert time.monotonic() - began >= 19 * 2 * Turns.TAKES


async def test_what_waits_for_a_consumer_does_not_hold_up_the_rest(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More commands than a batch has room for; with the consumer they go at once, in their order."""
    monkeypatch.setattr(relay, "BATCH", 4)
    monkeypatch.setattr(relay, "RETURNS", 0.0)  # each time: as if each transaction took that long
    relaying, commands = Relaying(fleet.db), Commands(fleet.db)
    await beat(fleet.db, A, "j1")
    await beat(fleet.db, B, "j2", 1)
    waiting = [await commands.accept(command_for(A)) for _ in range(9)]
    other = await commands.accept(command_for(B))
    relaying.consumers.made.add(B)
    async with relaying.at_work():
        await until(lambda: relaying.sent.ids == [other], 20)
        relaying.consumers.made.add(A)
        await until(lambda: relaying.sent.ids == [other, *waiting], 20)
