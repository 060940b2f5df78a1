"""The outbox: what is held, for how long, and the order of one agent's commands."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.ids import Target
from services.persistence.commands import outbox
from services.persistence.commands.attempts import Attempt, Outcome
from services.persistence.database.engine import Database
from services.persistence.presence.liveness import Beat
from services.persistence.presence.store import store_signs
from services.runtime.bus.cursor import Cursor
from tests.master.commanding import Commands, command_for
from tests.persistence.sending import GRACE, HERE, NOW, PACE, A, B, beat, make_due, send_new, set_due

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def commands(db: Database) -> Commands:
    return Commands(db)


async def test_what_cannot_be_reached_yet_is_held(db: Database, commands: Commands) -> None:
    """An agent without a consumer; when it has one, its commands go in their order."""
    await beat(db, A, "j1")
    await commands.accept(first := command_for(A))
    turn = await outbox.send_new(db, [], PACE, GRACE, 100, sendable=True, reachable=lambda _: False)
    assert turn.held
    assert turn.outgoing == []
    await set_due(db, first)  # it is held for a moment only
    await commands.accept(second := command_for(A))
    assert (await send_new(db)).soon
    await set_due(db, second)
    assert await outbox.hasten_returned(db, judging=True) == 2
    assert [item.command_id for item in (await send_new(db)).outgoing] == [first.id, second.id]


async def test_what_waits_for_a_consumer_does_not_fill_each_batch(db: Database, commands: Commands) -> None:
    """More than a batch has room for; the look for agents that are back does not put it first each time."""
    await beat(db, A, "j1")
    await beat(db, B, "j2", 1)
    waiting = [command_for(A) for _ in range(3)]
    for command in (*waiting, other := command_for(B)):
        await commands.accept(command)

    def reachable(target: Target) -> bool:
        return target != A

    sent: list[str] = []
    for _ in range(2):
        turn = await outbox.send_new(db, [], PACE, GRACE, 2, sendable=True, reachable=reachable)
        sent += [item.command_id for item in turn.outgoing]
        assert turn.soon
        assert await outbox.hasten_returned(db, reachable=reachable, judging=True) == 0
    assert sent == [other.id]
    for one in waiting:
        await set_due(db, one)  # they are held for a moment only
    assert await outbox.hasten_returned(db, judging=True) == 3
    assert [item.command_id for item in (await send_new(db)).outgoing] == [one.id for one in waiting]


async def test_what_is_back_without_a_consumer_is_held_for_a_moment(db: Database, commands: Commands) -> None:
    """Not for as long as while it was away: it goes as soon as there is a consumer."""
    await beat(db, A, "j1")
    await commands.accept(command_for(A))
    beats = [Beat(NOW, 1000.0), Beat(NOW + timedelta(seconds=90), 1000.0)]
    await store_signs(db, [], beats, Cursor("h", "HEARTBEATS", NOW, 3))
    assert (await send_new(db)).held
    await beat(db, A, "j1", 90)
    assert await outbox.hasten_returned(db, reachable=lambda _: False, judging=True) == 1
    turn = await outbox.send_new(db, [], PACE, GRACE, 100, sendable=True, reachable=lambda _: False)
    assert (turn.soon, turn.outgoing) == (True, [])
    assert await outbox.hasten_returned(db, reachable=lambda _: False, judging=True) == 0


async def test_what_is_due_goes_after_what_was_accepted_before_it(db: Database, commands: Commands) -> None:
    """Held for a moment, the older one is due later; and it does not wait for what waits behind it."""
    await beat(db, A, "j1")
    first, second, third = (command_for(A) for _ in range(3))
    for command in (first, second, third):
        await commands.accept(command)
    await set_due(db, first)
    turn = await send_new(db, limit=1)
    assert (turn.soon, turn.full, turn.outgoing) == (True, True, [])
    assert (await send_new(db)).outgoing == []
    for command in (second, third):
        await set_due(db, command)  # they are held for a moment only
    await set_due(db, first, NOW)
    assert [item.command_id for item in (await send_new(db)).outgoing] == [first.id]
    await set_due(db, third, NOW)
    assert (await send_new(db)).outgoing == []
    await set_due(db, second, NOW + timedelta(seconds=1))
    await set_due(db, third, NOW)
    assert [item.command_id for item in (await send_new(db)).outgoing] == [second.id, third.id]


async def test_what_the_broker_did_not_take_keeps_its_place(db: Database, commands: Commands) -> None:
    """In the order of acceptance, whatever pauses they have, and from the moment that it is known on."""
    await beat(db, A, "j1")
    first, second = command_for(A), command_for(A)
    for command in (first, second):
        await commands.accept(command)
    assert len((await send_new(db)).outgoing) == 2
    third = command_for(A)
    await commands.accept(third)
    withheld = [Attempt(one.id, 1, Outcome.WITHHELD, HERE, reason="no room") for one in (first, second)]
    turn = await outbox.send_new(db, withheld, PACE, GRACE, 100, sendable=True, holding=False)
    assert (turn.held, turn.outgoing) == (True, [])
    await set_due(db, first, datetime.now(UTC) + timedelta(seconds=20))
    await set_due(db, second, NOW)
    assert await outbox.any_held(db)
    assert (await send_new(db)).outgoing == []
    await make_due(db)
    sent = [item.command_id for item in (await send_new(db)).outgoing]
    assert sent == [first.id, second.id, third.id]


async def test_what_was_tried_is_looked_at_soon_when_its_agent_is_away(
    db: Database, commands: Commands
) -> None:
    """Nobody hastens it when its agent is back, and what was accepted later waits for it."""
    await beat(db, A, "j1")
    command = command_for(A)
    await commands.accept(command)
    await send_new(db)
    await send_new(db, Attempt(command.id, 1, Outcome.WITHHELD, HERE, reason="no room"))
    beats = [Beat(NOW, 1000.0), Beat(NOW + timedelta(seconds=90), 1000.0)]
    await store_signs(db, [], beats, Cursor("h", "HEARTBEATS", NOW, 3))
    await make_due(db)
    assert (await send_new(db)).held
    assert (await commands.waiting())[command.id] - datetime.now(UTC) < timedelta(seconds=5)


async def test_a_full_batch_leaves_nothing_older_behind(db: Database, commands: Commands) -> None:
    """Both are due, the newer one for longer: the older one goes first all the same."""
    await beat(db, A, "j1")
    first, second = command_for(A), command_for(A)
    for command in (first, second):
        await commands.accept(command)
    await set_due(db, first, NOW + timedelta(seconds=1))
    await set_due(db, second, NOW)
    turn = await outbox.send_new(db, [], PACE, GRACE, 1, sendable=True, holding=False)
    assert (turn.full, turn.outgoing) == (True, [])
    turn = await outbox.send_new(db, [], PACE, GRACE, 1, sendable=True, holding=turn.held)
    assert [item.command_id for item in turn.outgoing] == [first.id]


async def test_what_is_for_an_agent_that_is_away_is_held(db: Database, commands: Commands) -> None:
    """By the broker's clock, unless it stands; sent in the order of acceptance when its agent is back."""
    await beat(db, A, "j1")
    await beat(db, B, "j2", 1)
    held = [command_for(A), command_for(A)]
    for command in held:
        await commands.accept(command)
    beats = [Beat(NOW, 1000.0), Beat(NOW + timedelta(seconds=90), 1000.0)]
    await store_signs(db, [], beats, Cursor("h", "HEARTBEATS", NOW, 3))
    assert not await outbox.any_held(db)
    turn = await send_new(db)
    assert turn.held
    assert turn.outgoing == []
    assert await outbox.any_held(db)
    assert (await commands.row(held[0].id)).attempts == 0
    assert await outbox.hasten_returned(db, judging=True) == 0
    await beat(db, B, "j2", 90)
    assert await outbox.hasten_returned(db, judging=True) == 0
    assert await outbox.hasten_returned(db, judging=False) == 2
    await commands.accept(last := command_for(A))
    assert (await send_new(db)).outgoing == []
    await beat(db, A, "j1", 91)
    await commands.accept(newest := command_for(A))
    turn = await send_new(db)  # before anybody has looked who is back
    assert turn.soon
    assert turn.outgoing == []
    await set_due(db, newest)
    assert await outbox.hasten_returned(db, judging=True) == 4
    turn = await send_new(db)
    assert not turn.held
    assert [item.command_id for item in turn.outgoing] == [held[0].id, held[1].id, last.id, newest.id]
    await send_new(db, Attempt(last.id, 1, Outcome.WITHHELD, HERE, reason="no room"))
    assert (await commands.row(last.id)).attempts == 0
    assert await outbox.hasten_returned(db, judging=True) == 0
