"""The shapes of commands in answers."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from services.api.models import Continue
from services.persistence.queries import MAX_LISTED


class Target(Struct, kw_only=True):
    """The agent that a command is for."""

    kind: str
    id: str


class CommandObject(Struct, kw_only=True):
    """The object that a command is about; empty where its action takes none."""

    resource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class CommandError(Struct, kw_only=True):
    """Why a command did not succeed."""

    code: Annotated[
        str, Meta(description="Such as `not_found`, `conflict`, `forbidden`, `timeout`. Open: expect others.")
    ]
    message: Annotated[str, Meta(description="For people: the API server's own words where it has spoken.")]
    status: Annotated[int, Meta(description="The API server's HTTP status; 0: it did not answer.")] = 0
    reason: Annotated[str, Meta(description="The API server's `reason`, such as `Conflict`.")] = ""


class Progress(Struct, kw_only=True):
    """How far a long command has come."""

    sequence: Annotated[int, Meta(description="Counts up.")]
    at: Annotated[datetime, Meta(description="By the database's clock, as its agent knows it.")]
    message: str
    done: int = 0
    total: Annotated[int, Meta(description="0: not known.")] = 0


class Command(Struct, kw_only=True):
    """One command, without the data of its result."""

    id: Annotated[str, Meta(description="A UUID of version 7: ids are in the order of acceptance.")]
    target: Target
    cluster_id: Annotated[str | None, Meta(description="The target's id, of a cluster.")] = None
    action: str
    object: CommandObject
    params: Annotated[
        dict[str, Any] | None,
        Meta(
            description="As they were given, without what is secret. In a list null where the command has "
            f"more than {MAX_LISTED} bytes: `/api/v1/commands/{{id}}` has them."
        ),
    ]
    dry_run: bool
    actor: Annotated[str, Meta(description="Who asked for it, such as `token/laptop`.")]
    operation_id: Annotated[
        str | None, Meta(description="The operation that it is a part of; null for a single one.")
    ] = None
    created_at: datetime
    start_by: Annotated[datetime, Meta(description="It is not begun after this moment.")]
    finish_by: Annotated[
        datetime,
        Meta(
            description="Its agent cuts it off then. Its end, in whichever state, may be stored up to 10s "
            "later (MASTER_COMMAND_GRACE); where none is reported by then, nor after an outage for as long, "
            "it is `unknown`."
        ),
    ]
    state: Annotated[
        str,
        Meta(
            description="`accepted`: stored. `sent`: the broker keeps it for its agent. `received`: the "
            "agent answers for it. `running`. Then one of the ends: `succeeded`; `failed`: see `error`; "
            "`rejected`: the agent has refused, and nothing was done; `expired`: not begun by `start_by`, "
            "and nothing was done; `canceled`; `unknown`: it was handed out, and nobody can prove what "
            "became of it."
        ),
    ]
    sent_at: Annotated[datetime | None, Meta(description="When the broker first had it.")] = None
    received_at: Annotated[
        datetime | None, Meta(description="By the database's clock, as its agent knows it.")
    ] = None
    started_at: Annotated[
        datetime | None, Meta(description="By the database's clock, as its agent knows it.")
    ] = None
    executed_at: Annotated[
        datetime | None,
        Meta(description="Likewise: when the effect was there, or it was clear that there is none."),
    ] = None
    finished_at: Annotated[datetime | None, Meta(description="When its end was stored.")] = None
    attempts: Annotated[int, Meta(description="How often it was given to the broker.")] = 0
    success: Annotated[
        bool | None, Meta(description="Whether it has succeeded; null until it has ended.")
    ] = None
    warnings: Annotated[list[str], Meta(description="The API server's warnings.")] = []
    error: Annotated[CommandError | None, Meta(description="Why it did not succeed.")] = None
    progress: Annotated[Progress | None, Meta(description="How far it has come, where it says so.")] = None
    cancel_requested_at: Annotated[datetime | None, Meta(description="Since when it is to end.")] = None
    cancel_reason: str = ""
    note: Annotated[
        str, Meta(description="What a person should know now, such as that it waits for a lost agent.")
    ] = ""


class OneCommand(Command, kw_only=True):
    """One command with its result."""

    data: Annotated[Any, Meta(description="What the action has given back; null for nothing.")] = None
    evidence: Annotated[
        dict[str, Any] | None,
        Meta(description="What its agent said after the end: `state`, `success`, `data`, `error`, …"),
    ] = None


class LiveObject(Struct, kw_only=True):
    """One object as its API server had it just now."""

    object: Annotated[dict[str, Any], Meta(description="In Kubernetes' own nesting, whole, redacted.")]
    read_at: Annotated[datetime, Meta(description="When its agent had read it, by the agent's clock.")]
    age: Annotated[float, Meta(description="Seconds since its result was stored.")]
    command_id: Annotated[str, Meta(description="The command that has read it.")]


class CommandList(Struct, kw_only=True):
    """A page of commands, the newest first."""

    items: list[Command]
    continue_: Continue = field(name="continue", default=None)
