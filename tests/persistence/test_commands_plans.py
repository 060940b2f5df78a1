"""How the databases find what was not sent yet, among many commands that have ended."""

from typing import Any

import pytest
import sqlalchemy as sa

from services.persistence import tables
from services.persistence.commands import outbox
from services.persistence.database.engine import Database
from tests.master.commanding import Commands, command_for
from tests.persistence.sending import A, B, beat, send_new

pytestmark = pytest.mark.timeout(180)

ENDED = 100_000
_INDEX = "ix_command_target_kind_target_id_created_at"
_LEFT = "min(command.created_at)"
"""In the query for what an agent has that is to go before."""
_COMMAND = tables.table_of(tables.Command)


@pytest.fixture
async def commands(db: Database) -> Commands:
    """Ten commands that were just accepted, behind a hundred thousand of the same agents that have ended."""
    made = Commands(db)
    await beat(db, A, "j1")
    await beat(db, B, "j2", 1)
    accepted = [await made.accept(command_for(target)) for target in (A, B) for _ in range(5)]
    others = {"id": "n.i || command.id", "state": "'succeeded'", "attempts": "1", "finished_at": "created_at"}
    names = [column.name for column in _COMMAND.columns]
    values = ", ".join(others.get(name, f"command.{name}") for name in names)
    async with db.write() as connection:
        await connection.execute(
            sa.text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :each) "
                f"INSERT INTO command ({', '.join(names)}) SELECT {values} FROM command, n "
                "WHERE command.id IN (:of_a, :of_b)"
            ),
            {"each": ENDED // 2, "of_a": accepted[0], "of_b": accepted[-1]},
        )
    return made


async def test_what_was_not_sent_is_found_without_a_look_at_what_has_ended(
    db: Database, commands: Commands
) -> None:
    """By an index that has only that, whether the database has counted its rows or not."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "command.attempts = 0" in statement:
            statements.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        sent = [len((await send_new(db, limit=limit)).outgoing) for limit in (3, 4)]  # of one agent, of two
        assert not await outbox.any_held(db)
        assert await outbox.hasten_returned(db, judging=True) == 0
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert sent == [3, 4]
    assert [statement for statement, _ in statements if _LEFT in statement] == [s for s, _ in statements[:2]]
    assert len(statements) == 4
    word = "EXPLAIN QUERY PLAN" if db.is_sqlite else "EXPLAIN"
    whole = "SCAN command" if db.is_sqlite else "Seq Scan on command"
    async with db.write() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(_COMMAND)) == ENDED + 10
        for _ in range(2):
            for statement, parameters in statements:
                plan = str((await connection.exec_driver_sql(f"{word} {statement}", parameters)).all())
                assert whole not in plan, plan
                assert _INDEX in plan or _LEFT not in statement, plan
            await connection.exec_driver_sql("ANALYZE")
