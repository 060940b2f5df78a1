"""What the holder of the lease `commands` does, on a real broker: from the row to the agent and back."""

import asyncio
from datetime import UTC, datetime

import pytest

from schemas import registry, subjects, topology
from schemas.commands import CommandCompleted, CommandState
from schemas.ids import Target
from services.master.commands.duty import CommandsDuty
from services.runtime.bus.client import Bus
from tests.bus.fixtures import AGENTS, Connect
from tests.master.commanding import CommandAgent, Commands, command_for
from tests.master.duty import Takers, cancel, in_state
from tests.persistence.sending import beat
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

STREAM = topology.COMMANDS.name
A, B = AGENTS


@pytest.mark.parametrize("resend", [30.0])
async def test_a_command_is_sent_done_and_confirmed(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent, bus: Connect
) -> None:
    """From accepted to succeeded, with all its times. The agent may forget it, the outbox is empty, and what
    the agent got is what is stored, byte for byte, with the signature over these bytes.
    """
    command = command_for(A)
    await commands.accept(command, signature="b3ZlciB0aGUgYm9keQ==")
    await commands.hint(await bus("api"))
    await until(lambda: command.id in taker.confirmed)

    async def sending_noted() -> bool:  # by the relay, whoever is first: it, or the one who reads results
        return (await commands.row(command.id)).sent_at is not None

    await until(sending_noted)
    row = await commands.row(command.id)
    assert (row.state, row.attempts, row.journal) == (CommandState.SUCCEEDED, 1, taker.journal_id)
    assert None not in (row.received_at, row.started_at, row.executed_at, row.finished_at)
    assert (await commands.result(command.id)).data == {"replicas": 2}
    assert taker.effects == [command.id]
    assert await commands.waiting() == {}
    [(_, message)] = taker.deliveries
    assert message.data == row.body
    assert message.subject == subjects.command(A, "scale")
    assert message.headers["Nats-Msg-Id"] == f"{command.id}.1"
    assert message.headers["ce-id"] == command.id
    assert message.headers["ce-journal"] == taker.journal_id
    assert message.headers["ce-signature"] == "b3ZlciB0aGUgYm9keQ=="
    assert datetime.fromisoformat(message.headers["ce-expirytime"]) == command.start_by
    assert 30 <= int(message.headers["Nats-TTL"]) <= 60


async def test_whoever_waits_hears_of_each_step(
    duty: CommandsDuty, commands: Commands, takers: Takers, bus: Connect
) -> None:
    """An api that listens need not look at the database all the time."""
    api = await bus("api")
    heard: list[tuple[list[str], list[str]]] = []

    async def hear(_: str, envelope: object) -> None:
        told = registry.COMMANDS_CHANGED.decode(envelope.data)  # type: ignore[attr-defined]
        heard.append((told.command_ids, told.ended))

    await api.subscribe(subjects.COMMANDS_CHANGED, hear)
    agent, command = await takers.meet(), command_for(A)
    await commands.accept(command)
    await until(lambda: heard)  # it was sent: what follows at once would be told with it
    await takers.start(agent)
    await until(lambda: heard[-1][1])
    *before, end = heard
    assert before
    assert all(told == ([command.id], []) for told in before)
    assert end == ([command.id], [command.id])


async def test_the_order_of_an_agents_commands_is_kept(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    """Each agent does its own in the order of their acceptance."""
    agents = [await takers.meet(target) for target in (A, B)]
    accepted: dict[Target, list[str]] = {A: [], B: []}
    for _ in range(20):
        for agent in agents:
            command = command_for(agent.target)
            accepted[agent.target].append(command.id)
            await commands.accept(command)
    for agent in agents:
        await takers.start(agent)
    await until(lambda: all(len(set(agent.confirmed)) == 20 for agent in agents))
    assert {agent.target: agent.effects for agent in agents} == accepted


async def test_large_results_come_in_parts(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent
) -> None:
    taker.data, taker.parts = {"rows": ["x" * 100] * 5000}, 3
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: command.id in taker.confirmed)
    assert await commands.data(command.id) == taker.data


async def test_an_agent_is_told_to_end_a_command_until_it_has(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent, bus: Connect
) -> None:
    taker.performs = lambda _: False
    command = command_for(A)
    await commands.accept(command)
    await until(lambda: in_state(commands, command.id, CommandState.RECEIVED))
    taker.answers = False
    await cancel(commands, command.id)
    await commands.hint(await bus("api"))
    await until(lambda: len(taker.cancels) >= 2)
    taker.answers = True
    await until(lambda: in_state(commands, command.id, CommandState.CANCELED))
    told = len(taker.cancels)
    await asyncio.sleep(2.0)
    assert len(taker.cancels) <= told + 1


async def test_what_was_not_sent_is_canceled_at_once(
    duty: CommandsDuty, commands: Commands, takers: Takers
) -> None:
    await beat(commands.db, A, "")
    command = command_for(A)
    await commands.accept(command)
    await cancel(commands, command.id)
    await until(lambda: in_state(commands, command.id, CommandState.CANCELED))


async def test_reports_on_others_commands_are_dead_letters(
    duty: CommandsDuty, commands: Commands, takers: Takers, operator: Bus
) -> None:
    """B cannot end what A was asked to do, and A not on the subject of another command."""
    agent = await takers.meet()
    impostor = await takers.meet(B)
    command = command_for(A, timeout=60)
    await commands.accept(command)
    await until(lambda: in_state(commands, command.id, CommandState.SENT))
    body = CommandCompleted(
        command_id=command.id, state=CommandState.SUCCEEDED, success=True, executed_at=datetime.now(UTC)
    )
    await impostor.report(registry.COMMAND_COMPLETED, body)
    envelope = registry.COMMAND_COMPLETED.envelope(body, source=subjects.agent_source(A))
    await agent.bus.publish(subjects.result(A, "another"), envelope)

    async def buried() -> bool:
        info = await operator.api(f"$JS.API.STREAM.INFO.{topology.DEAD_LETTERS.name}")
        return bool(info["state"]["messages"] == 2)

    await until(buried)
    assert await commands.state(command.id) is CommandState.SENT


async def test_results_of_unknown_commands_are_confirmed(
    duty: CommandsDuty, commands: Commands, taker: CommandAgent
) -> None:
    """Else their agents would say them for ever."""
    command = command_for(A)
    await taker.finish(command.id)
    await until(lambda: command.id in taker.confirmed)
