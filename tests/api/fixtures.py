"""An API on a real database that the master's own write side has filled; loaded by `tests/conftest.py`."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from litestar.types import ASGIApp
from msgspec import Raw

from schemas.actions import ACTIONS, capability
from schemas.frames import MAX_ITEMS, Frame, Phase, Put, Scope
from schemas.ids import AgentKind, Target, kubernetes
from schemas.kubernetes import KINDS
from schemas.kubernetes.base import KubeObject, ObjectMeta
from schemas.kubernetes.event import EventSource, KubernetesEvent, ObjectReference
from schemas.presence import Collection, Health, Heartbeat
from services.api.app import create_app
from services.api.http.server import bind, serve
from services.api.watch.hub import Hub
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.persistence.events.store import ObservedEvent, store_events
from services.persistence.presence.liveness import Beat
from services.persistence.presence.store import Sign, store_signs
from services.persistence.state.applier import FrameApplier
from services.persistence.state.epochs import Position, ReceivedFrame
from services.runtime.bus.consumer import Cursor
from services.runtime.health import Health as Readiness
from tests.persistence.frames import apply_all
from tests.tokens import AUTHORIZED, admit

CREATED = datetime(2026, 11, 21, 6, tzinfo=UTC)
"""When the streams were made."""
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
"""The broker's clock at the last beat of the master."""


def meta(name: str, namespace: str = "", **more: str) -> ObjectMeta:
    """Metadata of an object whose uid follows from its name."""
    return ObjectMeta(
        name=name,
        namespace=namespace,
        uid=f"uid-{namespace}-{name}",
        creation_timestamp=NOW - timedelta(minutes=3, seconds=12),
        **more,
    )


