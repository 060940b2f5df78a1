"""From what was sent to a command that can be stored, or to a problem that says why it cannot."""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from pydantic import BaseModel

from schemas.actions import ACTIONS, capability
from schemas.commands import Action, Command, CommandObject, Nature, TargetReference
from schemas.ids import AgentKind, Target, uuid7
from schemas.kubernetes import KINDS
from schemas.kubernetes.names import plural
from schemas.topology import MAX_PAYLOAD
from services.api.commands.requests import MAX_START_WITHIN, MAX_TIMEOUT, NewCommand, Wanted
from services.api.http import content, problems
from services.api.http.content import wrong
from services.api.http.problems import InvalidParameter, ProblemError
from services.persistence.presence.liveness import AgentState
from services.persistence.queries import AgentStatus

START_WITHIN = 300.0
"""Seconds that a command may wait for its beginning, unless it says otherwise."""
TIMEOUT = 120.0
LONG_TIMEOUT = 600.0
"""Seconds that it may take from then on; a long one."""
MAX_BYTES = MAX_PAYLOAD - 32 * 1024
"""Of a command: beside it a message has headers."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is to be done with which object: the same for one agent and for many."""

    action: Action
    object: CommandObject
    params: dict[str, Any]
    dry_run: bool

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.action.nature_of(self.params) is Nature.READ


def fingerprint(plain: Any) -> str:
    """Of the content of a request: the same for what means the same JSON."""
    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()


def intent(wanted: Wanted, kind: AgentKind) -> Intent:
    """What is to be done by agents of a kind. Raises ProblemError."""
    action = _action(wanted.action, kind)
    about = _object(wanted, action)
    content.checked(action.params, wanted.params, "params")
    if refusal := action.refusal(wanted.params):
        raise wrong("params", refusal, "do it by other means: no agent does it")
    if wanted.dry_run and not action.dry_run:
        raise wrong("dry_run", f"{action.name} cannot be tried without an effect", "leave it out")
    return Intent(action, about, dict(wanted.params), wanted.dry_run)


def target(wanted: NewCommand) -> Target:
    """The agent that a command is for. Raises ProblemError."""
    if (wanted.target is None) == (wanted.cluster_id is None):
        raise wrong("target", "names no agent" if wanted.target is None else "is there beside cluster_id",
                    "name the agent by `target`, or a cluster by `cluster_id`")  # fmt: skip
    if wanted.target is not None:
        return Target(wanted.target.kind, wanted.target.id)
    assert wanted.cluster_id is not None
    return Target(AgentKind.KUBERNETES, wanted.cluster_id)


def command(
    wish: Intent, status: AgentStatus, actor: str, now: datetime, start_by: datetime, finish_by: datetime
) -> Command:
    """The command, with a new id. Raises ProblemError when its agent has said that it will not do it."""
    check_capable(wish, status)
    made = Command(
        id=uuid7(),
        target=TargetReference(kind=status.target.kind, id=status.target.id),
        instance=status.heartbeat.instance if status.heartbeat else "",
        action=wish.action.name,
        object=wish.object,
        params=wish.params,
        dry_run=wish.dry_run,
        created_at=now,
        start_by=start_by,
        finish_by=finish_by,
        actor=actor,
    )
    check_size(made)
    return made


def check_size(made: BaseModel) -> None:
    """Of a command, or what becomes one. Raises ProblemError when no broker would carry it."""
    if len(made.model_dump_json().encode()) > MAX_BYTES:
        raise ProblemError(
            problems.CONTENT_TOO_LARGE,
            f"the command has more than {MAX_BYTES} bytes, which no broker would carry",
            "ask for less at once, such as a smaller manifest",
        )


def check_capable(wish: Intent, status: AgentStatus) -> None:
    """Raises ProblemError when the agent would refuse, by what it last said of itself.

    Of one that is lost, or has not said what it can do, nobody knows: its command waits.
    """
    said = status.heartbeat
    if said is None or status.state is AgentState.LOST or not (said.journal and said.capabilities):
        return
    if said.read_only and not wish.reads:
        if wish.dry_run:
            return
        raise ProblemError(
            problems.NOT_CAPABLE,
            f"{status.target} is read-only: it changes nothing",
            problems.NOT_CAPABLE.next,
        )
    if capability(wish.action.name) not in said.capabilities:
        able = ", ".join(
            name for name in sorted(ACTIONS[status.target.kind]) if capability(name) in said.capabilities
        )
        raise ProblemError(
            problems.NOT_CAPABLE,
            f"{status.target} cannot {wish.action.name}: its agent has not the right to, or does not know it",
            f"give the agent's role the right, or update the agent; it can: {able or 'nothing'}",
        )


