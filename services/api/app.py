"""Composition of the api: what answers HTTP, and what keeps the dead letters."""

import socket
from collections.abc import Sequence

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.types import ASGIApp

from schemas import topology
from schemas.subjects import ALL_NUDGES, COMMANDS_CHANGED
from services.api.commands.waiting import CommandNews
from services.api.consumers.dead_letters import DeadLetterKeeper
from services.api.controllers.agents import AgentController
from services.api.controllers.commands import CommandController
from services.api.controllers.dead_letters import DeadLetterController
from services.api.controllers.events import EventController
from services.api.controllers.fleet import FleetController
from services.api.controllers.health import HealthController
from services.api.controllers.index import IndexController
from services.api.controllers.live import LiveController
from services.api.controllers.logs import LogController
from services.api.controllers.operations import OperationController
from services.api.controllers.related import RelatedController
from services.api.controllers.resources import ResourceController
from services.api.controllers.snapshot import SnapshotController
from services.api.controllers.watch import WatchController
from services.api.http import answering, document
from services.api.http.access import Access
from services.api.http.authentication import Authentication, Authenticator, actor, require_token
from services.api.http.compression import Compression
from services.api.http.cors import Cors
from services.api.http.guards import check_local_request, check_request
from services.api.http.limits import DEFAULTS, Limiter, Limits, Seats
from services.api.http.server import bind, serve
from services.api.logs.readers import LogReaders
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
    address = free_listen(settings.listen, settings.was_set("listen"), name=name, anywhere=True)
    if is_open := not Listen.parse(address, name).is_loopback:
        await require_token(settings, address)
    listener = bind(address, name)
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
            news = CommandNews(database, bus, settings.max_waiters)
            await bus.subscribe(COMMANDS_CHANGED, news.heard)
            limits, authenticator = settings.limits, Authenticator(database)
            service.supervise("tokens", authenticator.run)
            log_readers = LogReaders(bus, instance, settings.max_log_readers)
            app = create_app(
                database,
                health,
                hub,
                settings.cors_origins,
                clock,
                limits,
                authenticator=authenticator,
                any_host=is_open,
                news=news,
                log_readers=log_readers,
            )

            def ending() -> None:
                hub.close()
                news.close()
                log_readers.close()

            service.supervise("http", lambda: serve(app, listener, ending, limits))
            _log.info("serving", address=f"http://{Listen(host, port)}", instance=instance)
            await service.wait()


def create_app(
    database: Database,
    health: Health,
    hub: Hub,
    cors_origins: Sequence[str] = (),
    clock: ClockWatch | None = None,
    limits: Limits = DEFAULTS,
    *,
    authenticator: Authenticator | None = None,
    any_host: bool = False,
    news: CommandNews | None = None,
    log_readers: LogReaders | None = None,
) -> ASGIApp:
    """The whole HTTP side on an open database, as tests use it too.

    `any_host`: it is reached from elsewhere, under whatever name.
    """
    news = news or CommandNews(database, waiters=limits.waiters)
    seats = Seats(limits.snapshots)
    litestar = _litestar(database, health, hub, clock, seats, news, log_readers, any_host=any_host)
    inner = Limiter(Compression(litestar), limits)
    return Access(Cors(Authentication(inner, authenticator or Authenticator(database)), cors_origins))


def _litestar(
    database: Database | None,
    health: Health | None,
    hub: Hub | None,
    clock: ClockWatch | None = None,
    snapshots: Seats | None = None,
    news: CommandNews | None = None,
    log_readers: LogReaders | None = None,
    *,
    any_host: bool = False,
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
            OperationController,
            WatchController,
            CommandController,
            LiveController,
            LogController,
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
            "log_readers": Provide(lambda: log_readers or LogReaders(None), sync_to_thread=False),
            "news": Provide(lambda: news, sync_to_thread=False),
            "snapshots": Provide(lambda: snapshots, sync_to_thread=False),
            "actor": Provide(actor, sync_to_thread=False),
        },
        before_request=check_request if any_host else check_local_request,
        exception_handlers=answering.HANDLERS,
        openapi_config=document.config(),
        logging_config=None,
    )


def openapi_file() -> dict[str, str]:
    """The generated OpenAPI document, by its path in the repository; needs no database."""
    return document.file_of(_litestar(None, None, None))
