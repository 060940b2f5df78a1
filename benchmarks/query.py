"""Lists over HTTP: a cluster's pods, a fleet's by label, what is related to one, and many readers at once.

The rows come by the master's own write side. The api is a process of its own, asked over loopback; the
reference is the same statement in plain SQL, or none.
"""

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import sqlalchemy as sa
from msgspec import Raw

from benchmarks import stage
from benchmarks.measure import Figure, quantile
from benchmarks.pod import pod
from benchmarks.processes import START, Process, Rest, is_ready
from benchmarks.scene import Scene
from benchmarks.sizes import Sizes
from schemas.frames import MAX_BYTES, MAX_ITEMS, Frame, Phase, Put, Scope
from schemas.ids import SHARDS, Target, kubernetes
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.persistence.state.applier import FrameApplier
from services.persistence.state.epochs import Position, ReceivedFrame
from services.runtime.bus.consumer import Cursor
from services.runtime.listen import any_port
from tests.tokens import AUTHORIZED, admit

LISTED = kubernetes("listed")
PODS = "pods"
NAMESPACES = 10
BAR_LIST, BAR_LABEL, BAR_RELATED = 15.0, 60.0, 10.0
"""ms"""
_SIZE = min(MAX_ITEMS, MAX_BYTES // 2000)


class Writer:
    """Applies frames as the master does; each agent's changes follow its state."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._appliers = [FrameApplier(database, shard) for shard in range(SHARDS)]
        self._numbers = itertools.count(1)
        self._sequences: dict[Target, int] = {}
        self._time = datetime.now(UTC)

    async def state(self, target: Target, puts: list[Put]) -> None:
        """An epoch with these objects."""
        await self._apply(target, phase=Phase.BEGIN, instance=target.id, scope=Scope(resources=[PODS]))
        for start in range(0, len(puts), _SIZE):
            await self._apply(target, phase=Phase.DATA, items=puts[start : start + _SIZE])
        await self._apply(target, phase=Phase.SYNCED, synced=[PODS])

    async def changes(self, puts: Sequence[tuple[Target, Put]]) -> None:
        """A frame with one object for each, all of one shard, in one transaction if they fit."""
        await self._take([self._frame(target, phase=Phase.DATA, items=[put]) for target, put in puts])

    async def _apply(self, target: Target, **fields: object) -> None:
        await self._take([self._frame(target, **fields)])

    def _frame(self, target: Target, **fields: object) -> ReceivedFrame:
        self._sequences[target] = sequence = self._sequences.get(target, 0) + 1
        frame = Frame(epoch="epoch", sequence=sequence, **fields)  # type: ignore[arg-type]
        position = Position(created=self._time, sequence=next(self._numbers), time=datetime.now(UTC))
        return ReceivedFrame(target, frame, position)

    async def _take(self, received: Sequence[ReceivedFrame]) -> None:
        shard = received[0].target.shard
        cursor = Cursor(f"snapshots-{shard}", "FRAMES", self._time, received[-1].position.sequence)
        while received:
            report = await self._appliers[shard].apply(received, cursor)
            received = received[len(report.frames) :]


def _put(target: Target, number: int, version: int = 1) -> Put:
    name, namespace = f"pod-{number:05}", f"team-{number % NAMESPACES}"
    body = pod(target.id, name, version).replace(
        b'"namespace":"default"', b'"namespace":"%b"' % namespace.encode()
    )
    if number % 10 == 0:
        body = body.replace(b'"tier":"web"', b'"tier":"db"')
    # Fifty pods to a ReplicaSet, as large Deployments have.
    body = body.replace(b"shop-6bd8f595f9", b"shop-%d" % (number // 50))
    return Put(resource=PODS, namespace=namespace, name=name, uid=f"{target.id}-{name}", body=Raw(body))


async def measure(scene: Scene) -> list[Figure]:
    """Each database in turn."""
    figures = []
    for name in scene.databases.names:
        folder = scene.folder / name
        folder.mkdir()
        url = scene.databases.url(name, folder)
        await migrate.upgrade(url)
        async with Database(url) as database:
            writer = Writer(database)
            fleet = await _fill(writer, scene.sizes, name)
            async with stage.broker(folder) as broker, _api(folder, broker.url, url) as rest:
                figures += await _figures(scene.sizes, name, writer, fleet, rest)
    return figures


async def _fill(writer: Writer, sizes: Sizes, name: str) -> list[Target]:
    fleet = [kubernetes(f"fleet-{number:03}") for number in range(sizes.labelled_clusters)]
    each = sizes.labelled_pods // sizes.labelled_clusters
    stage.say(f"  {name}: {sizes.listed_pods} pods, and {each} in each of {len(fleet)} clusters")
    await writer.state(LISTED, [_put(LISTED, number) for number in range(sizes.listed_pods)])
    for target in fleet:
        await writer.state(target, [_put(target, number) for number in range(each)])
    async with writer.database.write() as connection:  # PostgreSQL does so by itself, within a minute
        if not writer.database.is_sqlite:
            await connection.exec_driver_sql("ANALYZE")
    return fleet


@asynccontextmanager
async def _api(folder: Path, broker_url: str, database_url: str) -> AsyncIterator[Rest]:
    port = any_port("127.0.0.1")
    variables = {"NATS_URL": broker_url, "DATABASE_URL": database_url, "API_LISTEN": f"127.0.0.1:{port}"}
    timeout, connector = aiohttp.ClientTimeout(total=60), aiohttp.TCPConnector(limit=0)
    await admit(database_url)
    # Without compression: what is measured is the list, not gzip.
    async with (
        Process("api", folder, variables) as api,
        aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session,
    ):
        session.headers.update({"Accept-Encoding": "identity", **AUTHORIZED})
        rest = Rest(session, f"http://127.0.0.1:{port}")
        async with asyncio.timeout(START):
            while not await is_ready(rest):
                api.check()
                await asyncio.sleep(0.1)
        yield rest
        api.check()


async def _figures(sizes: Sizes, name: str, writer: Writer, fleet: list[Target], rest: Rest) -> list[Figure]:
    listed = f"/clusters/{LISTED.id}/pods?limit=10000"
    labelled = "/resources/pods?labelSelector=tier%3Ddb&limit=10000"
    related = f"/clusters/{LISTED.id}/pods/team-7/pod-00007/related"
    size = len(await _get(rest, listed))
    figures = [
        Figure(
            f"GET pods, {sizes.listed_pods:,} rows, {name}",
            "ms",
            await _timed(sizes.asked, lambda: _get(rest, listed)),
            "plain SQL",
            await _timed(sizes.asked, lambda: _sql(writer.database, _LISTED, cluster=LISTED.id)),
            bar=BAR_LIST,
            published="Go AtlHyper 9–15 ms for 1.06 MB",
            note=f"{size / 1e6:.2f} MB; with read and transfer of the whole answer",
        ),
        Figure(
            f"GET pods by label, {sizes.labelled_pods // 10:,} of {sizes.labelled_pods:,} over "
            f"{len(fleet)} clusters, {name}",
            "ms",
            await _timed(sizes.asked, lambda: _get(rest, labelled)),
            "plain SQL",
            await _timed(
                sizes.asked,
                lambda: _sql(writer.database, _LABELLED[writer.database.is_sqlite]),
            ),
            bar=BAR_LABEL,
            published="karmada-search 10k rows 2.49 s",
            note=f"{len(await _get(rest, labelled)) / 1e6:.2f} MB",
        ),
        Figure(
            f"GET pods once more with its ETag, {name}",
            "ms",
            await _timed(sizes.asked, lambda: _not_modified(rest, listed)),
            note="304",
        ),
        Figure(
            f"GET related of one pod, {name}",
            "ms",
            await _timed(sizes.asked, lambda: _get(rest, related)),
            bar=BAR_RELATED,
        ),
    ]
    return [*figures, *await _many(sizes, name, writer, fleet, rest)]


async def _many(sizes: Sizes, name: str, writer: Writer, fleet: list[Target], rest: Rest) -> list[Figure]:
    """Readers that ask for a page at once again and again, beside changes."""
    answers: list[float] = []

    async def read() -> None:
        while True:
            target = random.choice(fleet).id
            path = f"/clusters/{target}/pods?limit=100"
            started = time.perf_counter()
            await _get(rest, path)
            answers.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(random.uniform(0, 1))

    clock = asyncio.get_running_loop().time
    waiting: dict[int, asyncio.Queue[tuple[float, Target, Put]]] = defaultdict(asyncio.Queue)
    lag: list[float] = []

    async def change() -> None:
        due = clock()
        for number in itertools.count():
            target = fleet[number % len(fleet)]
            waiting[target.shard].put_nowait((due, target, _put(target, number % 50, number + 2)))
            due += 1 / sizes.readers_changes
            await asyncio.sleep(max(0, due - clock()))

    async def write(queue: asyncio.Queue[tuple[float, Target, Put]]) -> None:
        """As the owner of a shard does: what has come meanwhile is one transaction."""
        while True:
            some = [await queue.get(), *(queue.get_nowait() for _ in range(queue.qsize()))]
            await writer.changes([(target, put) for _, target, put in some])
            lag.extend((clock() - due) * 1000 for due, _, _ in some)

    writers = [write(waiting[shard]) for shard in sorted({target.shard for target in fleet})]
    async with stage.beside([*(read() for _ in range(sizes.readers)), change(), *writers]):
        await asyncio.sleep(sizes.readers_seconds)
    rate = len(lag) / sizes.readers_seconds
    beside = f"{sizes.readers} readers beside {sizes.readers_changes} changes/s, {name}"
    return [
        Figure(
            f"{beside}: a page of 100",
            "ms",
            answers,
            percentile=99,
            note=f"each reader one in half a second; {len(answers) / sizes.readers_seconds:.0f}/s",
        ),
        Figure(
            f"{beside}: a change",
            "ms",
            lag,
            percentile=99,
            note=f"from when it came until it was committed; {rate:.0f}/s, p50 {quantile(lag, 50):.1f} ms",
        ),
    ]


# --- asking --------------------------------------------------------------------------------------------

_LISTED = (
    "SELECT summary FROM resource WHERE resource = 'pods' AND target_kind = 'kubernetes' "
    "AND target_id = :cluster ORDER BY namespace, name"
)
_LABELLED = {
    True: "SELECT r.summary FROM label AS l CROSS JOIN resource AS r USING "
    "(resource, target_kind, target_id, namespace, name) "
    "WHERE l.resource = 'pods' AND l.key = 'tier' AND l.value = 'db' "
    "ORDER BY l.target_kind, l.target_id, l.namespace, l.name LIMIT 10000",
    False: """SELECT summary FROM resource WHERE resource = 'pods' AND labels @> '{"tier": "db"}'
        ORDER BY target_kind, target_id, namespace, name LIMIT 10000""",
}


async def _timed(times: int, ask: Callable[[], Awaitable[object]]) -> list[float]:
    """ms of each, after a few that are not counted."""
    taken = []
    for number in range(times + 3):
        started = time.perf_counter()
        await ask()
        if number >= 3:
            taken.append((time.perf_counter() - started) * 1000)
    return taken


async def _get(rest: Rest, path: str) -> bytes:
    async with rest.session.get(f"{rest.url}/api/v1{path}") as response:
        answer = await response.read()
        if response.status != 200:
            raise RuntimeError(f"GET {path}: {response.status} {answer[:500].decode()}")
        return answer


async def _not_modified(rest: Rest, path: str) -> None:
    url = f"{rest.url}/api/v1{path}"
    tag = _TAGS.get(url)
    headers = {"If-None-Match": tag} if tag else {}
    async with rest.session.get(url, headers=headers) as response:
        await response.read()
        _TAGS[url] = response.headers["ETag"]


_TAGS: dict[str, str] = {}


async def _sql(database: Database, statement: str, **parameters: str) -> None:
    async with database.read() as connection:
        (await connection.execute(sa.text(statement), parameters)).all()
