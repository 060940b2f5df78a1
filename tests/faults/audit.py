"""Witnesses inside the database: triggers that note each step of an epoch and each row that goes.

They are part of the transaction they watch, so that not even a kill hides a step from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.persistence.database.engine import Database
from tests.faults.load import BYSTANDER

_VALUES = "NEW.target_id, OLD.epoch, OLD.sequence, OLD.version, NEW.epoch, NEW.sequence, NEW.version"
_NOTE_STEP = f"""INSERT INTO audit_epoch
    (target, epoch_before, sequence_before, version_before, epoch, sequence, version) VALUES ({_VALUES})"""
_NOTE_REMOVED = "INSERT INTO audit_removed (resource, epoch) VALUES (OLD.resource, OLD.epoch)"


def _tables(number: str) -> tuple[str, ...]:
    return (
        f"""CREATE TABLE audit_epoch (number {number}, target TEXT, epoch_before TEXT,
            sequence_before BIGINT, version_before BIGINT, epoch TEXT, sequence BIGINT, version BIGINT)""",
        f"CREATE TABLE audit_removed (number {number}, resource TEXT, epoch TEXT)",
    )


_SQLITE = (
    *_tables("INTEGER PRIMARY KEY AUTOINCREMENT"),
    f"CREATE TRIGGER audit_epoch AFTER UPDATE ON epoch BEGIN {_NOTE_STEP}; END",
    f"""CREATE TRIGGER audit_removed AFTER DELETE ON resource WHEN OLD.name = '{BYSTANDER}'
        BEGIN {_NOTE_REMOVED}; END""",
)
_POSTGRESQL = (
    *_tables("BIGSERIAL PRIMARY KEY"),
    f"""CREATE FUNCTION audit_epoch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {_NOTE_STEP}; RETURN NEW; END $$""",
    f"""CREATE FUNCTION audit_removed() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {_NOTE_REMOVED}; RETURN OLD; END $$""",
    "CREATE TRIGGER audit_epoch AFTER UPDATE ON epoch FOR EACH ROW EXECUTE FUNCTION audit_epoch()",
    f"""CREATE TRIGGER audit_removed AFTER DELETE ON resource FOR EACH ROW
        WHEN (OLD.name = '{BYSTANDER}') EXECUTE FUNCTION audit_removed()""",
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


class Audit:
    """Installed once, after the tables are made; read at the end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def install(self) -> None:
        """Make tables and triggers."""
        async with self._database.write() as session:
            connection = await session.connection()
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

    async def _read(self, query: str) -> Sequence[sa.Row[Any]]:
        async with self._database.read() as session:
            return (await (await session.connection()).execute(sa.text(query))).all()
