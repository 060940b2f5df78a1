"""`GET /watch`: what changes, as it changes."""

import re
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter
from litestar.types import ASGIApp

from schemas.ids import AgentKind
from services.api import examples, parameters
from services.api.http import problems
from services.api.models import View
from services.api.watch.hub import Hub
from services.api.watch.models import WatchMessage
from services.api.watch.position import BadPosition, Position
from services.api.watch.reader import Wish
from services.api.watch.stream import EventStream
from services.persistence.queries import ChangeFilter

_RESOURCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}")
_MAX_LIST = 4096
"""Characters of a list of names at most."""


class WatchController(Controller):
    """One long answer per reader."""

    path = "/watch"
    tags = ("watch",)

    @get(
        summary="Follow the changes",
        responses=problems.responses(problems.TOO_MANY_READERS)
        | examples.stream(WatchMessage, "Server-Sent Events, until the reader leaves", examples.WATCH),
    )
    async def watch(
        self,
        hub: NamedDependency[Hub],
        cluster: Annotated[
            str | None,
            QueryParameter(
                description="Clusters, separated by commas; they need not exist yet.", max_length=_MAX_LIST
            ),
        ] = None,
        resource: Annotated[
            str | None,
            QueryParameter(
                description="Resources, separated by commas: kubectl's plurals, and `events`.",
                max_length=_MAX_LIST,
            ),
        ] = None,
        namespace: parameters.Namespace = None,
        view: parameters.ViewParameter = View.SUMMARY,
        initial: Annotated[
            bool,
            QueryParameter(description="Without a position: send what is there first, then what changes."),
        ] = False,
        since: Annotated[
            str | None,
            QueryParameter(description="A position: the `id` of a message, or `position` of a list."),
        ] = None,
        last_event_id: Annotated[
            str | None,
            HeaderParameter(
                name="Last-Event-ID", description="What a browser sends when it comes back; before `since`."
            ),
        ] = None,
        last_event_id_of_query: Annotated[
            str | None, QueryParameter(name="lastEventId", description="The same, before `since`.")
        ] = None,
    ) -> ASGIApp:
        """Server-Sent Events: `put` a row as the lists show it, `delete` what is gone.

        `synced` follows once all that was there before has been sent. Each `id` is a position that any
        replica of the api goes on from: give it as `Last-Event-ID` or `since`, with the same filters. What
        has changed meanwhile comes in the order of its shard's revisions, each row in its newest state only.
        `resync` says that this cannot be told, since removals are remembered for an hour only, or since the
        database was restored: forget what you have; with `initial` it is sent anew, without it read the lists
        again. `bye` comes before the end when a replica stops. Every 15 seconds without a message a comment
        and the position are sent.
        """
        where = ChangeFilter(clusters=_clusters(cluster), resources=_resources(resource), namespace=namespace)
        position = (
            _position("Last-Event-ID", last_event_id)
            or _position("lastEventId", last_event_id_of_query)
            or _position("since", since)
        )
        wish = Wish(where=where, full=view is View.FULL, initial=initial, position=position)
        return EventStream(hub, wish)


def _position(name: str, text: str | None) -> Position | None:
    """Raises ProblemError; an empty text is none."""
    if not text:
        return None
    try:
        return Position.parse(text)
    except BadPosition as error:
        next_step = "start without it: read the lists, then follow from their `position`, or use initial=true"
        raise problems.invalid(name, str(error), next_step) from error


def _clusters(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    named = (part.strip() for part in text.split(","))
    return frozenset(parameters.target(AgentKind.KUBERNETES, part, name="cluster").id for part in named)


def _resources(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    named = frozenset(part.strip() for part in text.split(","))
    for part in named:
        if not _RESOURCE.fullmatch(part):
            raise problems.invalid(
                "resource", f"{part!r} is no resource", "write plurals as kubectl does: pods,deployments"
            )
    return named
