"""An object as its API server has it now: one `dynamic` command, asked for and waited for."""

import re
from datetime import datetime, timedelta
from typing import NoReturn

import msgspec
from msgspec import Raw, Struct

from schemas.actions import ACTIONS
from schemas.commands import CommandObject, CommandState, ErrorCode
from schemas.ids import Target
from schemas.kubernetes import KINDS
from services.api.commands import accepting
from services.api.commands.accepting import Intent
from services.api.http import content, problems
from services.api.http.problems import ProblemError
from services.persistence import queries
from services.persistence.commands.accept import accept
from services.persistence.database import clock
from services.persistence.database.engine import Connection, Database
from services.persistence.presence.liveness import AgentState
from services.persistence.queries import AgentStatus, StoredCommand

ACTION = "dynamic"
FINISH = timedelta(seconds=30)
"""After the time in which it has to begin: nobody waits for it any longer, but it is to have an end."""
_WITH_VERSION = re.compile(r"(?P<plural>[a-z0-9-]+)\.(?P<version>v[0-9][a-z0-9]*)(\.(?P<group>[a-z0-9.-]+))?")
_REFUSALS = {ErrorCode.FORBIDDEN, ErrorCode.NOT_ALLOWED}
_NO_ANSWER = {ErrorCode.LATE, ErrorCode.TIMEOUT, ErrorCode.INTERRUPTED, ErrorCode.JOURNAL_LOST}


class Read(Struct, frozen=True):
    """What it gives back of one object."""

    object: Raw
    read_at: datetime
    """By the agent's clock."""


async def wish(connection: Connection, target: Target, resource: str, namespace: str, name: str) -> Intent:
    """What is to be asked of the agent. Raises ProblemError."""
    action = ACTIONS.get(target.kind, {}).get(ACTION)
    if action is None:
        raise ProblemError(
            problems.UNKNOWN_RESOURCE,
            f"agents of kind {target.kind} are asked for no objects",
            "only those of clusters are: /api/v1/clusters",
        )
    group, version, plural = await _served_as(connection, target, resource)
    params = {
        "verb": "get",
        "group": group,
        "version": version,
        "resource": plural,
        "namespace": namespace,
        "name": name,
    }
    content.checked(action.params, params)
    if refusal := action.refusal(params):
        raise ProblemError(
            problems.CLUSTER_REFUSES, refusal, "what was collected, if it is, is there without /live"
        )
    return Intent(action, CommandObject(), params, dry_run=False)


async def _served_as(connection: Connection, target: Target, resource: str) -> tuple[str, str, str]:
    """Group, version and plural of a resource as paths name it. Raises ProblemError."""
    if (kind := KINDS.get(resource)) is not None:
        return kind.group, kind.version, kind.plural
    if (named := _WITH_VERSION.fullmatch(resource)) is not None:
        return named["group"] or "", named["version"], named["plural"]
    where = queries.ResourceFilter(resource=resource, targets=(target,))
    page = await queries.list_resources(connection, where, limit=1, full=True)
    if page.items:  # what was added by setting is kept whole, and says what it is
        api_version = str(msgspec.json.decode(page.items[0]).get("object", {}).get("apiVersion", ""))
        group, _, version = api_version.rpartition("/")
        return group, version, resource.partition(".")[0]
    raise ProblemError(
        problems.UNKNOWN_RESOURCE,
        f"{target} collects no {resource!r}, so its version is not known",
        f"name it, as in {resource.partition('.')[0]}.v1.{resource.partition('.')[2] or 'example.com'}",
    )


async def ask(database: Database, wish: Intent, status: AgentStatus, actor: str, seconds: float) -> str:
    """The id of the command, which is accepted. Raises ProblemError."""
    if status.state is AgentState.LOST:
        raise ProblemError(
            problems.NO_ANSWER,
            f"{status.target} cannot be asked: its agent is lost",
            "what was collected is there without /live; `atlhyper agents` shows since when it is lost",
        )
    async with database.read() as connection:
        now = await clock.now(connection)
    start_by = now + timedelta(seconds=seconds)
    command = accepting.command(wish, status, actor, now, start_by, start_by + FINISH)
    await accept(database, command)
    return command.id


def object_read(command: StoredCommand, seconds: float) -> Read:
    """What a command has read. Raises the ProblemError that says why there is no object."""
    if command.row.state != CommandState.SUCCEEDED or command.result is None:
        _refuse(command, seconds)
    return msgspec.json.decode(command.result.data, type=Read)


def _refuse(command: StoredCommand, seconds: float) -> NoReturn:
    error = command.result.error if command.result else None
    state, code = CommandState(command.row.state), error.code if error else ""
    see = f"see what becomes of it: /api/v1/commands/{command.row.id}"
    if not state.terminal:
        detail = f"{command.target} has not answered within {seconds:g}s; the command is {state}"
        raise ProblemError(problems.NO_ANSWER, detail, see)
    said = error.message if error else f"the command has ended as {state}"
    if code == ErrorCode.NOT_FOUND:
        raise ProblemError(problems.UNKNOWN_OBJECT, said, "what was collected is there without /live")
    if code in _REFUSALS:
        raise ProblemError(problems.CLUSTER_REFUSES, said, problems.CLUSTER_REFUSES.next)
    if code in _NO_ANSWER or state in (CommandState.EXPIRED, CommandState.UNKNOWN):
        raise ProblemError(problems.NO_ANSWER, f"{command.target} has not answered: {said}", see)
    raise ProblemError(problems.CLUSTER_FAILS, said, f"{problems.CLUSTER_FAILS.next}; {see}")