# --- the action and its object -----------------------------------------------------------------------


def _action(name: str, kind: AgentKind) -> Action:
    known: Mapping[str, Action] = ACTIONS.get(kind, {})
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    raise ProblemError(
        problems.UNKNOWN_ACTION,
        f"{name!r} is not an action of agents of kind {kind}",
        f"{guess}there are: {', '.join(sorted(known)) or 'none yet'}",
        [InvalidParameter(parameter="action", message="is not known")],
    )


def _object(wanted: Wanted, action: Action) -> CommandObject:
    given: dict[str, tuple[str, str]] = {}
    inner = wanted.object.model_dump(exclude_none=True) if wanted.object else {}
    outer = wanted.model_dump(include={"resource", "kind", "namespace", "name", "uid"}, exclude_none=True)
    for place, fields in (("object.", inner), ("", outer)):
        for name, value in fields.items():
            if not value:  # as our own answers show what is not there
                continue
            meant = "resource" if name == "kind" else name
            if meant in given:
                raise wrong(place + name, f"is there beside {given[meant][0]}", "give it once")
            given[meant] = (place + name, value)
    if not action.needs_object:
        for field, _ in given.values():
            raise wrong(field, f"{action.name} takes no object: its params name it", "leave it out")
        return CommandObject()
    values = {name: value for name, (_, value) in given.items()}
    if "resource" not in values and len(action.resources) == 1:
        values["resource"] = action.resources[0]
    for name in ("resource", "name"):
        if name not in values:
            raise wrong(f"object.{name}", f"is missing: {action.name} needs an object")
    if values["name"] in (".", ".."):
        raise wrong(given["name"][0], "is not a name")
    values["resource"] = plural(values["resource"])
    if action.resources and values["resource"] not in action.resources:
        where = given["resource"][0]
        raise wrong(
            where, f"{action.name} works on {', '.join(action.resources)}, not on {values['resource']}"
        )
    if (kind := KINDS.get(values["resource"])) is not None:
        if kind.namespaced and "namespace" not in values:
            raise wrong("object.namespace", f"is missing: {kind.resource} are in a namespace")
        if not kind.namespaced and "namespace" in values:
            raise wrong(given["namespace"][0], f"{kind.resource} are in no namespace", "leave it out")
    return CommandObject(**values)


# --- its times ---------------------------------------------------------------------------------------


def times(wanted: NewCommand, action: Action, now: datetime) -> tuple[datetime, datetime]:
    """`start_by` and `finish_by`, by the clock of the database. Raises ProblemError."""
    start_by = _moment("start_by", wanted.start_by, "start_within", wanted.start_within)
    if start_by is None:
        within = START_WITHIN if wanted.start_within is None else wanted.start_within
        start_by = now + timedelta(seconds=within)
    if start_by <= now:
        raise ProblemError(
            problems.TOO_LATE,
            f"start_by: {_text(start_by)} is past; it is {_text(now)}",
            problems.TOO_LATE.next,
            [InvalidParameter(parameter="start_by", message="is past")],
        )
    if start_by > now + timedelta(seconds=MAX_START_WITHIN):
        raise wrong("start_by", "is more than 7d away", "ask for it when it is nearer")
    finish_by = _moment("finish_by", wanted.finish_by, "timeout", wanted.timeout)
    if finish_by is None:
        timeout = wanted.timeout
        if timeout is None:
            timeout = LONG_TIMEOUT if action.long else TIMEOUT
        finish_by = start_by + timedelta(seconds=timeout)
    if finish_by <= start_by:
        raise wrong("finish_by", f"{_text(finish_by)} is not after start_by, {_text(start_by)}")
    if finish_by > start_by + timedelta(seconds=MAX_TIMEOUT):
        raise wrong("finish_by", "is more than 1d after start_by")
    return start_by, finish_by


def _moment(name: str, moment: datetime | None, other: str, seconds: float | None) -> datetime | None:
    if moment is None:
        return None
    if seconds is not None:
        raise wrong(name, f"is there beside {other}", "give one of them")
    if moment.tzinfo is None:
        raise wrong(name, "has no time zone", "write it as in 2026-11-21T08:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise wrong(name, "is not in the years 1 to 9999 of UTC") from None


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
