"""Witnesses inside the database: triggers that note each step of an epoch, each row that goes, and each
step of a command.

They are part of the transaction they watch, so that not even a kill hides a step from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.persistence.database.engine import Database
from tests.faults.load import BYSTANDER

_NOTE_STEP = """INSERT INTO audit_epoch
    (target, epoch_before, sequence_before, version_before, epoch, sequence, version, resync_reason)
    VALUES (NEW.target_id, OLD.epoch, OLD.sequence, OLD.version,
        NEW.epoch, NEW.sequence, NEW.version, NEW.resync_reason)"""
_NOTE_REMOVED = "INSERT INTO audit_removed (resource, epoch) VALUES (OLD.resource, OLD.epoch)"
_NOTE_COMMAND = """INSERT INTO audit_command (command_id, before, after)
    VALUES (NEW.id, OLD.state, NEW.state)"""
_STEP_OF_COMMAND = "OLD.state <> NEW.state OR OLD.result <> NEW.result"


def _tables(number: str) -> tuple[str, ...]:
    return (
        f"""CREATE TABLE audit_epoch (number {number}, target TEXT, epoch_before TEXT,
            sequence_before BIGINT, version_before BIGINT, epoch TEXT, sequence BIGINT, version BIGINT,
            resync_reason TEXT)""",
        f"CREATE TABLE audit_removed (number {number}, resource TEXT, epoch TEXT)",
        f"CREATE TABLE audit_command (number {number}, command_id TEXT, before TEXT, after TEXT)",
    )


_SQLITE = (
    *_tables("INTEGER PRIMARY KEY AUTOINCREMENT"),
    f"CREATE TRIGGER audit_epoch AFTER UPDATE ON epoch BEGIN {_NOTE_STEP}; END",
    f"""CREATE TRIGGER audit_removed AFTER DELETE ON resource WHEN OLD.name = '{BYSTANDER}'
        BEGIN {_NOTE_REMOVED}; END""",
    f"""CREATE TRIGGER audit_command AFTER UPDATE ON command WHEN {_STEP_OF_COMMAND}
        BEGIN {_NOTE_COMMAND}; END""",
)
_POSTGRESQL = (
    *_tables("BIGSERIAL PRIMARY KEY"),
    f"""CREATE FUNCTION audit_epoch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {_NOTE_STEP}; RETURN NEW; END $$""",
    f"""CREATE FUNCTION audit_removed() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {_NOTE_REMOVED}; RETURN OLD; END $$""",
    f"""CREATE FUNCTION audit_command() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {_NOTE_COMMAND}; RETURN NEW; END $$""",
    "CREATE TRIGGER audit_epoch AFTER UPDATE ON epoch FOR EACH ROW EXECUTE FUNCTION audit_epoch()",
    f"""CREATE TRIGGER audit_removed AFTER DELETE ON resource FOR EACH ROW
        WHEN (OLD.name = '{BYSTANDER}') EXECUTE FUNCTION audit_removed()""",
    f"""CREATE TRIGGER audit_command AFTER UPDATE ON command FOR EACH ROW
        WHEN ({_STEP_OF_COMMAND}) EXECUTE FUNCTION audit_command()""",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction's effect on how far an agent's frames are applied."""

    target: str
    epoch_before: str
    sequence_before: int
    version_before: int
    epoch: str
    sequence: int
    version: int
    resync_reason: str = ""
    """Why a new epoch is wanted from then on; empty when none is."""


@dataclass(frozen=True, slots=True)
class CommandStep:
    """One change of a command's state; before and after are the same when only its result was replaced."""

    command_id: str
    before: str
    after: str


class Audit:
    """Installed once, after the tables are made; read at the end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def install(self) -> None:
        """Make tables and triggers."""
        async with self._database.write() as connection:
            for statement in _SQLITE if self._database.is_sqlite else _POSTGRESQL:
                await connection.execute(sa.text(statement))

    async def steps(self) -> list[Step]:
        """Every step, in the order of commits."""
        columns = ", ".join(Step.__slots__)
        return [Step(*row) for row in await self._read(f"SELECT {columns} FROM audit_epoch ORDER BY number")]

    async def removed_bystanders(self) -> list[str]:
        """Resources whose bystander's row was removed at some time."""
        rows = await self._read("SELECT resource FROM audit_removed ORDER BY number")
        return [resource for (resource,) in rows]

    async def holder(self, lease: str) -> str:
        """Who has it, as `<instance>/<number>`."""
        rows = await self._read(f"SELECT holder FROM lease WHERE name = '{lease}'")
        return str(rows[0][0])

    async def command_steps(self) -> list[CommandStep]:
        """Every step of every command, in the order of commits."""
        columns = ", ".join(CommandStep.__slots__)
        rows = await self._read(f"SELECT {columns} FROM audit_command ORDER BY number")
        return [CommandStep(*row) for row in rows]

    async def ended_commands(self) -> int:
        """How many commands have ended."""
        return len(await self._read("SELECT id FROM command WHERE finished_at IS NOT NULL"))

    async def outbox(self) -> list[str]:
        """The commands that are still to be sent (again)."""
        rows = await self._read("SELECT command_id FROM outbox ORDER BY command_id")
        return [command_id for (command_id,) in rows]

    async def command_keys(self) -> dict[str, str]:
        """The Idempotency-Key of every command there is, by id."""
        return {row[0]: row[1] for row in await self._read("SELECT id, idempotency_key FROM command")}

    async def _read(self, query: str) -> Sequence[sa.Row[Any]]:
        async with self._database.read() as connection:
            return (await connection.execute(sa.text(query))).all()
