"""Parameters that several paths share, and what they mean."""

from datetime import UTC, datetime
from typing import Annotated

from litestar.params import PathParameter, QueryParameter

from schemas.errors import ContractError
from schemas.ids import AgentKind, Target
from services.api import problems
from services.api.models import View

DEFAULT_LIMIT = 500
MAX_LIMIT = 10_000
MAX_TEXT = 253
"""Characters of a name at most: the limit of Kubernetes' longest names (RFC 1123 subdomain)."""

AgentId = Annotated[
    str, PathParameter(description="The agent's id; for Kubernetes the cluster id.", max_length=63)
]
Kind = Annotated[AgentKind, PathParameter(description="The kind of agent.")]
Resource = Annotated[
    str,
    PathParameter(
        description="kubectl's plural (`pods`), or `<plural>.<group>` for one that was added by setting.",
        max_length=MAX_TEXT,
    ),
]
Limit = Annotated[int, QueryParameter(description="Items per page.", ge=1, le=MAX_LIMIT)]
Continue = Annotated[
    str | None,
    QueryParameter(
        name="continue",
        description="The `continue` of the page before; with the same filters.",
        max_length=4096,
    ),
]
Namespace = Annotated[
    str | None, QueryParameter(description="Only objects of this namespace.", max_length=MAX_TEXT)
]


ViewParameter = Annotated[
    View, QueryParameter(description="`full` adds each object's projection as `object`.")
]
ObjectNamespace = Annotated[
    str, PathParameter(description="Its namespace; `_` for a cluster-scoped object.", max_length=MAX_TEXT)
]
ObjectName = Annotated[str, PathParameter(description="Its name.", max_length=MAX_TEXT)]


def text(description: str) -> QueryParameter:
    """A filter by an exact text."""
    return QueryParameter(description=description, max_length=MAX_TEXT)


def target(kind: AgentKind, id: str, name: str = "id") -> Target:
    """The agent that a parameter, `name`, identifies. Raises ProblemError."""
    try:
        return Target(kind, id)
    except ContractError as error:
        raise problems.invalid(name, str(error), "list what there is: /api/v1/agents") from error


def aware(name: str, time: datetime | None) -> datetime | None:
    """A time that says its zone, in UTC. Raises ProblemError naming the parameter."""
    if time is None:
        return None
    example = "write it as in 2026-11-21T08:00:00Z"
    if time.tzinfo is None:
        raise problems.invalid(name, "has no time zone", example)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise problems.invalid(name, "is not in the years 1 to 9999 of UTC", example) from None
