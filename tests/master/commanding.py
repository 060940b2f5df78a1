"""An agent that takes commands, for the master's tests, and the commands it is given."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from pydantic import BaseModel

from schemas import binding, registry, subjects, topology
from schemas.commands import (
    Command,
    CommandCompleted,
    CommandObject,
    CommandReceived,
    CommandStarted,
    CommandState,
    ResultPart,
    TargetReference,
)
from schemas.envelope import Envelope
from schemas.ids import Target, uuid7
from schemas.presence import Health, Heartbeat
from services.persistence import tables
from services.persistence.commands.insertion import insert_command
from services.persistence.database.engine import Database
from services.runtime.bus.client import Bus, BusError
from services.runtime.bus.delivery import Message
from services.runtime.bus.pull import ConsumerGone, Pull

_COMMAND = tables.table_of(tables.Command)
_OUTBOX = tables.table_of(tables.Outbox)
_PART = tables.table_of(tables.CommandPart)


def command_for(
    target: Target,
    *,
    action: str = "scale",
    start_within: float = 60.0,
    timeout: float = 60.0,
    now: datetime | None = None,
) -> Command:
    """A new command; seconds until it has to be begun, and from then until it has to have ended."""
    now = now or datetime.now(UTC)
    start_by = now + timedelta(seconds=start_within)
    return Command(
        id=uuid7(),
        target=TargetReference(kind=target.kind, id=target.id),
        action=action,
        object=CommandObject(resource="deployments", namespace="default", name="web"),
        params={"replicas": 2},
        created_at=now,
        start_by=start_by,
        finish_by=start_by + timedelta(seconds=timeout),
        actor="somebody",
    )


class Commands:
    """The commands in a database."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def accept(self, command: Command, signature: str = "") -> str:
        """As an api does; its id."""
        async with self.db.write(durable=True) as connection:
            assert await insert_command(connection, command, signature=signature)
        return command.id

    async def row(self, command_id: str) -> Any:
        async with self.db.read() as connection:
            found = await connection.execute(sa.select(_COMMAND).where(_COMMAND.c.id == command_id))
            return found.one()

    async def state(self, command_id: str) -> CommandState:
        return CommandState((await self.row(command_id)).state)

    async def states(self) -> dict[str, str]:
        async with self.db.read() as connection:
            found = await connection.execute(sa.select(_COMMAND.c.id, _COMMAND.c.state))
            return {row.id: row.state for row in found}

    async def result(self, command_id: str) -> CommandCompleted:
        return CommandCompleted.model_validate_json((await self.row(command_id)).result)

    async def data(self, command_id: str) -> Any:
        """Of a result in parts."""
        async with self.db.read() as connection:
            found = await connection.execute(
                sa.select(_PART.c.data).where(_PART.c.command_id == command_id).order_by(_PART.c.index)
            )
            return msgspec.json.decode("".join(found.scalars()))

    async def set(self, command_id: str, **values: Any) -> None:
        async with self.db.write() as connection:
            await connection.execute(sa.update(_COMMAND).where(_COMMAND.c.id == command_id).values(**values))

    async def hurry(self, command_id: str, *, start: float = 0.0, finish: float = 3600.0) -> None:
        """Bring its deadlines forward, to so many seconds from now, once what has to come before has come.

        For the masters only: its agent and the broker have the old ones.
        """
        now = datetime.now(UTC)
        times = {"start_by": now + timedelta(seconds=start), "finish_by": now + timedelta(seconds=finish)}
        await self.set(command_id, **times)

    async def waiting(self) -> dict[str, datetime]:
        """What the outbox has, with the time when it is due."""
        async with self.db.read() as connection:
            found = await connection.execute(sa.select(_OUTBOX))
            return {row.command_id: row.due_at for row in found}

    async def hint(self, bus: Bus) -> None:
        """As an api does after it has accepted something."""
        source = subjects.service_source("api", bus.name)
        body = registry.COMMANDS_CHANGED.model(command_ids=[])
        await bus.send(subjects.COMMANDS_CHANGED, registry.COMMANDS_CHANGED.envelope(body, source=source))


