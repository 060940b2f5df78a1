"""Commands: what an agent is asked to do, where that stands, and what it says of it.

A command is asked for once, by whoever writes its row, and reaches exactly one terminal state. Its states
only ever move on; reports may come late, twice or out of order, and change nothing then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator

from schemas.ids import AgentKind, Target
from schemas.presence import Message
from schemas.times import Time

MAX_RESULT = 64 * 1024 * 1024
"""Bytes of JSON that a result's `data` may have; beyond it the command fails with `too_large`."""
MAX_PARTS = 4096
"""Slices of one result; agents make far larger ones than it would take."""

CommandId = Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")]
"""A UUID as a rule; one token of a subject in any case, so that a report's subject names its command."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""Which every database and every reader of JSON holds exactly."""


class CommandState(StrEnum):
    """Where a command stands; the same in database, bus, API and documentation."""

    ACCEPTED = "accepted"
    """It is stored, and will be sent."""
    SENT = "sent"
    """The broker keeps it for its agent."""
    RECEIVED = "received"
    """The agent has taken custody: it is in the agent's journal."""
    RUNNING = "running"
    """It may have an effect from now on."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It was tried; the error says what is known of its effect."""
    REJECTED = "rejected"
    """The agent has refused it: nothing was done."""
    EXPIRED = "expired"
    """Not begun by `start_by`: nothing was done, and nothing will be."""
    CANCELED = "canceled"
    """Ended on request; what had been done by then is in its result. Where its agent was killed meanwhile
    its error says that what was done before is not known."""
    UNKNOWN = "unknown"
    """Handed out, and nobody can prove what became of it. A late result is attached as evidence."""

    @property
    def terminal(self) -> bool:
        """Whether it is the last one."""
        return self not in _RANK

    def may_become(self, state: "CommandState") -> bool:
        """Whether a command here may move to `state`: forwards only, and from a terminal one nowhere."""
        if self.terminal:
            return False
        return state.terminal or _RANK[state] > _RANK[self]

    @property
    def before(self) -> tuple["CommandState", ...]:
        """The states from which a command may come here."""
        return tuple(state for state in CommandState if state.may_become(self))


_RANK = {
    CommandState.ACCEPTED: 0,
    CommandState.SENT: 1,
    CommandState.RECEIVED: 2,
    CommandState.RUNNING: 3,
}

OPEN_STATES = tuple(_RANK)
"""The states of a command that has not ended."""


class ErrorCode(StrEnum):
    """Why a command did not succeed. Open: a reader must expect others."""

    UNKNOWN_ACTION = "unknown_action"
    INVALID = "invalid"
    """Its parameters or its object are not what the action takes; also 400 and 422 of the API server."""
    WRONG_TARGET = "wrong_target"
    """It names another agent, or another cluster stands behind the id than the one it was meant for."""
    NOT_ALLOWED = "not_allowed"
    """The agent is read-only, or its allow list does not have it."""
    LATE = "late"
    """It came after `start_by`."""
    FORBIDDEN = "forbidden"
    """401 or 403 of the API server: the agent's role lacks the right."""
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    """409: something has changed meanwhile, another object has the name, or another manager the field."""
    THROTTLED = "throttled"
    """429: among others, a disruption budget that allows no eviction now."""
    SERVER = "server"
    """500 and above."""
    UNREACHABLE = "unreachable"
    """No connection to the API server, so nothing was done."""
    TIMEOUT = "timeout"
    """It was sent and not answered, or not finished, in time."""
    INTERRUPTED = "interrupted"
    """The agent ended in the middle of it, and what is there does not prove the outcome."""
    JOURNAL_LOST = "journal_lost"
    """The journal that may have held it is gone."""
    TOO_LARGE = "too_large"
    """More than a result may have."""
    CANCELED = "canceled"
    INTERNAL = "internal"
    """A fault of ours; the agent's log has it."""


class Nature(StrEnum):
    """What an action does to its object."""

    READ = "read"
    CHANGE = "change"
    DESTROY = "destroy"


class Params(BaseModel):
    """Base of an action's parameters: what is not known is an error, or a typing mistake would be obeyed."""

    model_config = {"extra": "forbid", "frozen": True}


class NoParams(Params):
    """The action takes none."""


