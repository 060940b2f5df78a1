"""What is accepted is stored once, whole, or not at all."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from schemas.commands import (
    Command,
    CommandCompleted,
    CommandError,
    CommandObject,
    CommandState,
    TargetReference,
)
from schemas.ids import AgentKind, kubernetes, uuid7
from services.persistence import queries, tables
from services.persistence.commands.accept import accept, earlier
from services.persistence.commands.idempotency import Earlier
from services.persistence.commands.requests import request_cancel
from services.persistence.commands.states import advance
from services.persistence.database.engine import Database
from services.persistence.queries import CommandFilter
from services.runtime import failpoints
from services.runtime.failpoints import Failure, Point
from tests.persistence.conftest import PATIENT

_COMMAND = tables.table_of(tables.Command)
_OUTBOX = tables.table_of(tables.Outbox)
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


def new(
    cluster: str = "prod-eu", action: str = "scale", actor: str = "token/a", operation: str = ""
) -> Command:
    """A command as an api makes it."""
    return Command(
        id=uuid7(),
        target=TargetReference(kind=AgentKind.KUBERNETES, id=cluster),
        instance="instance-1",
        action=action,
        object=CommandObject(resource="deployments", namespace="shop", name="web"),
        params={"replicas": 3, "note": "\0 and \U0001f600"},
        created_at=NOW,
        start_by=NOW + timedelta(minutes=5),
        finish_by=NOW + timedelta(minutes=7),
        actor=actor,
        operation=operation,
    )


async def rows(db: Database, table: sa.Table) -> list[Any]:
    async with db.read() as connection:
        return list((await connection.execute(sa.select(table))).all())


async def test_a_command_and_its_place_in_the_outbox_are_one(db: Database) -> None:
    """Row and outbox are there together; the body is the command, byte for byte, and says what they say."""
    command = new()
    assert await accept(db, command) is None
    [row] = await rows(db, _COMMAND)
    [due] = await rows(db, _OUTBOX)
    assert (due.command_id, due.due_at) == (command.id, command.created_at)
    assert row.body == command.model_dump_json().encode()
    assert Command.model_validate_json(row.body) == command
    assert (row.state, row.attempts, row.journal, row.signature) == ("accepted", 0, "", "")
    assert (row.target_kind, row.target_id) == ("kubernetes", "prod-eu")
    assert (row.object_resource, row.object_namespace, row.object_name) == ("deployments", "shop", "web")
    assert (row.created_at, row.start_by, row.finish_by) == (
        command.created_at,
        command.start_by,
        command.finish_by,
    )
    assert row.finished_at is row.sent_at is row.result is row.evidence is None


async def test_what_fails_before_the_commit_was_never_there(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither row is stored, and the key is free."""
    failpoints.arm({"ATLHYPER_FAILPOINTS": f"{Point.COMMAND_BEFORE_ACCEPT.value}:1:raise"})
    try:
        with pytest.raises(Failure):
            await accept(db, new(), idempotency_key="k", fingerprint="f")
    finally:
        failpoints.arm({})
    assert await rows(db, _COMMAND) == []
    assert await rows(db, _OUTBOX) == []
    assert await accept(db, new(), idempotency_key="k", fingerprint="f") is None


async def test_a_key_stands_for_one_command_of_its_actor(db: Database) -> None:
    """The second one under it is not stored; another actor's key is another, and none is none."""
    first = new()
    assert await accept(db, first, idempotency_key="k", fingerprint="f") is None
    known = Earlier(first.id, "f")
    assert await accept(db, new(), idempotency_key="k", fingerprint="other") == known
    async with db.read() as connection:
        assert await earlier(connection, "token/a", "k") == known
        assert await earlier(connection, "token/b", "k") is None
        assert await earlier(connection, "token/a", "") is None
    assert await accept(db, new(actor="token/b"), idempotency_key="k", fingerprint="f") is None
    for _ in range(2):
        assert await accept(db, new()) is None
    assert len(await rows(db, _COMMAND)) == len(await rows(db, _OUTBOX)) == 4


async def test_replicas_that_race_for_a_key_store_one(new_url: Callable[[], str]) -> None:
    """Many at the same moment, from several processes' connections: one is accepted, all name it."""
    url = new_url()
    async with Database(url, limits=PATIENT) as one, Database(url, limits=PATIENT) as other:
        for round_ in range(5):
            commands = [new() for _ in range(8)]
            answers = await asyncio.gather(
                *(
                    accept(db, command, idempotency_key=f"k{round_}", fingerprint="f")
                    for command, db in zip(commands, [one, other] * 4, strict=True)
                )
            )
            [accepted] = [c.id for c, answer in zip(commands, answers, strict=True) if answer is None]
            assert {answer for answer in answers if answer} == {Earlier(accepted, "f")}
        assert len(await rows(one, _COMMAND)) == len(await rows(one, _OUTBOX)) == 5


