"""Kubernetes Events of the fleet: they outlive the objects they are about."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from schemas.ids import AgentKind, Target
from services.api import examples, parameters, problems
from services.api.examples import answer
from services.api.lookup import find_agent
from services.api.models import Event, EventList, StoredEvent, as_stored, extended
from services.api.parameters import text
from services.api.watch.position import Position
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.queries import EventFilter


class EventController(Controller):
    """Rows by (cluster, uid), each with its newest version."""

    path = "/events"
    tags = ("events",)

    @get(
        summary="Kubernetes Events of the fleet",
        responses=problems.responses(problems.UNKNOWN_AGENT)
        | answer(EventList, "A page of Events", examples.EVENTS),
    )
    async def list_events(
        self,
        database: NamedDependency[Database],
        cluster: Annotated[
            str | None, QueryParameter(description="Clusters, separated by commas.", max_length=4096)
        ] = None,
        namespace: parameters.Namespace = None,
        type: Annotated[str | None, text("`Normal` or `Warning`.")] = None,
        reason: Annotated[str | None, text("Such as `BackOff`.")] = None,
        kind: Annotated[str | None, text("Kind of the object it is about, such as `Pod`.")] = None,
        name: Annotated[str | None, text("Name of the object it is about.")] = None,
        since: Annotated[datetime | None, QueryParameter(description="Last seen then or later.")] = None,
        until: Annotated[datetime | None, QueryParameter(description="Last seen before then.")] = None,
        q: Annotated[str | None, text("A piece of message, reason or object's name, in any case.")] = None,
        limit: parameters.Limit = parameters.DEFAULT_LIMIT,
        continue_: parameters.Continue = None,
    ) -> EventList:
        """A page of Events, the one seen last first."""
        where = EventFilter(
            clusters=_clusters(cluster),
            namespace=namespace,
            type=type,
            reason=reason,
            kind=kind,
            name=name,
            since=parameters.aware("since", since),
            until=parameters.aware("until", until),
            q=q,
        )
        async with database.read() as session:
            position = Position.at((await queries.revisions(session)).revs)
            for known in dict.fromkeys(where.clusters or ()):
                await find_agent(session, Target(AgentKind.KUBERNETES, known))
            page = await queries.list_events(session, where, limit=limit, continue_=continue_ or "")
        return EventList(
            items=[as_stored(item, Event) for item in page.items],
            continue_=page.continue_ or None,
            remaining=page.remaining,
            as_of=page.as_of,
            position=str(position),
        )

    @get(
        "/{cluster:str}/{uid:str}",
        summary="One Kubernetes Event",
        responses=problems.responses(problems.UNKNOWN_AGENT, problems.UNKNOWN_OBJECT)
        | answer(StoredEvent, "The Event", examples.EVENT),
    )
    async def get_event(
        self,
        database: NamedDependency[Database],
        cluster: parameters.AgentId,
        uid: Annotated[str, PathParameter(description="Its `metadata.uid`.", max_length=parameters.MAX_TEXT)],
    ) -> StoredEvent:
        """One Event, its newest version."""
        async with database.read() as session:
            status = await find_agent(
                session, parameters.target(AgentKind.KUBERNETES, cluster, name="cluster")
            )
            row = await queries.get_event(session, cluster, uid)
        if row is None:
            raise problems.ProblemError(
                problems.UNKNOWN_OBJECT,
                f"no Event {uid} of cluster {cluster} is stored",
                f"see what there is: /api/v1/events?cluster={cluster}",
            )
        return as_stored(extended(row, {"as_of": status.as_of}), StoredEvent)


def _clusters(text: str | None) -> tuple[str, ...] | None:
    """The clusters of a filter. Raises ProblemError for what can be no cluster's id."""
    if text is None:
        return None
    named = tuple(part.strip() for part in text.split(","))
    return tuple(parameters.target(AgentKind.KUBERNETES, part, name="cluster").id for part in named)
