"""The shapes of operations in answers."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from services.api.commands.models import CommandError, CommandObject, Target
from services.api.models import Continue
from services.persistence.queries import MAX_LISTED


class Strategy(Struct, kw_only=True):
    """How fast an operation goes, and when it stops by itself."""

    max_unavailable: Annotated[int, Meta(description="Commands under way at one time.")]
    max_failures: Annotated[
        int, Meta(description="Commands that may end otherwise than `succeeded`; one more pauses it.")
    ]
    timeout: Annotated[float, Meta(description="Seconds that each command has, from acceptance to end.")]


class Operation(Struct, kw_only=True):
    """One intent, carried out by a command on each of many agents, a few at a time."""

    id: Annotated[str, Meta(description="A UUID of version 7: ids are in the order of acceptance.")]
    action: str
    object: CommandObject
    params: Annotated[
        dict[str, Any] | None,
        Meta(
            description="As they were given, without what is secret. In a list null where they have "
            f"more than {MAX_LISTED} bytes: `/api/v1/operations/{{id}}` has them."
        ),
    ]
    dry_run: bool
    strategy: Strategy
    actor: Annotated[str, Meta(description="Who asked for it, such as `token/laptop`.")]
    created_at: datetime
    state: Annotated[
        str,
        Meta(
            description="`running`; `paused`: nothing further begins, see `reason`; then `succeeded`, "
            "`failed`: all had their turn and not all succeeded, or `canceled`."
        ),
    ]
    reason: Annotated[str, Meta(description="Why it is paused, or how it has ended.")]
    updated_at: datetime
    finished_at: datetime | None = None
    counts: Annotated[
        dict[str, int],
        Meta(description="Agents by the state of their command; `waiting`: their turn has not come."),
    ]


class Turn(Struct, kw_only=True):
    """One agent of an operation."""

    target: Target
    command_id: Annotated[str | None, Meta(description="Null while its turn has not come.")] = None
    state: Annotated[str | None, Meta(description="Of its command.")] = None
    started_at: Annotated[datetime | None, Meta(description="When its command was accepted.")] = None
    finished_at: datetime | None = None
    error: CommandError | None = None


class OneOperation(Operation, kw_only=True):
    """One operation with its agents, in the order in which they are taken."""

    targets: list[Turn]


class OperationList(Struct, kw_only=True):
    """A page of operations, the newest first."""

    items: list[Operation]
    continue_: Continue = field(name="continue", default=None)
