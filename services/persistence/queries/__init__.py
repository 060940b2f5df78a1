"""The read side: what the API answers from, one function per question.

Each takes the connection of `Database.read()`, so that several answers of one request speak of one moment:

    async with db.read() as connection:
        page = await queries.list_resources(connection, ResourceFilter(resource="pods"), limit=500)

- `list_resources(connection, ResourceFilter, *, sort, limit, continue_, full) -> Page`
- `get_resource(connection, target, resource, namespace, name) -> StoredObject | None`
- `count_objects(connection, ResourceFilter, by, *, limit) -> Counts`, by what of GROUPS is in `by`
- `standings(connection, resource, targets) -> list[Standing]`: whether the rows of one or all are whole
- `list_agents(connection, kind, *, limit, continue_) -> AgentPage`
- `get_agent(connection, target) -> AgentStatus | None`
- `announced(connection, agents) -> dict[Target, ActionSchemas]`: what they can do, with which parameters
- `summaries(connection, targets) -> dict[Target, ClusterSummary]`, counted live
- `clock(connection) -> ClockReading | None`
- `list_events(connection, EventFilter, *, sort, limit, continue_) -> Page`, newest first unless sorted
- `get_event(connection, cluster_id, uid) -> bytes | None`
- `revisions(connection) -> Revisions`, then `list_changes(connection, shard, ChangeFilter, …) -> ChangePage`
- `list_commands(connection, CommandFilter, *, limit, continue_) -> CommandPage`, newest first, nothing large;
  `get_command(connection, id) -> StoredCommand | None`, whole; `command_state(connection, id)`
- `list_dead_letters(connection, *, limit, continue_) -> Page`, newest first;
  `get_dead_letter(connection, id)`

Items of a Page are JSON objects as bytes: `b"[" + b",".join(page.items) + b"]"` is the list.
`BadContinue` (a ValueError) is raised for a `continue` that is not ours or belongs to another query.
`check_sort` raises UnknownColumn, `field_conditions` SelectorError, as the lists themselves would.
"""

from services.persistence.presence.liveness import ClockReading
from services.persistence.queries.agents import (
    AgentPage,
    AgentStatus,
    CollectionStatus,
    RivalStatus,
    announced,
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
from services.persistence.queries.commands import (
    MAX_LISTED,
    CommandFilter,
    CommandPage,
    StoredCommand,
    command_state,
    get_command,
    list_commands,
)
from services.persistence.queries.counts import GROUPS, Counts, Group, count_objects
from services.persistence.queries.dead_letters import get_dead_letter, list_dead_letters
from services.persistence.queries.events import (
    NEWEST,
    EventFilter,
    event_revision,
    events_kept_since,
    get_event,
    list_events,
)
from services.persistence.queries.filtering import ResourceFilter
from services.persistence.queries.paging import BadContinue, Page
from services.persistence.queries.resources import (
    StoredObject,
    get_resource,
    list_resources,
    object_revision,
)
from services.persistence.queries.selecting import field_conditions
from services.persistence.queries.snapshot import bodies, held_resources, oldest_event, reading_all
from services.persistence.queries.sorting import UnknownColumn, check_sort
from services.persistence.queries.standing import Standing, standings

__all__ = [
    "EVERYTHING",
    "GROUPS",
    "MAX_LISTED",
    "NEWEST",
    "UNSEEN",
    "AgentPage",
    "AgentStatus",
    "BadContinue",
    "Change",
    "ChangeFilter",
    "ChangePage",
    "ClockReading",
    "CollectionStatus",
    "CommandFilter",
    "CommandPage",
    "Counts",
    "EventFilter",
    "Group",
    "Page",
    "Place",
    "ResourceFilter",
    "Revisions",
    "RivalStatus",
    "Standing",
    "StoredCommand",
    "StoredObject",
    "UnknownColumn",
    "announced",
    "bodies",
    "check_sort",
    "clock",
    "command_state",
    "count_objects",
    "event_revision",
    "events_kept_since",
    "field_conditions",
    "get_agent",
    "get_command",
    "get_dead_letter",
    "get_event",
    "get_resource",
    "held_resources",
    "list_agents",
    "list_changes",
    "list_commands",
    "list_dead_letters",
    "list_events",
    "list_resources",
    "object_revision",
    "oldest_event",
    "oldest_state",
    "reading_all",
    "revisions",
    "standings",
    "summaries",
]