class CommandAgent:
    """Takes commands as an agent does: journal, acknowledgement, reports, the end again until confirmed.

    A test may have it lose or refuse things: `takes`, `performs`, `answers`.
    """

    def __init__(self, bus: Bus, target: Target) -> None:
        self.bus = bus
        self.target = target
        self.journal_id = uuid7()
        self.journal: dict[str, CommandCompleted | None] = {}
        """By command id; None: taken into custody and not done."""
        self.effects: list[str] = []
        """What was done, in order."""
        self.deliveries: list[tuple[str, Message]] = []
        """Each command that was handed to it, also again."""
        self.confirmed: list[str] = []
        self.cancels: list[str] = []
        self.takes: Callable[[Command], bool] = lambda _: True
        """Whether a command that it got gets into the journal; else it is as if it had died before."""
        self.performs: Callable[[Command], bool] = lambda _: True
        """Whether a command that it has taken is done."""
        self.answers = True
        """Whether it says anything."""
        self.data: Any = {"replicas": 2}
        self.parts = 0
        self.repeat = 1.0
        self._sequence = 0

    async def beat(self, interval: float = 15.0) -> None:
        health = Health(healthy=True, status="running", start_time=datetime.now(UTC))
        body = Heartbeat(
            version="1", interval=interval, health=health, read_only=False, journal=self.journal_id
        )
        envelope = registry.HEARTBEAT_SENT.envelope(body, source=subjects.agent_source(self.target))
        await self.bus.publish(subjects.heartbeat(self.target), envelope)

    def lose_journal(self) -> None:
        self.journal.clear()
        self.journal_id = uuid7()

    async def run(self) -> None:
        """Until cancelled."""
        subscription = await self.bus.subscribe(subjects.controls(self.target), self._hear)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pull())
                group.create_task(self._repeat())
        finally:
            await subscription.close()

    async def _hear(self, subject: str, envelope: Envelope) -> None:
        body = msgspec.json.decode(envelope.data)
        match subject.rpartition(".")[2]:
            case "results":
                self.confirmed += body["command_ids"]
            case "cancel":
                self.cancels.append(body["command_id"])
                if self.journal.get(body["command_id"], 0) is None:
                    await self._end(body["command_id"], CommandState.CANCELED)

    async def _pull(self) -> None:
        while True:
            await self.bus.wait_connected()
            pull = Pull(self.bus, topology.COMMANDS.name, self.target.durable, 16)
            try:
                await pull.open()
                while True:
                    for message in await pull.take():
                        await self._take(message)
            except (ConsumerGone, BusError):
                await asyncio.sleep(0.1)
            finally:
                await pull.close()

    async def _take(self, message: Message) -> None:
        envelope = binding.decode(message.headers, message.data)
        command = registry.COMMAND_SENT.decode(envelope.data)
        self.deliveries.append((command.id, message))
        known = command.id in self.journal
        if not known:
            if not self.takes(command):
                return
            self.journal[command.id] = None
        await self.bus.settle(message.reply, b"+ACK")
        if known:
            await self._report_again(command.id)
            return
        if envelope.extensions["journal"] != self.journal_id:
            await self._end(command.id, CommandState.UNKNOWN)
        elif message.time > command.start_by or datetime.now(UTC) > command.start_by:
            await self._end(command.id, CommandState.EXPIRED)
        else:
            await self.report(
                registry.COMMAND_RECEIVED,
                CommandReceived(command_id=command.id, journal=self.journal_id, at=datetime.now(UTC)),
            )
            if self.performs(command):
                await self.report(
                    registry.COMMAND_STARTED, CommandStarted(command_id=command.id, at=datetime.now(UTC))
                )
                self.effects.append(command.id)
                await self._end(command.id, CommandState.SUCCEEDED)

    async def finish(self, command_id: str) -> None:
        """Do what `performs` has left."""
        self.effects.append(command_id)
        await self._end(command_id, CommandState.SUCCEEDED)

    async def _end(self, command_id: str, state: CommandState) -> None:
        succeeded = state is CommandState.SUCCEEDED
        self.journal[command_id] = CommandCompleted(
            command_id=command_id,
            state=state,
            success=succeeded,
            data=self.data if succeeded and not self.parts else None,
            parts=self.parts if succeeded else 0,
            executed_at=datetime.now(UTC),
        )
        await self._report_again(command_id)

    async def _report_again(self, command_id: str) -> None:
        completed = self.journal[command_id]
        if completed is None:
            body = CommandReceived(command_id=command_id, journal=self.journal_id, at=datetime.now(UTC))
            await self.report(registry.COMMAND_RECEIVED, body)
            return
        text = msgspec.json.encode(self.data).decode()
        size = -(-len(text) // max(1, completed.parts))
        for index in range(completed.parts):
            part = ResultPart(
                command_id=command_id,
                index=index,
                count=completed.parts,
                data=text[index * size : (index + 1) * size],
            )
            await self.report(registry.PART_PUBLISHED, part)
        await self.report(registry.COMMAND_COMPLETED, completed)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self.repeat)
            for command_id, completed in list(self.journal.items()):
                if completed is not None and command_id not in self.confirmed:
                    await self._report_again(command_id)

    async def report(self, event_type: registry.EventType[Any], body: BaseModel) -> None:
        """What it says of a command; lost while there is no connection, as it would be said again."""
        if not self.answers:
            return
        envelope = event_type.envelope(body, source=subjects.agent_source(self.target))
        with suppress(BusError):
            await self.bus.publish(subjects.result(self.target, body.command_id), envelope)
