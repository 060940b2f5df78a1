"""How a command is shown: its columns, its result, and what a person should know of it now."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from schemas.actions import shown_params
from schemas.commands import CommandState
from schemas.ids import AgentKind
from services.api.commands import models
from services.persistence import queries
from services.persistence.database.engine import Connection
from services.persistence.presence.liveness import AgentState
from services.persistence.queries import Standing, StoredCommand

_COLUMNS = (
    *("id", "action", "actor", "created_at", "start_by", "finish_by", "state", "attempts"),
    *("sent_at", "received_at", "started_at", "executed_at", "finished_at"),
    *("cancel_requested_at", "cancel_reason"),
)


async def shown(
    connection: Connection, commands: Sequence[StoredCommand], stands: str
) -> list[models.Command]:
    """Commands of a list. `stands`: why the broker's clock stands; empty while it runs."""
    waiting = {one.target for one in commands if not CommandState(one.row.state).terminal}
    standings = await queries.standings(connection, "", tuple(waiting)) if waiting else []
    agents = {one.target: one for one in standings}
    return [models.Command(**_members(one, agents.get(one.target), stands)) for one in commands]


async def shown_whole(connection: Connection, command: StoredCommand, stands: str) -> models.OneCommand:
    """One command with its result."""
    found = []
    if not CommandState(command.row.state).terminal:
        found = await queries.standings(connection, "", (command.target,))
    members = _members(command, found[0] if found else None, stands)
    if command.result is not None:
        members["data"] = command.result.data
    return models.OneCommand(**members, evidence=cast(Any, command.evidence))


def _members(command: StoredCommand, agent: Standing | None, stands: str) -> dict[str, Any]:
    row, result, target = command.row, command.result, command.target
    state = CommandState(row.state)
    params = msgspec.json.decode(command.body.params)
    return {
        **{name: getattr(row, name) for name in _COLUMNS},
        "target": models.Target(kind=target.kind, id=target.id),
        "cluster_id": target.id if target.kind is AgentKind.KUBERNETES else None,
        "object": models.CommandObject(**command.body.object),
        "params": None if params is None else shown_params(target.kind, row.action, params),
        "dry_run": command.body.dry_run,
        "operation_id": row.operation_id or None,
        "success": state is CommandState.SUCCEEDED if state.terminal else None,
        "warnings": (result.warnings if result else None) or [],
        "error": _as(models.CommandError, result.error) if result and result.error else None,
        "progress": _as(models.Progress, command.progress) if command.progress else None,
        "note": _note(command, state, agent, stands),
    }


def _as(shape: type[Any], stored: msgspec.Struct) -> Any:
    return shape(**msgspec.structs.asdict(stored))


def _note(command: StoredCommand, state: CommandState, agent: Standing | None, stands: str) -> str:
    row = command.row
    if state is CommandState.UNKNOWN and command.evidence is not None:
        return "nobody could tell by finish_by; what its agent said later is in `evidence`"
    if state is CommandState.UNKNOWN:
        return "it was handed out, and nobody can prove what became of it: look at the object"
    if state is CommandState.EXPIRED:
        return "it was not begun in time: nothing was done, and nothing will be"
    if state.terminal:
        return ""
    parts = []
    handed_out = state not in (CommandState.ACCEPTED, CommandState.SENT)
    until = f"its result is awaited until {_text(row.finish_by)}" if handed_out else (
        f"it waits until {_text(row.start_by)}"
    )  # fmt: skip
    if stands:
        parts.append(f"{stands}; {until}")
    elif agent is None or not agent.heard:
        parts.append(f"nothing was heard of its agent yet; {until}")
    elif agent.state is not AgentState.LIVE:
        parts.append(f"its agent is {agent.state}; {until}")
    elif not agent.takes_commands:
        parts.append(f"its agent has not said that it takes commands; {until}")
    if row.cancel_requested_at is not None:
        parts.append("its end was asked for")
    return "; ".join(parts)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
