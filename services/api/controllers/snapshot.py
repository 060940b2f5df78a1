"""`GET /clusters/{id}/snapshot`: the whole of one cluster at once."""

from typing import Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from schemas.ids import AgentKind
from services.api import examples, parameters
from services.api.examples import answer
from services.api.http import etags, problems
from services.api.http.limits import Seats
from services.api.snapshot import Snapshot, SnapshotStream
from services.persistence.database.engine import Database


class SnapshotController(Controller):
    """One long answer."""

    tags = ("resources",)

    @get(
        "/clusters/{id:str}/snapshot",
        summary="The whole of one cluster",
        responses=problems.responses(problems.UNKNOWN_AGENT, problems.TOO_MANY_SNAPSHOTS)
        | answer(Snapshot, "The cluster as of one moment", examples.SNAPSHOT)
        | etags.NOT_MODIFIED,
    )
    async def get_snapshot(
        self,
        database: NamedDependency[Database],
        snapshots: NamedDependency[Seats],
        id: parameters.AgentId,
        request: Request[Any, Any, Any],
        if_none_match: etags.IfNoneMatch = None,
    ) -> ASGIApp:
        """Every object that is stored of the cluster, by resource, and what it counts up to.

        All of it is of one moment, and sent as it is read. An answer that cannot be finished ends as a broken
        transfer, never as a shorter document. `position` is where `/api/v1/watch` goes on from.
        """
        target = parameters.target(AgentKind.KUBERNETES, id)
        return SnapshotStream(database, snapshots, target, request, if_none_match)
