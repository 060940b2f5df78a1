"""Finding what a path names, or saying what there is instead."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.ids import AgentKind, Target
from schemas.kubernetes import KINDS
from schemas.presence import CollectionState
from services.api.fleet_models import ClusterCollection
from services.api.http import problems
from services.api.models import CollectionStatus
from services.persistence import queries
from services.persistence.database.engine import Connection
from services.persistence.presence.liveness import AgentState
from services.persistence.queries import AgentStatus, Standing

_NAMED = 20
"""How many agents a problem names."""
MAX_COLLECTIONS = 100
"""How many clusters an answer names as incomplete."""
UNKNOWN = "unknown"
"""The state of a collection that no heartbeat has spoken of."""


async def find_agent(connection: Connection, target: Target) -> AgentStatus:
    """An agent. Raises ProblemError when nothing was ever heard of it."""
    status = await queries.get_agent(connection, target)
    if status is not None:
        return status
    known = await queries.list_agents(connection, target.kind, limit=_NAMED)
    names = ", ".join(other.target.id for other in known.items) + (", …" if known.remaining else "")
    raise problems.ProblemError(
        problems.UNKNOWN_AGENT,
        f"no agent {target} has ever been heard of",
        f"known of that kind: {names or 'none yet'}; an agent appears with its first heartbeat",
    )


class Collecting(Protocol):
    """What is known of an agent's collection."""

    @property
    def target(self) -> Target: ...
    @property
    def heartbeat(self) -> object: ...
    @property
    def collection(self) -> Sequence[queries.CollectionStatus]: ...


def find_collection(status: Collecting, resource: str) -> CollectionStatus:
    """How the collection of a resource is doing. Raises ProblemError for one that the agent does not have.

    A resource that is known but not collected is no error: its list says so, and why.
    """
    for entry in status.collection:
        if entry.resource == resource:
            return collection_status(entry)
    known = {*_built_in(status.target.kind), *(entry.resource for entry in status.collection)}
    if resource not in known:
        raise problems.ProblemError(
            problems.UNKNOWN_RESOURCE,
            f"{resource!r} is not a resource of {status.target}",
            f"known resources: {', '.join(sorted(known)) or 'none'}",
        )
    return _not_named(resource, heard=status.heartbeat is not None)


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


def _built_in(kind: AgentKind) -> Collection[str]:
    return KINDS if kind is AgentKind.KUBERNETES else ()


def _not_named(resource: str, *, heard: bool) -> CollectionStatus:
    if not heard:
        return CollectionStatus(resource=resource, state=UNKNOWN, reason="no heartbeat of its agent has come")
    return CollectionStatus(
        resource=resource, state=CollectionState.OFF, reason="its agent does not collect this resource"
    )


# --- before a list -----------------------------------------------------------------------------------


async def find_standing(
    connection: Connection, target: Target, resource: str
) -> tuple[datetime | None, CollectionStatus]:
    """Of when an agent's state is, and how its collection of a resource is doing; as `find_collection`."""
    found = await queries.standings(connection, resource, [target])
    if found and (entry := found[0].collection) is not None:
        return found[0].as_of, collection_status(entry)
    if found and resource in _built_in(target.kind):
        return found[0].as_of, _not_named(resource, heard=found[0].heard)
    status = await find_agent(connection, target)  # for the words of the problem
    return status.as_of, find_collection(status, resource)


@dataclass(frozen=True, slots=True)
class FleetStanding:
    """How an answer about a resource of several agents stands."""

    as_of: datetime | None
    """The oldest of theirs."""
    collections: list[ClusterCollection]
    """Those whose rows may not be all there is, at most MAX_COLLECTIONS."""
    incomplete: int
    """How many those are."""


async def find_fleet(
    connection: Connection, resource: str | None, targets: Sequence[Target] | None
) -> FleetStanding:
    """How those agents stand with a resource, None for all of both. Raises ProblemError for an agent that was
    never heard of, and for a resource that none of them has."""
    found = await queries.standings(connection, resource, targets)
    known = {standing.target for standing in found}
    for target in targets or ():
        if target not in known:
            await find_agent(connection, target)
    if resource is not None and resource not in KINDS and all(one.collection is None for one in found):
        raise problems.ProblemError(
            problems.UNKNOWN_RESOURCE,
            f"none of the clusters asked about has a resource {resource!r}",
            f"known resources: {', '.join(sorted(KINDS))}; /api/v1/clusters shows what each has besides",
        )
    concerned = [one for one in found if one.target.kind is AgentKind.KUBERNETES or one.collection]
    partial = [one for one in concerned if not one.complete]
    return FleetStanding(
        as_of=_oldest(concerned),
        collections=[_partial(one, resource) for one in partial[:MAX_COLLECTIONS]],
        incomplete=len(partial),
    )


def _oldest(found: Sequence[Standing]) -> datetime | None:
    return min((one.as_of for one in found if one.as_of is not None), default=None)


def _partial(standing: Standing, resource: str | None) -> ClusterCollection:
    entry = next(iter([*standing.lacking, *standing.collections]), None)
    shown = collection_status(entry) if entry else _not_named(resource or "", heard=standing.heard)
    reason = shown.reason
    if resource is None:
        reason = ", ".join(f"{one.resource} are {one.state}" for one in standing.lacking)
    if not reason and standing.state is not AgentState.LIVE:
        reason = f"its agent is {standing.state}"
    return ClusterCollection(
        cluster=standing.target.id,
        agent=standing.state,
        state=shown.state,
        reason=reason,
        as_of=standing.as_of,
    )
