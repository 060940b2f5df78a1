"""Kubernetes Events of the fleet: they outlive the objects they are about."""

from typing import Annotated, Any, cast

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import PathParameter

from schemas.ids import AgentKind
from schemas.kubernetes.event import EVENT
from services.api import examples, parameters
from services.api.controllers.fleet import fleet_list
from services.api.examples import answer
from services.api.fleet_models import EventList
from services.api.http import etags, problems
from services.api.lookup import find_agent
from services.api.models import StoredEvent, as_stored, extended
from services.api.selection import AskedEvents
from services.persistence import queries
from services.persistence.database.engine import Database


class EventController(Controller):
    """Rows by (cluster, uid), each with its newest version."""

    path = "/events"
    tags = ("events",)

    @get(
        summary="Kubernetes Events of the fleet",
        dependencies={"asked": Provide(AskedEvents, sync_to_thread=False)},
        responses=problems.responses(problems.UNKNOWN_AGENT, problems.QUERY_TIMEOUT)
        | answer(EventList, "A page of Events", examples.EVENTS)
        | etags.NOT_MODIFIED,
    )
    async def list_events(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        asked: NamedDependency[AskedEvents],
        cluster: parameters.Clusters = None,
        if_none_match: etags.IfNoneMatch = None,
    ) -> Response[EventList]:
        """A page of Events, the one seen last first unless sorted otherwise."""
        found = await fleet_list(request, database, EVENT.resource, asked, cluster, if_none_match)
        return cast(Response[EventList], found)

    @get(
        "/{cluster:str}/{uid:str}",
        summary="One Kubernetes Event",
        responses=problems.responses(problems.UNKNOWN_AGENT, problems.UNKNOWN_OBJECT, problems.QUERY_TIMEOUT)
        | answer(StoredEvent, "The Event", examples.EVENT)
        | etags.NOT_MODIFIED,
    )
    async def get_event(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        cluster: parameters.AgentId,
        uid: Annotated[str, PathParameter(description="Its `metadata.uid`.", max_length=parameters.MAX_TEXT)],
        if_none_match: etags.IfNoneMatch = None,
    ) -> Response[StoredEvent]:
        """One Event, its newest version."""
        async with database.read() as connection:
            status = await find_agent(
                connection, parameters.target(AgentKind.KUBERNETES, cluster, name="cluster")
            )
            rev = await queries.event_revision(connection, cluster, uid)
            tag = etags.tag(request, rev, status.as_of)
            if rev is not None and etags.matches(if_none_match, tag):
                return etags.unchanged(tag)
            row = await queries.get_event(connection, cluster, uid)
        if row is None:
            raise problems.ProblemError(
                problems.UNKNOWN_OBJECT,
                f"no Event {uid} of cluster {cluster} is stored",
                f"see what there is: /api/v1/events?cluster={cluster}",
            )
        return etags.tagged(as_stored(extended(row, {"as_of": status.as_of}), StoredEvent), tag)
