"""Parameters that several paths share, and what they mean."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from schemas.errors import ContractError
from schemas.ids import AgentKind, Target
from services.api.http import problems
from services.api.models import View

DEFAULT_LIMIT = 500
MAX_LIMIT = 10_000
MAX_TEXT = 253
"""Characters of a name at most: the limit of Kubernetes' longest names (RFC 1123 subdomain)."""
MAX_SELECTOR = 4096
"""Characters of a selector at most."""
MAX_CLUSTERS = 1000

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
        description="The `continue` of the page before; with the same filters and order.",
        max_length=4096,
    ),
]
Namespace = Annotated[
    str | None, QueryParameter(description="Only objects of this namespace.", max_length=MAX_TEXT)
]
Clusters = Annotated[
    list[str] | None,
    QueryParameter(
        description=f"Only these clusters, by id, separated by commas or given several times; at most "
        f"{MAX_CLUSTERS}. One that is not known is a 404.",
        examples=[Example(value=["prod-eu"])],
    ),
]
LabelSelector = Annotated[
    str | None,
    QueryParameter(
        name="labelSelector",
        description="kubectl's `-l`: `app=web,tier in (a,b),!canary,replicas>2`.",
        max_length=MAX_SELECTOR,
    ),
]
FieldSelector = Annotated[
    str | None,
    QueryParameter(
        name="fieldSelector",
        description="kubectl's `--field-selector`, by the fields that the API server selects by: "
        "`status.phase=Running,spec.nodeName!=node-1`.",
        max_length=MAX_SELECTOR,
    ),
]
Owner = Annotated[
    str | None,
    QueryParameter(
        description="`<Kind>/<name>` of the managing owner, or of an owner's owner: `Deployment/web` finds "
        "the pods of its ReplicaSets too.",
        max_length=2 * MAX_TEXT + 1,
    ),
]
Node = Annotated[
    str | None,
    QueryParameter(
        description="Only objects that are bound to this node; Events about it or reported from it.",
        max_length=MAX_TEXT,
    ),
]
Text = Annotated[
    str | None,
    QueryParameter(
        description="A piece of name, namespace, cluster, node or owner, in any case; of Events, of message, "
        "reason or the object's name. `%` and `_` stand for themselves.",
        max_length=MAX_TEXT,
    ),
]
Sort = Annotated[
    str | None,
    QueryParameter(
        description="A column of the rows, with `-` before it downwards: `restarts`, `-created_at`. Cluster, "
        "namespace and name follow in the same direction; what has no value is less than all that have one; "
        "of a text the first 256 characters count. `involved` of Events is `<kind>/<name>`.",
        max_length=MAX_TEXT,
    ),
]
ViewParameter = Annotated[
    View, QueryParameter(description="`full` adds each object's projection as `object`.")
]
ObjectNamespace = Annotated[
    str, PathParameter(description="Its namespace; `_` for a cluster-scoped object.", max_length=MAX_TEXT)
]
ObjectName = Annotated[str, PathParameter(description="Its name.", max_length=MAX_TEXT)]

_ONLY = "Of `events` only: "
EventType = Annotated[
    str | None, QueryParameter(description=f"{_ONLY}`Normal` or `Warning`.", max_length=MAX_TEXT)
]
Reason = Annotated[
    str | None, QueryParameter(description=f"{_ONLY}their reason, such as `BackOff`.", max_length=MAX_TEXT)
]
AboutKind = Annotated[
    str | None,
    QueryParameter(
        name="kind",
        description=f"{_ONLY}kind of the object they are about, such as `Pod`.",
        examples=[Example(value="Pod")],
        max_length=MAX_TEXT,
    ),
]
AboutName = Annotated[
    str | None,
    QueryParameter(
        name="name", description=f"{_ONLY}name of the object they are about.", max_length=MAX_TEXT
    ),
]
Since = Annotated[datetime | None, QueryParameter(description=f"{_ONLY}last seen then or later.")]
Until = Annotated[datetime | None, QueryParameter(description=f"{_ONLY}last seen before then.")]


def target(kind: AgentKind, id: str, name: str = "id") -> Target:
    """The agent that a parameter, `name`, identifies. Raises ProblemError."""
    try:
        return Target(kind, id)
    except ContractError as error:
        raise problems.invalid(name, str(error), "list what there is: /api/v1/agents") from error


def clusters(given: Sequence[str] | None) -> tuple[Target, ...] | None:
    """The clusters of a filter, each once, by id; None: all. Raises ProblemError for what can be no id."""
    if given is None:
        return None
    named = {part.strip() for some in given for part in some.split(",")}
    if len(named) > MAX_CLUSTERS:
        message = f"names {len(named)} clusters, more than {MAX_CLUSTERS}"
        raise problems.invalid("cluster", message, "ask for some of them at a time, or leave it out")
    return tuple(target(AgentKind.KUBERNETES, name, name="cluster") for name in sorted(named))


def states(given: Sequence[str] | None, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """The states of a filter: what is `known` by the names that are given, each once. Raises ProblemError."""
    if given is None:
        return None
    named = [part.strip() for some in given for part in some.split(",")]
    for name in named:
        if name not in known:
            raise problems.invalid("state", f"{name!r} is not a state", f"there are: {', '.join(known)}")
    return tuple(sorted({state for name in named for state in known[name]}))


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
