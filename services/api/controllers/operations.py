"""Operations: one intent for many clusters, a few at a time."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from schemas.actions import shown_params
from schemas.ids import AgentKind
from schemas.operations import OperationState
from services.api import examples, parameters
from services.api.commands.accepting import fingerprint, intent
from services.api.commands.keys import Key, key_text, same
from services.api.commands.models import CommandError, CommandObject, Target
from services.api.commands.waiting import CommandNews
from services.api.examples import answer
from services.api.http import content, problems
from services.api.http.document import Content
from services.api.http.problems import ProblemError
from services.api.operations import accepting, models
from services.api.operations.requests import DecisionWanted, NewOperation
from services.persistence.commands import operations
from services.persistence.database import clock as database_clock
from services.persistence.database.engine import Database
from services.persistence.queries import announced
from services.persistence.queries import operations as queries
from services.persistence.queries.operations import StoredOperation, StoredTurn

Id = Annotated[
    str,
    PathParameter(
        description="The operation's id.",
        max_length=parameters.MAX_TEXT,
        examples=[Example(value=examples.OPERATION["id"])],
    ),
]
_EXAMPLES: list[dict[str, Any]] = [
    {
        "action": "restart",
        "resource": "deployments",
        "namespace": "shop",
        "name": "web",
        "label_selector": "env=prod",
        "strategy": {"max_unavailable": "10%", "max_failures": 1},
    }
]
_STATES = {state.value: (state.value,) for state in OperationState}


def _decision(description: str) -> dict[int, ResponseSpec]:
    """What OpenAPI says of the answers to what a person decides."""
    kinds = (problems.INVALID_CONTENT, problems.UNKNOWN_OPERATION, problems.OPERATION_ENDED)
    return problems.responses(*kinds) | answer(models.OneOperation, description, examples.OPERATION)


class OperationController(Controller):
    """Each of its commands is one like any other."""

    path = "/operations"
    tags = ("operations",)

    @post(
        status_code=202,
        summary="Ask for an operation",
        opt={"content": Content((NewOperation,), _EXAMPLES)},
        responses=problems.responses(
            problems.INVALID_CONTENT,
            problems.UNKNOWN_ACTION,
            problems.UNKNOWN_AGENT,
            problems.NOT_CAPABLE,
            problems.KEY_REUSED,
        )
        | answer(models.OneOperation, "Accepted", examples.OPERATION, status=202),
    )
    async def create_operation(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        news: NamedDependency[CommandNews],
        actor: NamedDependency[str],
        idempotency_key: Key = None,
    ) -> Response[models.OneOperation]:
        """Which clusters are meant is settled now: those that come later take no part. The next command
        begins when one of those under way has ended, and none once too many have failed."""
        wanted, plain = await content.read(request, NewOperation)
        key, print_ = key_text(idempotency_key), fingerprint(plain)
        id_ = await _accepted(database, actor, wanted, key, print_)
        await news.tell([id_])
        return await _answered(database, id_, status=202)

    @get(
        summary="Operations",
        responses=problems.responses() | answer(models.OperationList, "A page of them", examples.OPERATIONS),
    )
    async def list_operations(
        self,
        database: NamedDependency[Database],
        state_: Annotated[
            list[str] | None,
            QueryParameter(
                name="state",
                description="Only those in one of these states, separated by commas or given several times.",
                examples=[Example(value=["running"])],
            ),
        ] = None,
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        continue_: parameters.Continue = None,
    ) -> models.OperationList:
        """A page of operations, the newest first, without large parameters."""
        async with database.read() as connection:
            page = await queries.list_operations(
                connection, parameters.states(state_, _STATES), limit=limit, continue_=continue_ or ""
            )
        return models.OperationList(
            items=[models.Operation(**_members(item)) for item in page.items],
            continue_=page.continue_ or None,
        )

    @get(
        "/{id:str}",
        summary="One operation",
        responses=problems.responses(problems.UNKNOWN_OPERATION)
        | answer(models.OneOperation, "The operation", examples.OPERATION),
    )
    async def get_operation(
        self, database: NamedDependency[Database], id: Id
    ) -> Response[models.OneOperation]:
        """One operation, with what has become of each of its agents."""
        return await _answered(database, id)

    @post(
        "/{id:str}/pause",
        status_code=200,
        summary="Begin nothing further",
        opt={"content": Content((DecisionWanted,), [{"reason": "a look at the first ones"}])},
        responses=_decision("It is paused"),
    )
    async def pause_operation(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        news: NamedDependency[CommandNews],
        actor: NamedDependency[str],
        id: Id,
    ) -> Response[models.OneOperation]:
        """What is under way goes on to its end."""
        wanted, _ = await content.read(request, DecisionWanted)
        reason = wanted.reason or f"paused by {actor}"
        return await _decided(database, news, id, lambda: operations.pause(database, id, reason), "paused")

    @post(
        "/{id:str}/resume",
        status_code=200,
        summary="Go on",
        responses=_decision("It goes on"),
    )
    async def resume_operation(
        self, database: NamedDependency[Database], news: NamedDependency[CommandNews], id: Id
    ) -> Response[models.OneOperation]:
        """What has failed so far no longer counts."""
        return await _decided(database, news, id, lambda: operations.resume(database, id), "running")

    @post(
        "/{id:str}/cancel",
        status_code=200,
        summary="End it",
        opt={"content": Content((DecisionWanted,), [{"reason": "the wrong version"}])},
        responses=_decision("It is canceled"),
    )
    async def cancel_operation(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        news: NamedDependency[CommandNews],
        actor: NamedDependency[str],
        id: Id,
    ) -> Response[models.OneOperation]:
        """Nothing further begins, and what is under way is asked to end."""
        wanted, _ = await content.read(request, DecisionWanted)
        reason = wanted.reason or f"canceled by {actor}"
        return await _decided(database, news, id, lambda: operations.cancel(database, id, reason), "canceled")


async def _accepted(database: Database, actor: str, wanted: NewOperation, key: str, fingerprint_: str) -> str:
    """The id of the operation, which is stored now, or was under this key before. Raises ProblemError."""
    async with database.read() as connection:
        if (known := await operations.earlier(connection, actor, key)) is not None:
            return same(known, fingerprint_, "operation")
        wish = intent(wanted, AgentKind.KUBERNETES)
        agents = await accepting.targets(connection, wanted)
        known_to = await announced(connection, agents) if wish.params else {}
        now = await database_clock.now(connection)
    operation = accepting.operation(wish, wanted, agents, known_to, actor, now)
    known = await operations.accept(database, operation, idempotency_key=key, fingerprint=fingerprint_)
    return operation.id if known is None else same(known, fingerprint_, "operation")


async def _decided(
    database: Database,
    news: CommandNews,
    id_: str,
    decide: Callable[[], Awaitable[OperationState | None]],
    wanted: str,
) -> Response[models.OneOperation]:
    before = await decide()
    if before is not None and before.terminal and before != wanted:
        kind = problems.OPERATION_ENDED
        raise ProblemError(kind, f"the operation has ended as {before}", kind.next)
    if before is not None:
        await news.tell([id_])
    return await _answered(database, id_)


async def _answered(database: Database, id_: str, status: int = 200) -> Response[models.OneOperation]:
    async with database.read() as connection:
        stored = await queries.get_operation(connection, id_)
        if stored is None:
            kind = problems.UNKNOWN_OPERATION
            raise ProblemError(kind, f"no operation {id_!r} is stored", kind.next)
        turns = await queries.list_turns(connection, id_)
    shown = models.OneOperation(**_members(stored), targets=[_turn(turn) for turn in turns])
    headers = {"location": f"/api/v1/operations/{id_}"} if status == 202 else {}
    return Response(shown, status_code=status, headers=headers)


def _members(stored: StoredOperation) -> dict[str, Any]:
    operation = stored.operation
    # One action for all of them: it is of the kind that they are.
    params = shown_params(operation.targets[0].kind, operation.action, operation.params)
    return {
        "id": operation.id,
        "action": operation.action,
        "object": CommandObject(**operation.object.model_dump()),
        "params": params if stored.has_params else None,
        "dry_run": operation.dry_run,
        "strategy": models.Strategy(**operation.strategy.model_dump()),
        "actor": operation.actor,
        "created_at": operation.created_at,
        "state": stored.state,
        "reason": stored.reason,
        "updated_at": stored.updated_at,
        "finished_at": stored.finished_at,
        "counts": stored.counts,
    }


def _turn(turn: StoredTurn) -> models.Turn:
    return models.Turn(
        target=Target(kind=turn.target.kind, id=turn.target.id),
        command_id=turn.command_id or None,
        state=turn.state or None,
        started_at=turn.started_at,
        finished_at=turn.finished_at,
        error=None if turn.error is None else CommandError(**msgspec.structs.asdict(turn.error)),
    )
