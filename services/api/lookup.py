"""Finding what a path names, or saying what there is instead."""

from schemas.ids import AgentKind, Target
from schemas.kubernetes import KINDS
from schemas.presence import CollectionState
from services.api import problems
from services.api.models import CollectionStatus
from services.persistence import queries
from services.persistence.database.engine import Session
from services.persistence.queries import AgentStatus

_NAMED = 20
"""How many agents a problem names."""
UNKNOWN = "unknown"
"""The state of a collection that no heartbeat has spoken of."""


async def find_agent(session: Session, target: Target) -> AgentStatus:
    """An agent. Raises ProblemError when nothing was ever heard of it."""
    status = await queries.get_agent(session, target)
    if status is not None:
        return status
    known = await queries.list_agents(session, target.kind, limit=_NAMED)
    names = ", ".join(other.target.id for other in known.items) + (", …" if known.remaining else "")
    raise problems.ProblemError(
        problems.UNKNOWN_AGENT,
        f"no agent {target} has ever been heard of",
        f"known of that kind: {names or 'none yet'}; an agent appears with its first heartbeat",
    )


def find_collection(status: AgentStatus, resource: str) -> CollectionStatus:
    """How the collection of a resource is doing. Raises ProblemError for one that the agent does not have.

    A resource that is known but not collected is no error: its list says so, and why.
    """
    for entry in status.collection:
        if entry.resource == resource:
            return collection_status(entry)
    built_in = KINDS if status.target.kind is AgentKind.KUBERNETES else {}
    if resource not in built_in:
        known = {*built_in, *(entry.resource for entry in status.collection)}
        raise problems.ProblemError(
            problems.UNKNOWN_RESOURCE,
            f"{resource!r} is not a resource of {status.target}",
            f"known resources: {', '.join(sorted(known)) or 'none'}",
        )
    if status.heartbeat is None:
        return CollectionStatus(resource=resource, state=UNKNOWN, reason="no heartbeat of its agent has come")
    return CollectionStatus(
        resource=resource, state=CollectionState.OFF, reason="its agent does not collect this resource"
    )


def collection_status(entry: queries.CollectionStatus) -> CollectionStatus:
    """A collection as the API shows it."""
    return CollectionStatus(
        resource=entry.resource,
        state=entry.state,
        reason=entry.reason,
        objects=entry.objects,
        relists=entry.relists,
        last_event_at=entry.last_event_at,
        synced_at=entry.synced_at,
    )