class Fleet:
    """Fills a database as the master does."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._appliers: dict[int, FrameApplier] = {}
        self._sequence = itertools.count(1)
        self._epoch = itertools.count(1)

    async def frames(self, target: Target, frames: Iterable[Frame], time: datetime = NOW) -> None:
        """Apply frames of one agent."""
        received = [
            ReceivedFrame(target, frame, Position(created=CREATED, sequence=next(self._sequence), time=time))
            for frame in frames
        ]
        applier = self._appliers.setdefault(target.shard, FrameApplier(self.database, target.shard))
        cursor = Cursor(f"snapshots-{target.shard}", "s", CREATED, received[-1].position.sequence)
        await apply_all(applier, received, cursor)

    async def state(
        self, cluster: str, objects: dict[str, Sequence[KubeObject]], *, time: datetime = NOW
    ) -> str:
        """A whole epoch: exactly these objects, by resource; the epoch's name."""
        epoch = f"epoch-{next(self._epoch)}"
        puts = [
            Put(
                resource=resource,
                namespace=obj.metadata.namespace,
                name=obj.metadata.name,
                uid=obj.metadata.uid,
                body=Raw(KINDS[resource].encode(obj)),
            )
            for resource, some in objects.items()
            for obj in some
        ]
        sequence = itertools.count(2)
        frames = [
            Frame(
                epoch=epoch,
                sequence=1,
                phase=Phase.BEGIN,
                instance=f"instance-{cluster}",
                scope=Scope(resources=[*objects]),
            )
        ]
        for start in range(0, len(puts), MAX_ITEMS):
            items: list[Put] = puts[start : start + MAX_ITEMS]
            frames.append(Frame(epoch=epoch, sequence=next(sequence), phase=Phase.DATA, items=[*items]))
        frames.append(Frame(epoch=epoch, sequence=next(sequence), phase=Phase.SYNCED, synced=[*objects]))
        await self.frames(kubernetes(cluster), frames, time)
        return epoch

    async def heartbeat(
        self,
        cluster: str,
        collection: dict[str, tuple[str, str]] | None = None,
        *,
        epoch: str = "",
        time: datetime = NOW,
        status: str = "running",
        last_error: str = "",
        journal: str = "",
    ) -> None:
        """A heartbeat: per resource, state and reason; with `last_error` of an agent that is not healthy.

        With `journal` of one that does whatever it is asked.

        With another status than `running` it comes from another agent under the same id.
        """
        started = NOW if status == "running" else NOW - timedelta(hours=1)
        body = Heartbeat(
            version="0.1.0",
            instance=f"instance-{cluster}",
            platform="v1.36.3",
            epoch=epoch,
            interval=15,
            capabilities=[
                "observe:pods",
                *(map(capability, ACTIONS[AgentKind.KUBERNETES]) if journal else ()),
            ],
            journal=journal,
            read_only=not journal,
            health=Health(healthy=not last_error, status=status, last_error=last_error, start_time=started),
            collection=[
                Collection(resource=resource, state=state, reason=reason)
                for resource, (state, reason) in (collection or {}).items()
            ],
        )
        await self._presence([Sign(kubernetes(cluster), body, time)], [])

    async def beats(self, until: datetime = NOW) -> None:
        """The master's own beats without a gap, up to `until`."""
        times = (
            CREATED + timedelta(seconds=5 * n) for n in range(int((until - CREATED).total_seconds()) // 5)
        )
        await self._presence([], [*(Beat(time, 5.0) for time in times), Beat(until, 5.0)])

    async def event(self, cluster: str, name: str, *, minutes_ago: float = 0, **fields: str) -> None:
        """One Kubernetes Event, about the pod shop/web-0 unless `about` says otherwise as `<kind>/<name>`."""
        namespace = fields.pop("namespace", "shop")
        kind, _, involved = fields.pop("about", "Pod/web-0").partition("/")
        event = KubernetesEvent(
            metadata=meta(name, namespace),
            involved_object=ObjectReference(
                kind=kind, namespace=namespace, name=involved, uid=f"uid-shop-{involved}"
            ),
            type=fields.get("type", "Warning"),
            reason=fields.get("reason", "BackOff"),
            message=fields.get("message", "Back-off restarting failed container"),
            count=4,
            first_timestamp=NOW - timedelta(hours=1),
            last_timestamp=NOW - timedelta(minutes=minutes_ago),
            source=EventSource(component="kubelet", host="node-1"),
        )
        number = next(self._sequence)
        cursor = Cursor("events", "e", CREATED, number)
        await store_events(self.database, [ObservedEvent(cluster, event, "e", number)], cursor)

    async def _presence(self, signs: list[Sign], beats: list[Beat]) -> None:
        cursor = Cursor("heartbeats", "h", CREATED, next(self._sequence))
        await store_signs(self.database, signs, beats, cursor)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables, and no row but the tests' token; tests use copies of it."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    asyncio.run(migrate.upgrade(f"sqlite+aiosqlite:///{path}"))
    asyncio.run(admit(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture
def database_url(tmp_path: Path, empty_database: Path) -> str:
    """A database of the test's own."""
    return f"sqlite+aiosqlite:///{shutil.copy(empty_database, tmp_path / 'api.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def either_url(request: pytest.FixtureRequest) -> str:
    """A database of the test's own, once of each kind."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("database_url"))
    url = str(request.getfixturevalue("new_postgres_url")())
    asyncio.run(admit(url))
    return url


@pytest.fixture
async def fleet(database_url: str) -> AsyncIterator[Fleet]:
    """An empty database with its tables, and what fills it."""
    async with Database(database_url) as database:
        yield Fleet(database)


class Bus:
    """What the API knows of the bus: whether it is connected."""

    def __init__(self) -> None:
        self.trouble: str | None = None

    def check(self) -> str | None:
        return self.trouble


@pytest.fixture
def bus_state() -> Bus:
    return Bus()


@pytest.fixture
def hub(fleet: Fleet) -> Hub:
    """Where the readers of changes sit; without the loop that reads them."""
    return Hub(fleet.database)


@pytest.fixture
def app(fleet: Fleet, bus_state: Bus, hub: Hub) -> ASGIApp:
    """The API on the database of `fleet`."""
    readiness = Readiness("api")
    readiness.check("database", lambda: None)
    readiness.check("bus", bus_state.check)
    return create_app(fleet.database, readiness, hub)


@pytest.fixture
async def api(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app`, without a socket between: starting and stopping a server would be most of a test."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=AUTHORIZED, timeout=40
    ) as client:
        yield client


@pytest.fixture
async def served(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app` over real HTTP."""
    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        host, port = listener.getsockname()
        serving = asyncio.create_task(serve(app, listener))
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=AUTHORIZED, timeout=40
        ) as client:
            yield client
        serving.cancel()
        await asyncio.wait([serving])
