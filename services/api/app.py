"""Composition of the api: what answers HTTP, and what keeps the dead letters."""

import socket
from collections.abc import Sequence

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.types import ASGIApp

from schemas import topology
from schemas.subjects import ALL_NUDGES
from services.api.consumers.dead_letters import DeadLetterKeeper
from services.api.controllers.agents import AgentController
from services.api.controllers.dead_letters import DeadLetterController
from services.api.controllers.events import EventController
from services.api.controllers.fleet import FleetController
from services.api.controllers.health import HealthController
from services.api.controllers.index import IndexController
from services.api.controllers.related import RelatedController
from services.api.controllers.resources import ResourceController
from services.api.controllers.snapshot import SnapshotController
from services.api.controllers.watch import WatchController
from services.api.http import answering, document
from services.api.http.access import Access
from services.api.http.compression import Compression
from services.api.http.cors import Cors
from services.api.http.guards import check_request
from services.api.http.limits import DEFAULTS, Limiter, Limits, Seats
from services.api.http.server import bind, serve
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

_log = logs.get_logger(__name__)


async def run(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises UserError for what a person has to put right."""
    name = "API_LISTEN"
    listener = bind(free_listen(settings.listen, settings.was_set("listen"), name=name), name)
    host, port, *_ = listener.getsockname()
    instance = settings.instance or f"{socket.gethostname()}:{port}"
    with listener:
        async with (
            Database(settings.database_url, "api", query_timeout=settings.query_timeout) as database,
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
            limits = settings.limits
            app = create_app(database, health, hub, settings.cors_origins, clock, limits)
            service.supervise("http", lambda: serve(app, listener, hub.close, limits))
            _log.info("serving", address=f"http://{Listen(host, port)}", instance=instance)
            await service.wait()


def create_app(
    database: Database,
    health: Health,
    hub: Hub,
    cors_origins: Sequence[str] = (),
    clock: ClockWatch | None = None,
    limits: Limits = DEFAULTS,
) -> ASGIApp:
    """The whole HTTP side on an open database, as tests use it too."""
    litestar = _litestar(database, health, hub, clock, Seats(limits.snapshots))
    return Access(Cors(Limiter(Compression(litestar), limits), cors_origins))


def _litestar(
    database: Database | None,
    health: Health | None,
    hub: Hub | None,
    clock: ClockWatch | None = None,
    snapshots: Seats | None = None,
) -> Litestar:
    """Without a database it describes itself, but answers nothing."""
    api = Router(
        "/api/v1",
        route_handlers=[
            AgentController,
            SnapshotController,
            ResourceController,
            RelatedController,
            FleetController,
            EventController,
            WatchController,
            DeadLetterController,
        ],
    )
    return Litestar(
        route_handlers=[api, HealthController, IndexController],
        dependencies={
            "database": Provide(lambda: database, sync_to_thread=False),
            "health": Provide(lambda: health, sync_to_thread=False),
            "hub": Provide(lambda: hub, sync_to_thread=False),
            "clock": Provide(lambda: clock, sync_to_thread=False),
            "snapshots": Provide(lambda: snapshots, sync_to_thread=False),
        },
        before_request=check_request,
        exception_handlers=answering.HANDLERS,
        openapi_config=document.config(),
        logging_config=None,
    )


def openapi_file() -> dict[str, str]:
    """The generated OpenAPI document, by its path in the repository; needs no database."""
    return document.file_of(_litestar(None, None, None))
