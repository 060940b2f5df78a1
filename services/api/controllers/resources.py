"""Objects of one agent; for a cluster, what `kubectl get` would list there."""

from litestar import Controller, get
from litestar.di import NamedDependency
from msgspec import Raw

from schemas.ids import AgentKind
from schemas.kubernetes.event import EVENT
from services.api import examples, parameters, problems
from services.api.examples import answer
from services.api.lookup import find_agent, find_collection
from services.api.models import ResourceList, Row, StoredObject, View, as_stored, extended
from services.api.watch.position import Position
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.queries import EventFilter, ResourceFilter

CLUSTER_SCOPED = "_"
"""The namespace in the path of an object that has none."""


class ResourceController(Controller):
    """`/clusters/{id}/…` is the short form of `/agents/kubernetes/{id}/resources/…`."""

    tags = ("resources",)

    @get(
        ["/clusters/{id:str}/{resource:str}", "/agents/{kind:str}/{id:str}/resources/{resource:str}"],
        summary="The objects of one resource",
        responses=problems.responses(problems.UNKNOWN_AGENT, problems.UNKNOWN_RESOURCE)
        | answer(ResourceList, "A page of rows", examples.RESOURCES),
    )
    async def list_resources(
        self,
        database: NamedDependency[Database],
        id: parameters.AgentId,
        resource: parameters.Resource,
        kind: parameters.Kind = AgentKind.KUBERNETES,
        namespace: parameters.Namespace = None,
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        continue_: parameters.Continue = None,
        view: parameters.ViewParameter = View.SUMMARY,
    ) -> ResourceList:
        """A page of rows, by namespace and name.

        `collection` says whether they are all there is: a resource that is forbidden, failing or switched off
        has the rows of when it was last seen, or none. `events` are the cluster's stored Events, the newest
        first, as under `/events`.
        """
        target = parameters.target(kind, id)
        async with database.read() as session:
            position = Position.at((await queries.revisions(session)).revs)
            collection = find_collection(await find_agent(session, target), resource)
            if kind is AgentKind.KUBERNETES and resource == EVENT.resource:
                page = await queries.list_events(
                    session,
                    EventFilter(clusters=(id,), namespace=namespace),
                    limit=limit,
                    continue_=continue_ or "",
                    full=view is View.FULL,
                )
            else:
                page = await queries.list_resources(
                    session,
                    ResourceFilter(resource=resource, targets=(target,), namespace=namespace),
                    limit=limit,
                    continue_=continue_ or "",
                    full=view is View.FULL,
                )
        return ResourceList(
            items=[as_stored(item, Row) for item in page.items],
            continue_=page.continue_ or None,
            remaining=page.remaining,
            as_of=page.as_of,
            position=str(position),
            collection=collection,
        )

    @get(
        [
            "/clusters/{id:str}/{resource:str}/{namespace:str}/{name:str}",
            "/agents/{kind:str}/{id:str}/resources/{resource:str}/{namespace:str}/{name:str}",
        ],
        summary="One object",
        responses=problems.responses(
            problems.UNKNOWN_AGENT, problems.UNKNOWN_RESOURCE, problems.UNKNOWN_OBJECT
        )
        | answer(StoredObject, "The row and its projection", examples.OBJECT),
    )
    async def get_resource(
        self,
        database: NamedDependency[Database],
        id: parameters.AgentId,
        resource: parameters.Resource,
        namespace: parameters.ObjectNamespace,
        name: parameters.ObjectName,
        kind: parameters.Kind = AgentKind.KUBERNETES,
    ) -> StoredObject:
        """One row, with the object's projection as `object` and the moments it speaks of."""
        target = parameters.target(kind, id)
        async with database.read() as session:
            status = await find_agent(session, target)
            collection = find_collection(status, resource)
            stored = await queries.get_resource(
                session, target, resource, "" if namespace == CLUSTER_SCOPED else namespace, name
            )
        if stored is not None:
            about = {"object": Raw(stored.body), "updated_at": stored.updated_at, "as_of": stored.as_of}
            return as_stored(extended(stored.summary, about), StoredObject)
        if kind is AgentKind.KUBERNETES and resource == EVENT.resource:
            next_step = f"an Event is read by its uid: /api/v1/events/{id}/<uid>"
        else:
            next_step = f"see what there is: /api/v1/agents/{target.kind}/{id}/resources/{resource}"
        as_of = status.as_of.strftime("%Y-%m-%dT%H:%M:%SZ") if status.as_of else "never"
        raise problems.ProblemError(
            problems.UNKNOWN_OBJECT,
            f"{target} has no {resource} {namespace}/{name} as of {as_of} (collection: {collection.state})",
            next_step,
        )