async def test_the_first_wish_for_an_end_counts(db: Database) -> None:
    """It is stored with its reason and changes no state; later ones change nothing, nor one after the end."""
    command = new()
    await accept(db, command)

    async def cancel(id: str, now: datetime, reason: str) -> bool:
        async with db.write() as connection:
            return await request_cancel(connection, id, now, reason)

    assert await cancel(command.id, NOW, "wrong one")
    assert await cancel(command.id, NOW + timedelta(seconds=1), "again")
    [row] = await rows(db, _COMMAND)
    assert (row.cancel_requested_at, row.cancel_reason, row.state) == (NOW, "wrong one", "accepted")
    assert not await cancel(uuid7(), NOW, "")
    ended = new()
    await accept(db, ended)
    async with db.write() as connection:
        assert await advance(connection, ended.id, CommandState.SUCCEEDED, NOW)
    assert not await cancel(ended.id, NOW, "too late")


async def test_lists_are_newest_first_and_filtered(db: Database) -> None:
    """Page by page without a gap, whichever filter."""
    made = [
        new(("prod-eu", "prod-us")[n % 2], ("scale", "restart")[n // 2 % 2], operation="op" * (n > 5))
        for n in range(9)
    ]
    for command in made:
        await accept(db, command)
    async with db.write() as connection:
        assert await advance(connection, made[0].id, CommandState.FAILED, NOW)

    async def ids(**where: Any) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            async with db.read() as connection:
                page = await queries.list_commands(
                    connection, CommandFilter(**where), limit=2, continue_=token
                )
            found += [item.row.id for item in page.items]
            if not (token := page.continue_):
                return found

    def expected(wanted: Callable[[Command], bool]) -> list[str]:
        return sorted((command.id for command in made if wanted(command)), reverse=True)

    assert await ids() == expected(lambda c: True)
    assert await ids(targets=(kubernetes("prod-us"),)) == expected(lambda c: c.target.id == "prod-us")
    assert await ids(states=("failed",)) == [made[0].id]
    assert await ids(states=("accepted", "failed"), action="restart") == expected(
        lambda c: c.action == "restart"
    )
    assert await ids(operation="op") == expected(lambda c: c.operation == "op")
    assert await ids(actor="token/b") == []
    async with db.read() as connection:
        page = await queries.list_commands(connection, CommandFilter(), limit=1)
        with pytest.raises(queries.BadContinue):
            await queries.list_commands(
                connection, CommandFilter(action="scale"), limit=1, continue_=page.continue_
            )


async def test_a_large_command_is_listed_without_its_params(db: Database) -> None:
    """A page of them would be of megabytes: what else is in it is there, and by its id it is whole."""
    small = new()
    text = "€\0" * queries.MAX_LISTED
    about = CommandObject(resource="pods", name="web", uid='u"1')
    large = new().model_copy(update={"params": {"text": text}, "dry_run": True, "object": about})
    for command in (small, large):
        await accept(db, command)
    async with db.read() as connection:
        listed = (await queries.list_commands(connection, CommandFilter(), limit=5)).items
        whole = await queries.get_command(connection, large.id)
    assert whole is not None
    assert msgspec.json.decode(whole.body.params) == {"text": text}
    bodies = {one.row.id: one.body for one in listed}
    assert msgspec.json.decode(bodies[small.id].params) == small.params
    body = bodies[large.id]
    assert (msgspec.json.decode(body.params), body.dry_run) == (None, True)
    assert body.object == about.model_dump()
    assert not any(hasattr(one.row, "body") for one in listed)


async def test_a_result_in_parts_is_put_together_in_order(db: Database) -> None:
    """Of one command with its data; of a list without, whatever the data is, but with error and warnings."""
    command = new()
    await accept(db, command)
    data = {"text": "€\0" * 3000, "numbers": list(range(2000))}
    text = msgspec.json.encode(data).decode()
    result = CommandCompleted(
        command_id=command.id,
        state=CommandState.FAILED,
        success=False,
        parts=12,
        error=CommandError(code="conflict", message="\0 has changed", status=409, reason="Conflict"),
        warnings=["v1beta1 is deprecated"],
        executed_at=NOW,
    )
    size = -(-len(text) // 12)
    async with db.write() as connection:
        for index in reversed(range(12)):
            part = text[index * size : (index + 1) * size]
            await connection.execute(
                sa.insert(tables.table_of(tables.CommandPart)).values(
                    command_id=command.id, index=index, data=part
                )
            )
        await advance(
            connection, command.id, CommandState.FAILED, NOW, result=result.model_dump_json().encode()
        )
    async with db.read() as connection:
        whole = await queries.get_command(connection, command.id)
        [listed] = (await queries.list_commands(connection, CommandFilter(), limit=5)).items
        assert await queries.get_command(connection, uuid7()) is None
    assert whole is not None
    assert whole.result is not None
    assert msgspec.json.decode(whole.result.data) == data
    assert whole.result.error is not None
    assert whole.result.error.message == "\0 has changed"
    assert listed.result is not None
    assert listed.result.warnings == ["v1beta1 is deprecated"]
    assert listed.result.error is not None
    assert (listed.result.error.status, listed.result.error.reason) == (409, "Conflict")
    assert msgspec.json.decode(listed.result.data) is None
