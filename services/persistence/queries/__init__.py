"""The read side: what the API answers from, one function per question.

Each takes the session of `Database.read()`, so that several answers of one request speak of one moment:

    async with db.read() as session:
        page = await queries.list_resources(session, ResourceFilter(resource="pods"), limit=500)

- `list_resources(session, ResourceFilter, *, limit, continue_, full) -> Page`
- `get_resource(session, target, resource, namespace, name) -> StoredObject | None`
- `list_agents(session, kind, *, limit, continue_) -> AgentPage`
- `get_agent(session, target) -> AgentStatus | None`
- `summaries(session, targets) -> dict[Target, ClusterSummary]`, counted live
- `clock(session) -> ClockReading | None`
- `list_events(session, EventFilter, *, limit, continue_) -> Page`, newest first
- `get_event(session, cluster_id, uid) -> bytes | None`
- `revisions(session) -> Revisions`, then `list_changes(session, shard, ChangeFilter, …) -> ChangePage`
- `list_dead_letters(session, *, limit, continue_) -> Page`, newest first; `get_dead_letter(session, id)`

Items of a Page are JSON objects as bytes: `b"[" + b",".join(page.items) + b"]"` is the list.
`BadContinue` (a ValueError) is raised for a `continue` that is not ours or belongs to another query.
"""

from services.persistence.presence.liveness import ClockReading
from services.persistence.queries.agents import (
    AgentPage,
    AgentStatus,
    CollectionStatus,
    RivalStatus,
    clock,
    get_agent,
    list_agents,
    summaries,
)
from services.persistence.queries.changes import (
    EVERYTHING,
    UNSEEN,
    Change,
    ChangeFilter,
    ChangePage,
    Place,
    Revisions,
    list_changes,
    oldest_state,
    revisions,
)
from services.persistence.queries.dead_letters import get_dead_letter, list_dead_letters
from services.persistence.queries.events import EventFilter, get_event, list_events
from services.persistence.queries.paging import BadContinue, Page
from services.persistence.queries.resources import (
    ResourceFilter,
    StoredObject,
    get_resource,
    list_resources,
)

__all__ = [
    "EVERYTHING",
    "UNSEEN",
    "AgentPage",
    "AgentStatus",
    "BadContinue",
    "Change",
    "ChangeFilter",
    "ChangePage",
    "ClockReading",
    "CollectionStatus",
    "EventFilter",
    "Page",
    "Place",
    "ResourceFilter",
    "Revisions",
    "RivalStatus",
    "StoredObject",
    "clock",
    "get_agent",
    "get_dead_letter",
    "get_event",
    "get_resource",
    "list_agents",
    "list_changes",
    "list_dead_letters",
    "list_events",
    "list_resources",
    "oldest_state",
    "revisions",
    "summaries",
]
