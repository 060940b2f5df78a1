"""Stands in for master and agents: takes the commands that an API has accepted, and ends them as told."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from schemas.commands import Command, CommandCompleted, CommandError, CommandProgressed, CommandState
from services.persistence import tables
from services.persistence.commands.states import advance
from services.persistence.database.engine import Database

_COMMAND = tables.table_of(tables.Command)

Answer = dict[str, Any] | CommandError | CommandState | None
"""The data of a result, why there is none, a terminal state without a result, or nothing: it goes on."""
Act = Callable[[Command], Answer]


class Agents:
    """`agents.act` answers each command; `asked` are the commands in the order of their acceptance."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answered: set[str] = set()
        self.asked: list[Command] = []
        self.act: Act = lambda _: {}
        self.warnings: list[str] = []
        """What the API server warns of, whatever it is asked."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            async with self._database.read() as connection:
                rows = await connection.execute(
                    sa.select(_COMMAND.c.id, _COMMAND.c.body, _COMMAND.c.cancel_requested_at).order_by(
                        _COMMAND.c.id
                    )
                )
                found = rows.all()
            for command_id, body, cancel in found:
                if command_id not in self._answered:
                    self._answered.add(command_id)
                    command = Command.model_validate_json(body)
                    self.asked.append(command)
                    if (answer := self.act(command)) is not None:
                        await self.end(command_id, answer)
                elif cancel:
                    await self.end(command_id, CommandState.CANCELED)
            await asyncio.sleep(0.02)

    async def end(self, command_id: str, answer: Answer) -> None:
        """The end of a command."""
        now = datetime.now(UTC)
        if isinstance(answer, CommandState):
            values, state = {}, answer
        else:
            error = answer if isinstance(answer, CommandError) else None
            state = CommandState.FAILED if error else CommandState.SUCCEEDED
            told = CommandCompleted(
                command_id=command_id,
                state=state,
                success=error is None,
                data=None if error else answer,
                error=error,
                warnings=self.warnings,
                executed_at=now,
            )
            values = {"result": told.model_dump_json().encode(), "executed_at": now}
        async with self._database.write() as connection:
            await advance(connection, command_id, state, now, **values)

    async def progress(self, command_id: str, sequence: int, message: str, done: int, total: int) -> None:
        """How far a command has come."""
        told = CommandProgressed(
            command_id=command_id,
            sequence=sequence,
            at=datetime.now(UTC),
            message=message,
            done=done,
            total=total,
        )
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(_COMMAND)
                .where(_COMMAND.c.id == command_id)
                .values(
                    state=CommandState.RUNNING.value,
                    progress=told.model_dump_json().encode(),
                    progress_sequence=sequence,
                )
            )

    def bodies(self) -> list[dict[str, Any]]:
        """What was asked for, as JSON."""
        return [json.loads(command.model_dump_json()) for command in self.asked]
