"""The shape of a graph of related objects."""

from typing import Annotated

from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import BodyKwarg
from msgspec import Meta, Struct, field, to_builtins

from services.api import examples
from services.api.models import ROW_OR_EVENT, AsOf, CollectionStatus, Position, Row

_ROW_OR_EVENT = BodyKwarg(
    description="Its row; of an Event, the Event. Null where it is missing.",
    # msgspec knows no union of two structs, so the type says one of them.
    schema_extra={"one_of": [*ROW_OR_EVENT, Schema(type=OpenAPIType.NULL)]},
)


class RelatedObject(Struct, kw_only=True):
    """One object of a graph."""

    id: Annotated[
        str,
        Meta(
            description="`<resource>/<namespace>/<name>`: its path below its cluster's, not percent-encoded, "
            "with `_` for no namespace. Of an Event the name is its uid. Where nobody knows the resource of "
            "its kind, it begins with `<kind>.<group>`."
        ),
    ]
    cluster: Annotated[str, Meta(description="The agent's id.")]
    resource: Annotated[str, Meta(description="Empty where nobody knows which resource its kind is.")]
    kind: str
    namespace: Annotated[str, Meta(description="Empty for a cluster-scoped object.")]
    name: Annotated[str, Meta(description="Of an Event its uid.")]
    uid: Annotated[str, Meta(description="Empty where it is missing and whoever names it does not say.")]
    state: Annotated[
        str,
        Meta(description="The word under STATUS, for kinds that have one; an Event's type. Empty: none."),
    ]
    row: Annotated[Row | None, _ROW_OR_EVENT] = None
    missing: Annotated[bool, Meta(description="Another object names it, and it is not stored.")] = False
    why: Annotated[str, Meta(description="Why it is missing; empty when it is not.")] = ""


class Edge(Struct, kw_only=True, omit_defaults=True):
    """One relation between two objects, in its direction."""

    from_: Annotated[str, Meta(description="The `id` of an object.")] = field(name="from")
    to: Annotated[str, Meta(description="The `id` of an object.")]
    relation: Annotated[
        str,
        Meta(
            description="`owns`: owner → owned. `runs-on`: pod → node. `selects`: service or workload → pod. "
            "`routes-to`: ingress → service. `binds`: claim → volume. `mounts`: pod → claim, ConfigMap or "
            "Secret, as a volume. `uses`: pod → ConfigMap or Secret, in its environment or to pull images; "
            "ingress → Secret. `scales`: autoscaler → its target. `concerns`: Event → what it is about. "
            "Open: expect others."
        ),
    ]
    former: Annotated[
        bool,
        Meta(description="True: it names another uid, that of an earlier object of the same name."),
    ] = False


class Related(Struct, kw_only=True):
    """An object and what is related to it, in both directions, as of one moment."""

    root: Annotated[str, Meta(description="The `id` of the object that was asked for.")]
    nodes: Annotated[list[RelatedObject], Meta(description="The root first, then by steps from it.")]
    edges: Annotated[list[Edge], Meta(description="By `from`, `to` and `relation`; each once.")]
    truncated: Annotated[
        dict[str, int],
        Meta(
            description="By relation, how many objects may have been left out, counted up to 10,000 per "
            "step. Empty: the graph is whole, as far as `depth` leads."
        ),
    ]
    as_of: AsOf
    position: Position
    collections: Annotated[
        list[CollectionStatus],
        Meta(description="The resources that were looked into: of one that is not synced, objects may lack."),
    ]


_ROW = examples.RESOURCES["items"][0]
_EVENT = examples.EVENTS.items[0]
_SHOWN = {"cluster": "prod-eu", "namespace": "shop", "missing": False, "why": ""}
EXAMPLE = {
    "root": "pods/shop/web-0",
    "nodes": [
        _SHOWN
        | {"id": "pods/shop/web-0", "resource": "pods", "kind": "Pod", "name": "web-0", "uid": _ROW["uid"]}
        | {"state": "Running", "row": _ROW},
        _SHOWN
        | {"id": "secrets/shop/database", "resource": "secrets", "kind": "Secret", "name": "database"}
        | {"uid": "", "state": "", "missing": True}
        | {"why": 'secrets are forbidden: secrets is forbidden: User "agent" cannot list them'},
        _SHOWN
        | {"id": f"events/shop/{_EVENT.uid}", "resource": "events", "kind": "Event", "name": _EVENT.uid}
        | {"uid": _EVENT.uid, "state": "Warning", "row": to_builtins(_EVENT, builtin_types=())},
    ],
    "edges": [
        {"from": f"events/shop/{_EVENT.uid}", "to": "pods/shop/web-0", "relation": "concerns"},
        {"from": "pods/shop/web-0", "to": "secrets/shop/database", "relation": "uses"},
    ],
    "truncated": {"concerns": 311},
    "as_of": examples.RESOURCES["as_of"],
    "position": examples.RESOURCES["position"],
    "collections": to_builtins(examples.AGENT.collection),
}
