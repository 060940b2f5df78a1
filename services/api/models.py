"""The shapes of the answers. Rows come out of the database as JSON bytes and go out as they are."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar, cast

import msgspec
from litestar.openapi.spec import Reference, Schema
from litestar.params import BodyKwarg
from msgspec import Meta, Raw, Struct, field

from schemas.snapshot import ClusterSummary

AsOf = Annotated[
    datetime | None,
    Meta(description="The broker's time of the last message that went into this answer; null: none has yet."),
]
Continue = Annotated[
    str | None, Meta(description="Give it as `continue` for the next page; null on the last one.")
]
Position = Annotated[
    str,
    Meta(
        description="Where this answer stands: give the first page's as `since` to `/api/v1/watch`, and "
        "nothing that has changed meanwhile is missed."
    ),
]
Remaining = Annotated[int, Meta(description="How many items follow after this page, counted up to 100,000.")]


class View(StrEnum):
    """How much of each object a list shows."""

    SUMMARY = "summary"
    FULL = "full"


class CollectionStatus(Struct, kw_only=True):
    """How the collection of one resource is doing."""

    resource: Annotated[str, Meta(description="kubectl's plural, as in paths.")]
    state: Annotated[
        str,
        Meta(
            description="`synced`: the rows are complete. `listing`: not yet. `forbidden`, `failing`: the "
            "API server refuses or fails, `reason` has its words. `absent`: it does not know the resource. "
            "`off`: the agent is set not to collect it. `unknown`: no agent has said. Open: expect others."
        ),
    ]
    reason: Annotated[str, Meta(description="Why it is not synced; empty when it is.")] = ""
    objects: Annotated[int, Meta(description="Objects the agent holds.")] = 0
    relists: Annotated[int, Meta(description="Full lists since the agent started.")] = 0
    last_event_at: Annotated[
        datetime | None, Meta(description="When the API server last sent something for it.")
    ] = None
    synced_at: Annotated[
        datetime | None, Meta(description="The broker's time at which the stored rows were last complete.")
    ] = None


class AgentHealth(Struct, kw_only=True):
    """What the agent says of itself (OpAMP's ComponentHealth)."""

    healthy: bool = False
    status: Annotated[
        str, Meta(description="`starting`, `running`, `degraded`, `standby` or `stopping`.")
    ] = ""
    last_error: str = ""
    start_time: datetime | None = None


class Rival(Struct, kw_only=True):
    """Another agent under the same id. It does not serve it."""

    seen: Annotated[datetime, Meta(description="The broker's time of its last heartbeat.")]
    version: Annotated[str, Meta(description="Version of its code.")]
    instance: Annotated[str, Meta(description="The real thing it serves; empty: it can't tell.")]
    reason: Annotated[str, Meta(description="Why it does not serve the id, and what to do.")]


class Clock(Struct, kw_only=True):
    """The broker's clock, by which agents are judged: it moves with each beat of a master."""

    as_of: Annotated[datetime | None, Meta(description="Now, as far as is known; null: no master yet.")]
    continuous_since: Annotated[
        datetime | None,
        Meta(description="Since when no beat has been missing: nobody is judged by a silence before it."),
    ]
    stands: Annotated[
        str,
        Meta(
            description="Why the clock stands, and with it each `state`: the broker or the masters are away, "
            "which says nothing about the agents. Empty while it runs."
        ),
    ] = ""


class Agent(Struct, kw_only=True):
    """One agent and the thing it serves; for kind `kubernetes`, a cluster."""

    kind: Annotated[str, Meta(description="`kubernetes`, `host` or `terraform`.")]
    id: Annotated[str, Meta(description="For kind `kubernetes` the cluster id.")]
    state: Annotated[
        str,
        Meta(
            description="By the broker's clock: `live`, `stale` (two heartbeats missed), `lost` (three), "
            "`stopping` (it said that it is going). Open: expect others."
        ),
    ]
    version: Annotated[int, Meta(description="Frames applied since this agent is known; it only grows.")]
    as_of: AsOf
    last_seen: Annotated[
        datetime | None, Meta(description="The broker's time of the last heartbeat; null: none has come.")
    ]
    agent_version: Annotated[str, Meta(description="Version of the agent's code.")]
    platform: Annotated[str, Meta(description="Version of what it serves, such as `v1.36.3`.")]
    instance: Annotated[str, Meta(description="The real thing under the id, such as the UID of kube-system.")]
    epoch: Annotated[str, Meta(description="The epoch whose frames are applied.")]
    read_only: Annotated[bool, Meta(description="The agent refuses everything that changes something.")]
    capabilities: Annotated[list[str], Meta(description="What this agent may do, such as `observe:pods`.")]
    labels: Annotated[dict[str, str], Meta(description="By which people select agents: its AGENT_LABELS.")]
    health: AgentHealth
    in_sync: Annotated[
        bool,
        Meta(
            description="The stored rows are all that the agent can collect (what is `forbidden`, `absent` "
            "or `off` is not awaited), no frame is missing, and the last digest agreed with them."
        ),
    ]
    resync_reason: Annotated[str, Meta(description="Why a new epoch was asked for; empty when none was.")]
    resync_since: datetime | None = None
    rival: Annotated[
        Rival | None, Meta(description="Another agent that has been heard under this id; null: none.")
    ] = None
    collection: Annotated[
        list[CollectionStatus], Meta(description="Every resource, those with problems too.")
    ]
    summary: Annotated[
        ClusterSummary, Meta(description="The cluster in numbers, counted from the stored rows.")
    ]


class OneAgent(Agent, kw_only=True):
    """One agent, what can be asked of it, and the clock that it is judged by."""

    actions: Annotated[
        dict[str, dict[str, Any]] | None,
        Meta(
            description="The actions among `capabilities`, by name: the JSON Schema of the `params` of a "
            "command, as this agent has announced it. Null: its version has not."
        ),
    ]
    clock: Clock


class AgentList(Struct, kw_only=True):
    """A page of agents (or clusters), by kind and id."""

    items: list[Agent]
    clock: Clock
    continue_: Continue = field(name="continue", default=None)
    remaining: Remaining = 0
    as_of: Annotated[datetime | None, Meta(description="The oldest `as_of` among the items.")] = None


class Row(Struct, kw_only=True):
    """An object, flat: these keys, then the kind's own columns: what `kubectl get -o wide` shows."""

    cluster: Annotated[str, Meta(description="The agent's id.")]
    kind: str
    name: str
    namespace: Annotated[str, Meta(description="Empty for a cluster-scoped object.")]
    uid: str
    node: Annotated[str, Meta(description="The node it is bound to; empty for none.")]
    owner: Annotated[str, Meta(description="`<kind>/<name>` of its managing owner; empty for none.")]
    created_at: datetime | None
    object: Annotated[
        dict[str, Any] | None,
        Meta(
            description="With `view=full`, and of one object always: the projection in Kubernetes' own "
            "nesting; null where it could not be read."
        ),
    ] = None


class Involved(Struct, kw_only=True):
    """The object an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str


class Event(Struct, kw_only=True):
    """A Kubernetes Event: its newest version. It outlives the object in the cluster."""

    cluster_id: str
    uid: str
    namespace: str
    name: str
    type: Annotated[str, Meta(description="`Normal` or `Warning`.")]
    reason: str
    message: str
    count: Annotated[int, Meta(description="How often it has happened.")]
    first_seen: datetime
    last_seen: datetime
    involved: Involved
    component: Annotated[str, Meta(description="Who reported it.")]
    host: Annotated[str, Meta(description="The reporter's node; empty for none.")]


ROW_OR_EVENT = [Reference(f"#/components/schemas/{name}") for name in ("Row", "Event")]
_ROWS_OR_EVENTS = BodyKwarg(
    description="Events for `events`, rows for every other resource.",
    # msgspec knows no union of two structs, so the type says one of them.
    schema_extra={"items": Schema(one_of=ROW_OR_EVENT)},
)


class ResourceList(Struct, kw_only=True):
    """One page of a resource's rows, by namespace and name; of `events` the one seen last first."""

    items: Annotated[list[Row], _ROWS_OR_EVENTS]
    continue_: Continue = field(name="continue")
    remaining: Remaining
    as_of: AsOf
    position: Position
    collection: Annotated[
        CollectionStatus, Meta(description="Whether these rows are all there is, and why not.")
    ]


class StoredObject(Row, kw_only=True):
    """One object with its projection."""

    updated_at: Annotated[datetime, Meta(description="When its content last changed.")]
    as_of: AsOf


class StoredEvent(Event, kw_only=True):
    """One Event with its projection."""

    object: Annotated[dict[str, Any], Meta(description="The projection in Kubernetes' own nesting.")]
    as_of: AsOf


class DeadLetter(Struct, kw_only=True):
    """A message that a service or an agent could not read."""

    id: str
    received_at: Annotated[datetime, Meta(description="When the broker took the dead letter.")]
    sender: Annotated[str, Meta(description="CloudEvents `source` of whoever could not read it.")]
    reason: str
    consumer: Annotated[str, Meta(description="`master`, `api` or `agent`.")]
    subject: Annotated[str, Meta(description="Where the original came from.")]
    stream: Annotated[str, Meta(description="Its stream; empty for a message of core NATS.")]
    stream_sequence: int
    original_at: Annotated[datetime | None, Meta(description="When the broker took the original.")]
    headers: dict[str, str]


class DeadLetterList(Struct, kw_only=True):
    """One page of dead letters without their payloads, the newest first."""

    items: list[DeadLetter]
    continue_: Continue = field(name="continue")
    remaining: Remaining
    as_of: AsOf


class WholeDeadLetter(DeadLetter, kw_only=True):
    """One dead letter, whole."""

    body: Annotated[str, Meta(description="The original's payload, in Base64.")]


Shape = TypeVar("Shape", bound=Struct)


def as_list(rows: Sequence[bytes], shape: type[Shape]) -> list[Shape]:  # noqa: ARG001 - see `as_stored`
    """Rows as a list, in one piece: the encoder is not asked about each of them."""
    return cast(list[Shape], Raw(b"[" + b",".join(rows) + b"]"))


def as_stored(row: bytes, shape: type[Shape]) -> Shape:  # noqa: ARG001 - it is there for the type
    """The bytes of a row, which are sent as they are; `shape` is what they hold, for readers and OpenAPI.

    Decoding 5,000 rows to encode them again would take longer than all the rest of the answer.
    """
    return cast(Shape, Raw(row))


def extended(row: bytes, members: dict[str, Any]) -> bytes:
    """A row, byte for byte, with further members behind its own."""
    return row[:-1] + b"," + msgspec.json.encode(members)[1:]
