"""The shapes of answers about the whole fleet."""

from typing import Annotated

from msgspec import Meta, Struct, field

from services.api.models import AsOf, Continue, Event, Position, Remaining, Row


class ClusterCollection(Struct, kw_only=True):
    """A cluster whose part of the answer may be incomplete, or behind."""

    cluster: Annotated[str, Meta(description="The agent's id.")]
    agent: Annotated[
        str, Meta(description="`live`; `stale`, `lost` or `stopping`: what changes now is not seen.")
    ]
    state: Annotated[
        str, Meta(description="Of the resource's collection there: `synced`, or why not, as in its own list.")
    ]
    reason: Annotated[str, Meta(description="Why, where something is known of it.")]
    as_of: AsOf


Collections = Annotated[
    list[ClusterCollection],
    Meta(
        description="The clusters asked about whose rows may not be all there is: the collection is not "
        "`synced`, or the agent not `live`. The first 100, by id; empty: everything is there."
    ),
]
Incomplete = Annotated[int, Meta(description="How many such clusters there are in all.")]


class FleetList(Struct, kw_only=True):
    """One page of a resource's rows, by cluster, namespace and name unless sorted otherwise."""

    items: list[Row]
    continue_: Continue = field(name="continue")
    remaining: Remaining
    as_of: AsOf
    position: Position
    collections: Collections
    incomplete: Incomplete


class EventList(Struct, kw_only=True):
    """One page of Kubernetes Events, the one seen last first unless sorted otherwise."""

    items: list[Event]
    continue_: Continue = field(name="continue")
    remaining: Remaining
    as_of: AsOf
    position: Position
    collections: Collections
    incomplete: Incomplete


class Group(Struct, kw_only=True, omit_defaults=True):
    """Objects that have the same in common: what `by` names, and nothing else, is there."""

    count: Annotated[int, Meta(description="How many objects they are.")]
    desired: Annotated[
        int, Meta(description="Sum of their replicas that are wanted; of pods, of their containers.")
    ]
    ready: Annotated[int, Meta(description="Sum of those that are ready.")]
    cluster: str | None = None
    resource: str | None = None
    kind: str | None = None
    namespace: Annotated[str | None, Meta(description="Empty for cluster-scoped objects.")] = None
    state: Annotated[
        str | None, Meta(description="What `kubectl get` shows as STATUS; empty for kinds without.")
    ] = None
    node: Annotated[str | None, Meta(description="Empty for objects that are bound to none.")] = None
    owner: Annotated[
        str | None, Meta(description="`<kind>/<name>` of the managing owner; empty for none.")
    ] = None


class Summary(Struct, kw_only=True):
    """Objects in numbers, the largest group first."""

    items: list[Group]
    remaining: Annotated[int, Meta(description="How many smaller groups there are beside these.")]
    as_of: AsOf
    position: Position
    collections: Annotated[
        list[ClusterCollection],
        Meta(
            description="As in lists. Without `resource` it is about all of them: `reason` names the "
            "cluster's that are not `synced`, and `state` is the first one's."
        ),
    ]
    incomplete: Incomplete
