"""Objects as their cluster has them now, read by its agent."""

import asyncio
from datetime import UTC
from enum import StrEnum
from typing import Annotated, Any, cast

import msgspec
import yaml
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from schemas.ids import AgentKind
from services.api import examples, parameters
from services.api.commands import live
from services.api.commands.models import LiveObject
from services.api.commands.waiting import CommandNews
from services.api.controllers.commands import no_seat, seconds_of, waited
from services.api.controllers.resources import CLUSTER_SCOPED
from services.api.examples import answer
from services.api.http import problems
from services.api.http.limits import NoSeat
from services.api.lookup import find_agent
from services.persistence import queries
from services.persistence.database import clock as database_clock
from services.persistence.database.engine import Database

MAX_WAIT = 15.0
"""Seconds that a reader waits for the agent at most."""
YAML = "application/yaml"


class Format(StrEnum):
    """How an object is written."""

    JSON = "json"
    YAML = "yaml"


class LiveController(Controller):
    """`…/live` beside the stored object."""

    tags = ("resources",)

    @get(
        [
            "/clusters/{id:str}/{resource:str}/{namespace:str}/{name:str}/live",
            "/agents/{kind:str}/{id:str}/resources/{resource:str}/{namespace:str}/{name:str}/live",
        ],
        summary="One object as it is now",
        opt={"also": {YAML: examples.LIVE_YAML}},
        responses=problems.responses(
            problems.UNKNOWN_AGENT,
            problems.UNKNOWN_RESOURCE,
            problems.UNKNOWN_OBJECT,
            problems.NOT_CAPABLE,
            problems.CLUSTER_REFUSES,
            problems.CLUSTER_FAILS,
            problems.NO_ANSWER,
            problems.TOO_MANY_WAITERS,
        )
        | answer(LiveObject, "The whole object, redacted", examples.LIVE),
    )
    async def get_live(
        self,
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        news: NamedDependency[CommandNews],
        actor: NamedDependency[str],
        id: parameters.AgentId,
        resource: parameters.Resource,
        namespace: parameters.ObjectNamespace,
        name: parameters.ObjectName,
        kind: parameters.Kind = AgentKind.KUBERNETES,
        wait: Annotated[
            str,
            QueryParameter(
                description=f"How long its agent has to answer, at most {MAX_WAIT:g}s.",
                max_length=32,
                examples=[Example(value="5s")],
            ),
        ] = "15s",
        format: Annotated[
            Format | None,
            QueryParameter(description=f"`yaml`: the object alone; also by `Accept: {YAML}`."),
        ] = None,
    ) -> Response[LiveObject]:
        """Its agent reads it from the API server, as a command of whoever asks: nothing of it is stored but
        that command and its result. Values of Secrets and what looks like one are not in it."""
        if (seconds := seconds_of(wait, MAX_WAIT)) <= 0:
            raise problems.invalid("wait", "is no time to answer in", "write it as in wait=5s")
        target = parameters.target(kind, id)
        async with database.read() as connection:
            status = await find_agent(connection, target)
            where = "" if namespace == CLUSTER_SCOPED else namespace
            wish = await live.wish(connection, target, resource, where, name)
        try:
            with news.seats.seat():
                command_id = await live.ask(database, wish, status, actor, seconds)
                await news.tell([command_id])
                await waited(request, news, command_id, seconds)
        except NoSeat:
            raise no_seat(news) from None
        async with database.read() as connection:
            command = await queries.get_command(connection, command_id)
            now = await database_clock.now(connection)
        assert command is not None
        found = live.object_read(command, seconds)
        headers = {"cache-control": "no-store"}
        age = max(0.0, round((now - command.row.finished_at).total_seconds(), 3))
        if format is Format.YAML or (format is None and _asks_for_yaml(request)):
            read_at = f"{found.read_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            origin = f"# {target}, {read_at}, {age:.3f}s ago, command {command_id}\n"
            text = await asyncio.to_thread(_yaml, found.object)
            return Response(cast(LiveObject, (origin + text).encode()), media_type=YAML, headers=headers)
        shown = LiveObject(
            object=cast(Any, found.object),
            read_at=found.read_at,
            age=age,
            command_id=command_id,
        )
        return Response(shown, headers=headers)


def _yaml(data: bytes) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    plain = msgspec.json.decode(data)
    return str(yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000))


def _asks_for_yaml(request: Request[Any, Any, Any]) -> bool:
    """Named, and JSON is not: who takes both gets what is the rule here."""
    accept = request.headers.get("accept", "").lower()
    return YAML in accept and "application/json" not in accept
