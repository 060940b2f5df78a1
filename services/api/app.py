"""Composition of the api: what answers HTTP, and what keeps the dead letters."""

import json
import socket
from collections.abc import Sequence
from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import License, Server
from litestar.types import ASGIApp, Method

from schemas import topology
from schemas.subjects import ALL_NUDGES
from services.api import problems
from services.api.access import Access
from services.api.consumers.dead_letters import DeadLetterKeeper
from services.api.controllers.agents import AgentController
from services.api.controllers.dead_letters import DeadLetterController
from services.api.controllers.events import EventController
from services.api.controllers.health import HealthController
from services.api.controllers.resources import ResourceController
from services.api.controllers.watch import WatchController
from services.api.guards import check_request
from services.api.server import bind, serve
from services.api.settings import ApiSettings
from services.api.watch.hub import Hub
from services.persistence.database.engine import Database
from services.persistence.database.migrate import check_revision
from services.persistence.database.probe import DatabaseProbe
from services.persistence.presence.clockwatch import ClockWatch
from services.runtime import logs
from services.runtime.bus.client import connect
from services.runtime.health import Health
from services.runtime.lifecycle import Service
from services.runtime.listen import Listen, free_listen
from services.runtime.version import VERSION

_log = logs.get_logger(__name__)

OPENAPI_FILE = "docs/reference/openapi.json"
_DESCRIPTION = """\
What a fleet of clusters looks like, from the control plane's database.

Every answer says `as_of`: the broker's time of the last message that went into it. What is not collected,
and why, is part of each answer. Errors are RFC 9457 problems with a `next` step. A list is continued with
the `continue` of the page before; a row that changes meanwhile is shown as it is when its page is read.
`/api/v1/watch` tells what changes, from the `position` of a list on.
"""


async def run(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises UserError for what a person has to put right."""
    name = "API_LISTEN"
    listener = bind(free_listen(settings.listen, settings.was_set("listen"), name=name), name)
    host, port, *_ = listener.getsockname()
    instance = settings.instance or f"{socket.gethostname()}:{port}"
    with listener:
        async with (
            Database(settings.database_url, "api") as database,
            connect(settings, topology.API.name, name=f"api@{instance}", wait=True) as bus,
            Service("api") as service,
        ):
            await check_revision(database)
            probe, keeper = DatabaseProbe(database), DeadLetterKeeper(bus, database)
            health = Health("api")
            health.check("database", probe.health)
            health.check("bus", bus.health)
            health.check("dead letters", keeper.consumer.health)
            service.supervise("database probe", probe.run)
            service.supervise("dead letters", keeper.consumer.run)
            hub = Hub(database, settings.watch_readers)
            await bus.subscribe(ALL_NUDGES, hub.nudge)
            service.supervise("changes", hub.run)
            clock = ClockWatch(database)
            service.supervise("clock", clock.run)
            app = create_app(database, health, hub, settings.cors_origins, clock)
            service.supervise("http", lambda: serve(app, listener, hub.close))
            _log.info("serving", address=f"http://{Listen(host, port)}", instance=instance)
            await service.wait()


def create_app(
    database: Database,
    health: Health,
    hub: Hub,
    cors_origins: Sequence[str] = (),
    clock: ClockWatch | None = None,
) -> ASGIApp:
    """The whole HTTP side on an open database, as tests use it too."""
    return Access(_litestar(database, health, hub, cors_origins, clock))


def _litestar(
    database: Database | None,
    health: Health | None,
    hub: Hub | None,
    cors_origins: Sequence[str] = (),
    clock: ClockWatch | None = None,
) -> Litestar:
    """Without a database it describes itself, but answers nothing."""
    api = Router(
        "/api/v1",
        route_handlers=[
            AgentController,
            ResourceController,
            EventController,
            WatchController,
            DeadLetterController,
        ],
    )
    return Litestar(
        route_handlers=[api, HealthController],
        dependencies={
            "database": Provide(lambda: database, sync_to_thread=False),
            "health": Provide(lambda: health, sync_to_thread=False),
            "hub": Provide(lambda: hub, sync_to_thread=False),
            "clock": Provide(lambda: clock, sync_to_thread=False),
        },
        before_request=check_request,
        exception_handlers=problems.HANDLERS,
        cors_config=CORSConfig(allow_origins=[*cors_origins], allow_methods=["GET"])
        if cors_origins
        else None,
        openapi_config=OpenAPIConfig(
            title="AtlHyper",
            version=VERSION,
            description=_DESCRIPTION,
            license=License(name="Apache-2.0", identifier="Apache-2.0"),
            servers=[Server(url="/")],
            path="/schema",
            render_plugins=[JsonRenderPlugin()],
            use_handler_docstrings=True,
            operation_id_creator=_operation_id,
        ),
        logging_config=None,
    )


def _operation_id(handler: HTTPRouteHandler, _method: Method, path: list[Any]) -> str:
    """The handler's name; its short form under `/clusters` has the same with `_of_cluster`."""
    suffix = "_of_cluster" if len(handler.paths) > 1 and "clusters" in path else ""
    return f"{handler.handler_name}{suffix}"


def openapi_file() -> dict[str, str]:
    """The generated OpenAPI document, by its path in the repository; needs no database."""
    schema = _litestar(None, None, None).openapi_schema.to_schema()
    # Litestar keeps a handler's paths in a set, whose order changes from run to run.
    schema["paths"] = dict(sorted(schema["paths"].items()))
    return {OPENAPI_FILE: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"}
