"""Commands: what agents are asked to do, and what has become of it."""

from contextlib import suppress
from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from schemas.commands import OPEN_STATES, CommandState
from services.api import examples, parameters
from services.api.commands import accepting, models, showing
from services.api.commands.announced import check_known, unknown_to
from services.api.commands.keys import Key, key_text, same
from services.api.commands.requests import SHAPES, CancelWanted, NewCommand
from services.api.commands.waiting import MAX_WAIT, CommandNews
from services.api.examples import answer
from services.api.http import content, problems
from services.api.http.document import Content
from services.api.http.limits import NoSeat, stepped_aside
from services.api.http.problems import ProblemError
from services.api.http.streaming import while_there
from services.api.lookup import find_agent
from services.persistence import queries
from services.persistence.commands.accept import accept, earlier
from services.persistence.commands.requests import request_cancel
from services.persistence.database import clock as database_clock
from services.persistence.database.engine import Database
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.presence.clockwatch import ClockWatch
from services.runtime.failpoints import Point, reach
from services.runtime.settings import parse_duration

Id = Annotated[
    str,
    PathParameter(
        description="The command's id.",
        max_length=parameters.MAX_TEXT,
        examples=[Example(value=examples.COMMAND["id"])],
    ),
]
Wait = Annotated[
    str | None,
    QueryParameter(
        description=f"Answer when the command has ended, or after so long: a duration such as `30s`, at most "
        f"{MAX_WAIT:g}s.",
        max_length=32,
    ),
]
_EXAMPLES: list[dict[str, Any]] = [
    {
        "cluster_id": "prod-eu",
        "action": "scale",
        "resource": "deployments",
        "namespace": "shop",
        "name": "web",
        "params": {"replicas": 3},
    }
]
_STATES: dict[str, tuple[str, ...]] = {
    **{state.value: (state.value,) for state in CommandState},
    "open": tuple(state.value for state in OPEN_STATES),
}
"""What may be asked for, and what is meant by it."""


def _text(name: str, description: str) -> Any:
    return QueryParameter(name=name, description=description, max_length=parameters.MAX_TEXT)


class CommandController(Controller):
    """Asked for once, each reaches exactly one end."""

    path = "/commands"
    tags = ("commands",)

    @post(
        status_code=202,
        summary="Ask for a command",
        opt={"content": Content(SHAPES, _EXAMPLES, "NewCommand")},
        responses=problems.responses(
            problems.INVALID_CONTENT,
            problems.UNKNOWN_ACTION,
            problems.UNKNOWN_AGENT,
            problems.NOT_CAPABLE,
            problems.KEY_REUSED,
            problems.TOO_LATE,
        )
        | answer(models.OneCommand, "With `wait`: the command, which has ended", examples.COMMAND)
        | answer(models.OneCommand, "Accepted", examples.ACCEPTED_COMMAND, status=202),
    )
    async def create_command(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        clock: NamedDependency[ClockWatch | None],
        news: NamedDependency[CommandNews],
        actor: NamedDependency[str],
        wait: Wait = None,
        idempotency_key: Key = None,
    ) -> Response[models.OneCommand]:
        """Whatever can be said against it is said before anything is stored. Once accepted, it outlives any
        failure of ours: it takes effect at most once, and ends as one of the states that `state` names.

        An agent that is lost has until `start_by` to come back. `wait` is answered at once, with 202, while
        too many others wait.
        """
        seconds = seconds_of(wait)
        wanted, plain = await content.read(request, NewCommand)
        key, fingerprint = key_text(idempotency_key), accepting.fingerprint(plain)
        command_id = await _accepted(database, news, actor, wanted, key, fingerprint)
        if seconds:
            with suppress(DatabaseUnavailable, NoSeat), news.seats.seat():  # it is accepted all the same
                await waited(request, news, command_id, seconds)
        return await _answered(database, clock, command_id, created=True)

    @get(
        summary="Commands",
        responses=problems.responses(problems.UNKNOWN_AGENT)
        | answer(models.CommandList, "A page of them", examples.COMMANDS),
    )
    async def list_commands(
        self,
        database: NamedDependency[Database],
        clock: NamedDependency[ClockWatch | None],
        cluster: parameters.Clusters = None,
        state_: Annotated[
            list[str] | None,
            QueryParameter(
                name="state",
                description="Only those in one of these states, separated by commas or given several times; "
                "`open`: those that have not ended.",
                examples=[Example(value=["open"])],
            ),
        ] = None,
        action: Annotated[str | None, _text("action", "Only those of this action.")] = None,
        actor_: Annotated[str | None, _text("actor", "Only what this actor has asked for.")] = None,
        operation: Annotated[str | None, _text("operation", "Only those of this operation.")] = None,
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        continue_: parameters.Continue = None,
    ) -> models.CommandList:
        """A page of commands, the newest first, without data of results and large parameters."""
        targets = parameters.clusters(cluster)
        where = queries.CommandFilter(
            targets=targets,
            states=parameters.states(state_, _STATES),
            action=action,
            actor=actor_,
            operation=operation,
        )
        async with database.read() as connection:
            for target in targets or ():
                await find_agent(connection, target)
            page = await queries.list_commands(connection, where, limit=limit, continue_=continue_ or "")
            items = await showing.shown(connection, page.items, _stands(clock))
        return models.CommandList(items=items, continue_=page.continue_ or None)

    @get(
        "/{id:str}",
        summary="One command",
        responses=problems.responses(problems.UNKNOWN_COMMAND, problems.TOO_MANY_WAITERS)
        | answer(models.OneCommand, "The command", examples.COMMAND),
    )
    async def get_command(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        clock: NamedDependency[ClockWatch | None],
        news: NamedDependency[CommandNews],
        id: Id,
        wait: Wait = None,
    ) -> Response[models.OneCommand]:
        """One command with its result; with `wait`, when it has ended or the time is over."""
        if seconds := seconds_of(wait):
            try:
                with news.seats.seat():
                    await waited(request, news, id, seconds)
            except NoSeat:
                raise no_seat(news) from None
        return await _answered(database, clock, id)

    @post(
        "/{id:str}/cancel",
        status_code=202,
        summary="Ask for the end of a command",
        opt={"content": Content((CancelWanted,), [{"reason": "the wrong deployment"}])},
        responses=problems.responses(
            problems.INVALID_CONTENT, problems.UNKNOWN_COMMAND, problems.COMMAND_ENDED
        )
        | answer(models.OneCommand, "It has been canceled", examples.COMMAND)
        | answer(models.OneCommand, "Asked for", examples.ACCEPTED_COMMAND, status=202),
    )
    async def cancel_command(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        clock: NamedDependency[ClockWatch | None],
        news: NamedDependency[CommandNews],
        id: Id,
    ) -> Response[models.OneCommand]:
        """One that was not sent ends at once as `canceled`; one that was sent and has not begun, as soon as
        its agent hears of it, or at its `start_by`. Of one that runs, the agent decides: what cannot be ended
        in the middle goes on to its end. Asking again changes nothing."""
        wanted, _ = await content.read(request, CancelWanted)
        async with database.write(durable=True) as connection:
            now = await database_clock.now(connection)
            asked = await request_cancel(connection, id, now, wanted.reason)
            await reach(Point.CANCEL_BEFORE_COMMIT)
        await reach(Point.CANCEL_AFTER_COMMIT)
        if asked:
            await news.tell([id])
            return await _answered(database, clock, id, created=True)
        ended = await _answered(database, clock, id)
        if (state := ended.content.state) != CommandState.CANCELED:
            kind = problems.COMMAND_ENDED
            raise ProblemError(kind, f"the command has ended as {state}", kind.next)
        return ended


