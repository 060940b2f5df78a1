"""Objects of one agent; for a cluster, what `kubectl get` would list there."""

from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency, Provide
from msgspec import Raw

from schemas.ids import AgentKind
from schemas.kubernetes.event import EVENT
from services.api import examples, parameters
from services.api.examples import answer
from services.api.http import etags, problems
from services.api.lookup import find_standing
from services.api.models import ResourceList, Row, StoredObject, as_list, as_stored, extended
from services.api.selection import AskedList, List
from services.api.watch.position import Position
from services.persistence import queries
from services.persistence.database.engine import Database

CLUSTER_SCOPED = "_"
"""The namespace in the path of an object that has none."""


class ResourceController(Controller):
    """`/clusters/{id}/…` is the short form of `/agents/kubernetes/{id}/resources/…`."""

    tags = ("resources",)

    @get(
        ["/clusters/{id:str}/{resource:str}", "/agents/{kind:str}/{id:str}/resources/{resource:str}"],
        summary="The objects of one resource",
        dependencies={"asked": Provide(AskedList, sync_to_thread=False)},
        responses=problems.responses(
            problems.UNKNOWN_AGENT, problems.UNKNOWN_RESOURCE, problems.QUERY_TIMEOUT
        )
        | answer(ResourceList, "A page of rows", examples.RESOURCES)
        | etags.NOT_MODIFIED,
    )
    async def list_resources(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        asked: NamedDependency[AskedList],
        id: parameters.AgentId,
        resource: parameters.Resource,
        kind: parameters.Kind = AgentKind.KUBERNETES,
        if_none_match: etags.IfNoneMatch = None,
    ) -> Response[ResourceList]:
        """A page of rows, by namespace and name unless sorted otherwise.

        `collection` says whether they are all there is: a resource that is forbidden, failing or switched off
        has the rows of when it was last seen, or none. `events` are the cluster's stored Events, the newest
        first, as under `/events`.
        """
        targets = (parameters.target(kind, id),)
        async with database.read() as connection:
            revs = (await queries.revisions(connection)).revs
            as_of, collection = await find_standing(connection, targets[0], resource)
            wish = List.of(resource, targets, asked)
            kept = await queries.events_kept_since(connection) if wish.events else None
            tag = etags.tag(request, etags.of_shards(revs, targets), as_of, collection, kept)
            if etags.matches(if_none_match, tag):
                return etags.unchanged(tag)
            page = await wish.page(connection)
        body = ResourceList(
            items=as_list(page.items, Row),
            continue_=page.continue_ or None,
            remaining=page.remaining,
            as_of=as_of,
            position=str(Position.at(revs)),
            collection=collection,
        )
        return etags.tagged(body, tag)

    @get(
        [
            "/clusters/{id:str}/{resource:str}/{namespace:str}/{name:str}",
            "/agents/{kind:str}/{id:str}/resources/{resource:str}/{namespace:str}/{name:str}",
        ],
        summary="One object",
        responses=problems.responses(
            problems.UNKNOWN_AGENT, problems.UNKNOWN_RESOURCE, problems.UNKNOWN_OBJECT, problems.QUERY_TIMEOUT
        )
        | answer(StoredObject, "The row and its projection", examples.OBJECT)
        | etags.NOT_MODIFIED,
    )
    async def get_resource(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        id: parameters.AgentId,
        resource: parameters.Resource,
        namespace: parameters.ObjectNamespace,
        name: parameters.ObjectName,
        kind: parameters.Kind = AgentKind.KUBERNETES,
        if_none_match: etags.IfNoneMatch = None,
    ) -> Response[StoredObject]:
        """One row, with the object's projection as `object` and the moments it speaks of."""
        target = parameters.target(kind, id)
        key = (target, resource, "" if namespace == CLUSTER_SCOPED else namespace, name)
        async with database.read() as connection:
            as_of, collection = await find_standing(connection, target, resource)
            rev = await queries.object_revision(connection, *key)
            tag = etags.tag(request, rev, as_of)
            if rev is not None and etags.matches(if_none_match, tag):
                return etags.unchanged(tag)
            stored = await queries.get_resource(connection, *key)
        if stored is not None:
            about = {"object": Raw(stored.body), "updated_at": stored.updated_at, "as_of": stored.as_of}
            return etags.tagged(as_stored(extended(stored.summary, about), StoredObject), tag)
        if kind is AgentKind.KUBERNETES and resource == EVENT.resource:
            next_step = f"an Event is read by its uid: /api/v1/events/{id}/<uid>"
        else:
            next_step = f"see what there is: /api/v1/agents/{target.kind}/{id}/resources/{resource}"
        moment = as_of.strftime("%Y-%m-%dT%H:%M:%SZ") if as_of else "never"
        raise problems.ProblemError(
            problems.UNKNOWN_OBJECT,
            f"{target} has no {resource} {namespace}/{name} as of {moment} (collection: {collection.state})",
            next_step,
        )