def _nothing_against(params: Mapping[str, Any]) -> str:  # noqa: ARG001 (whatever they are)
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that an agent of some kind can be asked to do."""

    name: str
    description: str
    nature: Nature
    params: type[Params] = NoParams
    resources: tuple[str, ...] = ()
    """The resources of the objects that it works on; empty: any, or the parameters name it."""
    needs_object: bool = True
    """Whether the command has to name an object."""
    repeat_safe: bool = False
    """Done twice it has the same effect as once: after a crash it is simply done again."""
    long: bool = False
    """It may take minutes; it reports its progress, and others do not wait for it."""
    cancellable: bool = False
    """It can be ended while it runs."""
    dry_run: bool = True
    """Whether it can be tried without an effect."""
    by_verb: Mapping[str, Nature] = field(default_factory=dict)
    """Its nature where the parameter `verb` decides it; `nature` is the worst of them."""

    data: Mapping[str, str] = field(default_factory=dict)
    """What the `data` of its result has, by field: for the reference."""
    shown: Callable[[dict[str, Any]], dict[str, Any]] = dict
    """Its parameters as people may see them later: without what is secret in them."""
    refusal: Callable[[Mapping[str, Any]], str] = _nothing_against
    """Why no agent does it with these parameters, which fit `params`; empty: one may. Asked before a command
    is stored, so that nothing of what is never done is kept anywhere."""

    def schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of its parameters; names that it does not have are forbidden."""
        return self.params.model_json_schema(by_alias=True)

    def nature_of(self, params: Mapping[str, Any]) -> Nature:
        """What it does to its object with these parameters."""
        return self.by_verb.get(str(params.get("verb")), self.nature)


class CommandObject(Message):
    """The object that a command is about. Empty where the action takes none."""

    resource: str = ""
    """kubectl's plural, or `<plural>.<version>.<group>`."""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    """Where it is given, the object that has the name must be this one."""


class TargetReference(Message):
    """The agent that a command is for."""

    kind: AgentKind
    id: str

    def target(self) -> Target:
        """Raises ContractError when the id is none."""
        return Target(self.kind, self.id)


class Command(Message):
    """One command: these bytes are stored, sent, signed and journaled as they are."""

    id: CommandId
    target: TargetReference
    instance: str = ""
    """What stood behind the id when it was asked for: another one refuses. Empty: not known."""
    action: str
    object: CommandObject = CommandObject()
    params: dict[str, Any] = {}
    dry_run: bool = False
    created_at: Time
    start_by: Time
    """Not begun after it."""
    finish_by: Time
    """Its agent cuts it off then. Its end, in whichever state, may be stored up to a grace of the master's
    later; where none is reported by then, nor after an outage for as long, it is `unknown`."""
    actor: str = ""
    """Who asked for it."""
    operation: str = ""
    """The operation that it is a part of; empty for a single one."""


class CommandError(Message):
    """Why a command did not succeed."""

    code: str
    """An ErrorCode."""
    message: str
    """For a person: the API server's own words where it has spoken."""
    status: int = 0
    """The API server's HTTP status; 0: it did not answer, or was not asked."""
    reason: str = ""
    """The API server's `reason`, such as `Conflict`."""


# --- what an agent says of a command -----------------------------------------------------------------


class CommandReceived(Message):
    """It is in the journal: the agent answers for it from now on."""

    command_id: CommandId
    journal: str
    at: Time
    """By the clock of the deadlines, as the agent knows it; as all times of reports."""


class CommandStarted(Message):
    """It may have an effect from now on."""

    command_id: CommandId
    at: Time


class CommandProgressed(Message):
    """How far a long one has come."""

    command_id: CommandId
    sequence: int = Field(ge=1, le=2**53)
    """Counts up from 1; a lower one that comes later is old."""
    at: Time
    message: str
    done: Count = 0
    total: Count = 0
    """0: not known."""


class ResultPart(Message):
    """A slice of a result's `data` that does not fit into one message; all are sent before the end of it."""

    command_id: CommandId
    index: int = Field(ge=0, lt=MAX_PARTS)
    count: int = Field(ge=1, le=MAX_PARTS)
    data: str
    """A slice of the JSON text of `data`."""


class CommandCompleted(Message):
    """The end of a command, as its agent knows it."""

    command_id: CommandId
    state: CommandState
    success: bool
    data: Any = None
    """What the action gives back; null while `parts` says that it travels in slices."""
    parts: int = Field(default=0, ge=0, le=MAX_PARTS)
    """Number of ResultPart messages that hold `data`."""
    error: CommandError | None = None
    warnings: list[str] = []
    """The API server's warnings (RFC 9111, `Warning: 299`)."""
    executed_at: Time
    """When the effect was there, or it was clear that there is none."""

    @field_validator("state")
    @classmethod
    def _terminal(cls, value: CommandState) -> CommandState:
        if not value.terminal:
            raise ValueError(f"{value} is not the end of a command")
        return value
