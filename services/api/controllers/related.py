"""What is related to one object: owners, pods, services, volumes, Events and the like, as one graph."""

from typing import Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from schemas.ids import AgentKind, Target
from schemas.kubernetes import KINDS
from schemas.kubernetes.event import EVENT
from schemas.presence import CollectionState
from services.api import parameters
from services.api.controllers.resources import CLUSTER_SCOPED
from services.api.examples import answer
from services.api.http import etags, problems
from services.api.lookup import find_agent, find_collection
from services.api.models import CollectionStatus, Row, as_stored
from services.api.related import EXAMPLE, Edge, Related, RelatedObject
from services.api.watch.position import Position
from services.persistence.database.engine import Database
from services.persistence.queries.related import Graph, Moment, Node, moment, related

DEFAULT_DEPTH = 8
"""Further than any relation leads in an ordinary cluster."""
DEFAULT_LIMIT = 250
"""A node's pods at most, as most are set up."""

Depth = Annotated[
    int,
    QueryParameter(
        description="Steps from the object at most; 1: what it is related to itself. The default leads to "
        "wherever there is something: owners up to the first, what is owned down to the last, and on from "
        "there to nodes, services, ingresses, volumes and autoscalers.",
        ge=1,
        le=16,
    ),
]
Limit = Annotated[
    int,
    QueryParameter(
        description="Objects that each relation adds at most; of Events those seen last. What is left out is "
        "counted in `truncated`.",
        ge=1,
        le=1000,
    ),
]


class RelatedController(Controller):
    """One round trip for the page of an object."""

    tags = ("resources",)

    @get(
        [
            "/clusters/{id:str}/{resource:str}/{namespace:str}/{name:str}/related",
            "/agents/{kind:str}/{id:str}/resources/{resource:str}/{namespace:str}/{name:str}/related",
        ],
        summary="What is related to an object",
        responses=problems.responses(
            problems.UNKNOWN_AGENT, problems.UNKNOWN_RESOURCE, problems.UNKNOWN_OBJECT, problems.QUERY_TIMEOUT
        )
        | answer(Related, "The object and what is related to it", EXAMPLE)
        | etags.NOT_MODIFIED,
    )
    async def get_related(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        id: parameters.AgentId,
        resource: parameters.Resource,
        namespace: parameters.ObjectNamespace,
        name: parameters.ObjectName,
        kind: parameters.Kind = AgentKind.KUBERNETES,
        depth: Depth = DEFAULT_DEPTH,
        limit: Limit = DEFAULT_LIMIT,
        if_none_match: etags.IfNoneMatch = None,
    ) -> Response[Related]:
        """A graph around one object, in both directions; of `events` the name is the uid.

        An object that another one names and that is not stored is there as `missing`, with the reason. Events
        are those about the object, and the newest few about each one that it owns. Of several owners of an
        object the managing one is shown.
        """
        target = parameters.target(kind, id)
        async with database.read() as connection:
            status = await moment(connection, target)
            if status is None:
                await find_agent(connection, target)  # for the words of the problem
                raise AssertionError(target)
            collection = find_collection(status, resource)
            revs = etags.of_shards(status.revs, [target])
            tag = etags.tag(request, revs, status.as_of, status.collection, status.events_kept_since)
            if etags.matches(if_none_match, tag):
                return etags.unchanged(tag)
            graph = await related(
                connection,
                target,
                resource,
                "" if namespace == CLUSTER_SCOPED else namespace,
                name,
                generic=[entry.resource for entry in status.collection if entry.resource not in KINDS],
                depth=depth,
                limit=limit,
            )
        if graph is None:
            raise _unknown(status, collection, namespace, name)
        searched = {one: find_collection(status, one) for one in graph.searched if _has(status, one)}
        body = Related(
            root=graph.root,
            nodes=[_shown(node, target, graph, searched) for node in graph.nodes],
            edges=[
                Edge(from_=edge.source, to=edge.target, relation=edge.relation, former=edge.former)
                for edge in graph.edges
            ],
            truncated={relation.value: count for relation, count in graph.truncated.items()},
            as_of=status.as_of,
            position=str(Position.at(status.revs)),
            collections=[*searched.values()],
        )
        return etags.tagged(body, tag)


def _has(status: Moment, resource: str) -> bool:
    built_in = KINDS if status.target.kind is AgentKind.KUBERNETES else {}
    return resource in built_in or any(entry.resource == resource for entry in status.collection)


def _shown(node: Node, target: Target, graph: Graph, searched: dict[str, CollectionStatus]) -> RelatedObject:
    return RelatedObject(
        id=node.id,
        cluster=target.id,
        resource=node.resource,
        kind=node.kind,
        namespace=node.namespace,
        name=node.name,
        uid=node.uid,
        state=node.state,
        row=None if node.summary is None else as_stored(node.summary, Row),
        missing=node.is_missing,
        why=_why(node, graph, searched) if node.is_missing else "",
    )


def _why(node: Node, graph: Graph, searched: dict[str, CollectionStatus]) -> str:
    """Why an object that is named is not stored."""
    if not node.resource:
        return f"the kind {node.kind} is not collected, or there is no object of it"
    collection = searched.get(node.resource)
    if collection is not None and collection.state != CollectionState.SYNCED:
        reason = f": {collection.reason}" if collection.reason else ""
        return f"{node.resource} are {collection.state}{reason}"
    if node.namespace and graph.namespaces and node.namespace not in graph.namespaces:
        return f"the namespace {node.namespace} is not collected"
    return "there is no such object"


def _unknown(
    status: Moment, collection: CollectionStatus, namespace: str, name: str
) -> problems.ProblemError:
    target, resource = status.target, collection.resource
    moment = status.as_of.strftime("%Y-%m-%dT%H:%M:%SZ") if status.as_of else "never"
    if target.kind is AgentKind.KUBERNETES and resource == EVENT.resource:
        next_step = f"an Event is named by its uid: see /api/v1/events?cluster={target.id}"
    else:
        next_step = f"see what there is: /api/v1/agents/{target.kind}/{target.id}/resources/{resource}"
        if target.kind is AgentKind.KUBERNETES:
            next_step += f"; Events outlive their objects: /api/v1/events?cluster={target.id}"
    return problems.ProblemError(
        problems.UNKNOWN_OBJECT,
        f"{target} has no {resource} {namespace}/{name} as of {moment} (collection: {collection.state})",
        next_step,
    )
