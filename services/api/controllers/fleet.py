"""Objects of all clusters, and how many there are."""

from typing import Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from schemas.kubernetes.event import EVENT
from services.api import examples, parameters
from services.api.examples import answer
from services.api.fleet_models import FleetList, Group, Summary
from services.api.http import etags, problems
from services.api.lookup import find_fleet
from services.api.models import Row, as_list
from services.api.selection import AskedEvents, AskedList, AskedObjects, List, object_filter
from services.api.watch.position import Position
from services.persistence import queries
from services.persistence.database.engine import Database

MAX_BY = 3
"""What objects may be counted by at a time."""


class FleetController(Controller):
    """`/resources/…` is what `/clusters/{id}/…` is, over many clusters."""

    tags = ("resources",)

    @get(
        "/resources/{resource:str}",
        summary="The objects of one resource in the fleet",
        dependencies={"asked": Provide(AskedList, sync_to_thread=False)},
        responses=problems.responses(
            problems.UNKNOWN_AGENT, problems.UNKNOWN_RESOURCE, problems.QUERY_TIMEOUT
        )
        | answer(FleetList, "A page of rows", examples.FLEET)
        | etags.NOT_MODIFIED,
    )
    async def list_fleet(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        resource: parameters.Resource,
        asked: NamedDependency[AskedList],
        cluster: parameters.Clusters = None,
        if_none_match: etags.IfNoneMatch = None,
    ) -> Response[FleetList]:
        """A page of rows, by cluster, namespace and name unless sorted otherwise.

        `collections` names the clusters of which something may be missing. `/resources/events` is `/events`.
        """
        return await fleet_list(request, database, resource, asked, cluster, if_none_match)

    @get(
        "/summary",
        summary="How many objects there are",
        dependencies={"asked": Provide(AskedObjects, sync_to_thread=False)},
        responses=problems.responses(
            problems.UNKNOWN_AGENT, problems.UNKNOWN_RESOURCE, problems.QUERY_TIMEOUT
        )
        | answer(Summary, "Groups of objects", examples.SUMMARY)
        | etags.NOT_MODIFIED,
    )
    async def summarize(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        asked: NamedDependency[AskedObjects],
        by: Annotated[
            list[str] | None,
            QueryParameter(
                description=f"What to count by, separated by commas: at most {MAX_BY} of "
                f"{', '.join(f'`{name}`' for name in queries.GROUPS)}. Without it everything is one group.",
                examples=[Example(value=["cluster", "state"])],
            ),
        ] = None,
        resource: Annotated[
            str | None,
            QueryParameter(
                description="Only this resource; kubectl's plural. Without it all, but no Events.",
                max_length=parameters.MAX_TEXT,
                min_length=1,
            ),
        ] = None,
        cluster: parameters.Clusters = None,
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        if_none_match: etags.IfNoneMatch = None,
    ) -> Response[Summary]:
        """Groups of objects with the sums of their replicas, the largest first."""
        targets = parameters.clusters(cluster)
        names = _by(by)
        if resource == EVENT.resource:
            next_step = "see /api/v1/events, and `summary.events` of /api/v1/clusters"
            raise problems.invalid("resource", "Events are not counted here", next_step)
        where = object_filter(resource or "", targets, asked)
        async with database.read() as connection:
            revs = (await queries.revisions(connection)).revs
            standing = await find_fleet(connection, resource, targets)
            tag = etags.tag(request, etags.of_shards(revs, targets), standing)
            if etags.matches(if_none_match, tag):
                return etags.unchanged(tag)
            counts = await queries.count_objects(connection, where, names, limit=limit)
        body = Summary(
            items=[
                Group(count=group.count, desired=group.desired, ready=group.ready, **group.values)
                for group in counts.groups
            ],
            remaining=counts.remaining,
            as_of=standing.as_of,
            position=str(Position.at(revs)),
            collections=standing.collections,
            incomplete=standing.incomplete,
        )
        return etags.tagged(body, tag)


async def fleet_list(
    request: Request[Any, Any, Any],
    database: Database,
    resource: str,
    asked: AskedEvents,
    cluster: list[str] | None,
    if_none_match: str | None,
) -> Response[FleetList]:
    """A page of a resource of the whole fleet; of `events` an EventList, which has the same members."""
    targets = parameters.clusters(cluster)
    wish = List.of(resource, targets, asked)
    async with database.read() as connection:
        revs = (await queries.revisions(connection)).revs
        standing = await find_fleet(connection, resource, targets)
        kept = await queries.events_kept_since(connection) if wish.events else None
        tag = etags.tag(request, etags.of_shards(revs, targets), standing, kept)
        if etags.matches(if_none_match, tag):
            return etags.unchanged(tag)
        page = await wish.page(connection)
    body = FleetList(
        items=as_list(page.items, Row),
        continue_=page.continue_ or None,
        remaining=page.remaining,
        as_of=standing.as_of,
        position=str(Position.at(revs)),
        collections=standing.collections,
        incomplete=standing.incomplete,
    )
    return etags.tagged(body, tag)


def _by(given: list[str] | None) -> list[str]:
    """What to count by. Raises ProblemError."""
    names = [name for some in given or () for name in some.split(",")]
    next_step = f"name at most {MAX_BY} of {', '.join(queries.GROUPS)}, each once"
    for name in names:
        if name not in queries.GROUPS:
            raise problems.invalid("by", f"{name!r} is nothing to count by", next_step)
    if len(names) > len(set(names)):
        raise problems.invalid("by", "names the same thing twice", next_step)
    if len(names) > MAX_BY:
        raise problems.invalid("by", f"names {len(names)} things", next_step)
    return names