async def _accepted(
    database: Database, news: CommandNews, actor: str, wanted: NewCommand, key: str, fingerprint: str
) -> str:
    """The id of the command, which is stored now, or was under this key before. Raises ProblemError."""
    async with database.read() as connection:
        # First of all: what was accepted once is so, however late or impossible it would be by now.
        if (known := await earlier(connection, actor, key)) is not None:
            return same(known, fingerprint, "command")
        target = accepting.target(wanted)
        wish = accepting.intent(wanted, target.kind)
        status = await find_agent(connection, target)
        announced = await queries.announced(connection, [status]) if wish.params else {}
        now = await database_clock.now(connection)
    start_by, finish_by = accepting.times(wanted, wish.action, now)
    command = accepting.command(wish, status, actor, now, start_by, finish_by)
    check_known(status, unknown_to(wish, announced).get(target, ()))
    known = await accept(database, command, idempotency_key=key, fingerprint=fingerprint)
    if known is not None:
        return same(known, fingerprint, "command")
    await news.tell([command.id])
    return command.id


async def _answered(
    database: Database, clock: ClockWatch | None, id: str, *, created: bool = False
) -> Response[models.OneCommand]:
    """The command; 202 while one that was just asked for has not ended. Raises ProblemError."""
    async with database.read() as connection:
        command = await queries.get_command(connection, id)
        if command is None:
            raise ProblemError(
                problems.UNKNOWN_COMMAND, f"no command {id!r} is stored", problems.UNKNOWN_COMMAND.next
            )
        shown = await showing.shown_whole(connection, command, _stands(clock))
    if not created:
        return Response(shown, status_code=200)
    headers = {"location": f"/api/v1/commands/{id}"}
    return Response(shown, status_code=202 if shown.success is None else 200, headers=headers)


async def waited(request: Request[Any, Any, Any], news: CommandNews, id: str, seconds: float) -> None:
    """Until it has ended, the time is over or nobody is there. Raises DatabaseUnavailable."""
    with stepped_aside(request.scope):
        await while_there(request.receive, news.ended(id, seconds))


def seconds_of(wait: str | None, most: float = MAX_WAIT) -> float:
    """Of a parameter `wait`, 0 for none. Raises ProblemError."""
    if wait is None:
        return 0.0
    try:
        seconds = parse_duration(wait)
    except ValueError as error:
        raise problems.invalid("wait", str(error), "write it as in wait=10s") from None
    if seconds > most:
        raise problems.invalid("wait", f"is more than {most:g}s", "ask again when that is over")
    return seconds


def no_seat(news: CommandNews) -> ProblemError:
    """Too many wait already."""
    kind = problems.TOO_MANY_WAITERS
    detail = f"{news.seats.number} requests wait for the end of a command already"
    return ProblemError(kind, detail, kind.next)


def _stands(clock: ClockWatch | None) -> str:
    return (clock.stands() if clock else None) or ""
