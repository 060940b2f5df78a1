"""Several masters on one database: they share the shards, and one that dies, hangs or leaves is replaced."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from schemas import ids, subjects
from schemas.envelope import Envelope
from schemas.ids import SHARDS
from services.persistence import queries, tables
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.runtime.bus import client, credentials
from services.runtime.tasks import cancelled
from tests.bus.fixtures import RunningBroker
from tests.faults.proxy import Proxy
from tests.master.agent import BusAgent
from tests.master.conftest import Fleet, MasterProcess
from tests.master.test_master import events_of
from tests.persistence.frames import FrameSource, body_of
from tests.waiting import Stopwatch, until

pytestmark = pytest.mark.alone

_LEASE, _SHARD = tables.table_of(tables.Lease), tables.table_of(tables.Shard)
RESUMES = 10.0
"""Seconds in which work goes on, whatever became of a master."""


class Scene:
    """A broker with agents of several shards, a database, and masters by name."""

    def __init__(self, folder: Path, url: str, broker: RunningBroker, stack: AsyncExitStack) -> None:
        self.masters: dict[str, MasterProcess] = {}
        self._folder = folder
        self._url = url
        self._broker = broker
        self._stack = stack

    async def open(self) -> None:
        self.db = await self._stack.enter_async_context(Database(self._url))
        self.fleet = Fleet(self.db)

    @property
    def broker_port(self) -> int:
        return int(self._broker.url.rpartition(":")[2])

    async def bus(self, user: str) -> client.Bus:
        connection = client.connect(self._broker.settings(), user, name=user)
        return await self._stack.enter_async_context(connection)

    async def agent(self, name: str) -> BusAgent:
        target = ids.kubernetes(name)
        agent = BusAgent(await self.bus(target.durable), FrameSource(target, resources=("pods",)))
        await agent.listen()
        return agent

    async def start(self, name: str, **environment: str) -> MasterProcess:
        master = self.masters.get(name)
        if master is None:
            surroundings = {
                "ATLHYPER_HOME": str(self._broker.home),
                "NATS_URL": self._broker.url,
                "DATABASE_URL": self._url,
                "MASTER_INSTANCE": name,
                "MASTER_METRICS_LISTEN": "127.0.0.1:0",
                "MASTER_RESYNC_INTERVAL": "500ms",
                **environment,
            }
            master = self.masters[name] = MasterProcess(surroundings, self._folder / f"{name}.log")
        await master.start()
        return master

    async def held(self) -> dict[str, int]:
        """Shards by the master that has them now, by the leases' own times."""
        async with self.db.read() as connection:
            found = (await connection.execute(sa.select(_LEASE))).all()
        counts = dict.fromkeys(self.masters, 0)
        for row in found:
            if row.name.startswith("shard/") and row.holder and row.expires_at.timestamp() > time.time():
                counts[row.holder.partition("/")[0]] += 1
        return counts

    async def until_held(self, seconds: float = 45.0, **shards: int) -> None:
        async def as_said() -> bool:
            held = await self.held()
            return all(held[name] == count for name, count in shards.items())

        await until(as_said, seconds)

    async def rev(self, shard: int) -> int:
        async with self.db.read() as connection:
            return int(await connection.scalar(sa.select(_SHARD.c.rev).where(_SHARD.c.shard == shard)) or 0)


AGENTS = ("c0", "c1", "c2", "c4", "c5", "c7")
"""Of six shards: at either end of them, and between."""

MakeScene = Callable[[str], Awaitable[Scene]]


@pytest.fixture
async def new_scene(tmp_path: Path) -> AsyncIterator[MakeScene]:
    broker = RunningBroker(tmp_path / "broker")
    for name in AGENTS:
        credentials.issue(broker.home, ids.kubernetes(name).durable)
    await broker.start()
    await broker.apply()
    scenes: list[Scene] = []
    async with AsyncExitStack() as stack:

        async def make(url: str) -> Scene:
            scene = Scene(tmp_path, url, broker, stack)
            await scene.open()
            scenes.append(scene)
            return scene

        yield make
        for scene in scenes:
            for master in scene.masters.values():
                await master.stop(signal.SIGKILL)
    await broker.broker.stop()


@pytest.fixture
async def scene(new_scene: MakeScene, new_postgres_url: Callable[[], str]) -> Scene:
    """On PostgreSQL."""
    return await new_scene(new_postgres_url())


class Load:
    """An agent that sends a frame and an Event, again and again; and how long they took to be rows."""

    def __init__(self, scene: Scene, agent: BusAgent) -> None:
        self.agent = agent
        self.longest = 0.0
        """Seconds that the rows stood still while frames were sent and the machine ran."""
        self._scene = scene
        self._sent = 0
        self._enough = False

    async def run(self) -> None:
        source = self.agent.source
        await self.agent.send(source.begin("e1"), source.synced())
        watching = asyncio.create_task(self._watch())
        try:
            while not self._enough:
                self._sent += 1
                name = f"p{self._sent % 50}"
                await self.agent.send(source.put(name, body_of(name, state=f"S{self._sent}")))
                await self.agent.observe(f"{source.target.id}-{self._sent % 10}", self._sent, self._sent)
                await asyncio.sleep(0.1)
        finally:
            await cancelled(watching)

    async def _watch(self) -> None:
        version, since = -1, 0.0
        async with Stopwatch() as watch:
            while True:
                status = await self._scene.fleet.status(self.agent.source.target)
                self.longest = max(self.longest, watch.seconds - since)
                if status is not None and status.version != version:
                    version, since = status.version, watch.seconds
                await asyncio.sleep(0.2)

    def stop(self) -> None:
        """Send no more: `run` ends when the last one is on the bus."""
        self._enough = True

    async def check(self) -> None:
        """Everything has arrived, once: each frame is counted, none was missing, each Event is exact."""
        source, fleet = self.agent.source, self._scene.fleet
        await self.agent.send(source.digest())
        await fleet.until_rows(source)

        async def counted() -> bool:
            status = await fleet.status(source.target)
            return bool(status and status.version == source.sequence and status.in_sync)

        await until(counted)
        assert [what for what, _ in self.agent.heard if what != "confirmed"] == []
        expected = {
            f"{source.target.id}-{number % 10}": number
            for number in range(max(1, self._sent - 9), self._sent + 1)
        }

        async def exact() -> bool:
            where = queries.EventFilter(clusters=(source.target.id,))
            async with fleet.db.read() as connection:
                page = await queries.list_events(connection, where, limit=100)
            items = [msgspec.json.decode(item) for item in page.items]
            return {item["uid"]: item["count"] for item in items} == expected

        await until(exact)


@pytest.mark.timeout(600)
async def test_masters_die_and_hang_in_turn(scene: Scene) -> None:
    """Two masters; each is killed, each is stopped in the middle of its work and wakes up later: no frame is
    skipped or applied twice, every Event is counted, and nobody's rows stand still for more than 10 s.
    """
    await scene.start("one")
    await scene.start("two")
    await scene.until_held(one=SHARDS // 2, two=SHARDS // 2)
    loads = [Load(scene, await scene.agent(name)) for name in AGENTS]
    running = [asyncio.create_task(load.run()) for load in loads]

    async def killed(name: str, other: str) -> None:
        await scene.masters[name].stop(signal.SIGKILL)
        await scene.until_held(**{other: SHARDS})
        await scene.start(name)
        await scene.until_held(one=SHARDS // 2, two=SHARDS // 2)

    async def hung(name: str, other: str) -> None:
        scene.masters[name].send(signal.SIGSTOP)
        await scene.until_held(**{other: SHARDS})
        await asyncio.sleep(1.0)  # the other is at work, on what this one still takes for its own
        scene.masters[name].send(signal.SIGCONT)
        await scene.until_held(one=SHARDS // 2, two=SHARDS // 2)

    for fault in (killed, hung):
        for name, other in (("one", "two"), ("two", "one")):
            for load in loads:
                load.longest = 0.0
            await fault(name, other)
            stood = [load.longest for load in loads]
            assert max(stood) < RESUMES, stood
    for load in loads:
        load.stop()
    await asyncio.gather(*running)
    for load in loads:
        await load.check()
    for master in scene.masters.values():
        assert "dead letters" not in master.log
        assert "Traceback" not in master.log


@pytest.mark.timeout(180)
async def test_who_leaves_hands_over_at_once(scene: Scene) -> None:
    """A master that is stopped gives its leases back: the other one has them within two seconds."""
    first = await scene.start("one", MASTER_LEASE="30s")
    await scene.until_held(one=SHARDS)
    await scene.start("two", MASTER_LEASE="6s")
    await scene.until_held(40, one=SHARDS // 2, two=SHARDS // 2)
    assert await first.stop() == 0
    await scene.until_held(2.5, one=0, two=SHARDS)


@pytest.mark.timeout(180)
async def test_three_share(scene: Scene) -> None:
    """Each has its share, whoever comes and goes, and then nothing moves any longer."""
    for name in ("one", "two", "three"):
        await scene.start(name)

    async def spread(*counts: int) -> bool:
        return sorted((await scene.held()).values()) == list(counts)

    await until(lambda: spread(5, 5, 6))
    before = await fences(scene)
    await asyncio.sleep(3.0)
    assert await fences(scene) == before
    await scene.masters["two"].stop(signal.SIGKILL)
    await until(lambda: spread(0, 8, 8))


async def fences(scene: Scene) -> dict[str, int]:
    async with scene.db.read() as connection:
        found = await connection.execute(
            sa.select(_LEASE.c.name, _LEASE.c.fence).where(_LEASE.c.name.startswith("shard/"))
        )
        return {row.name: row.fence for row in found}


@pytest.mark.timeout(180)
async def test_second_master_on_sqlite_stands_by(new_scene: MakeScene, tmp_path: Path) -> None:
    """SQLite serves one master: another says so, is well, and takes over at once when the first one's process
    has ended, however long its leases would last; so does the first one started again.
    """
    url = f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}"
    await migrate.upgrade(url)
    scene = await new_scene(url)
    first = await scene.start("one", MASTER_LEASE="60s")
    await scene.until_held(one=SHARDS)
    second = await scene.start("two", MASTER_LEASE="60s")
    await until(lambda: "SQLite serves one master at a time" in second.log)
    assert "stands by for one/" in await ready(second)
    assert await second.stop() == 0
    await second.start()

    async def stands_by_again() -> bool:
        return "stands by for one/" in await second.readyz()

    await until(stands_by_again)
    assert await scene.held() == {"one": SHARDS, "two": 0}
    load = Load(scene, await scene.agent(AGENTS[0]))
    running = asyncio.create_task(load.run())
    await until(lambda: load.agent.source.sequence > 10)
    await first.stop(signal.SIGKILL)
    await scene.until_held(20.0, one=0, two=SHARDS)
    await second.stop(signal.SIGKILL)
    await first.start()
    await scene.until_held(30.0, one=SHARDS, two=0)
    sequence = load.agent.source.sequence
    await until(lambda: load.agent.source.sequence > sequence + 10)
    load.stop()
    await running
    await load.check()


async def ready(master: MasterProcess) -> str:
    """What /readyz says of a master that is well."""

    async def well() -> bool:
        return not await master.trouble()

    await until(well)
    return await master.readyz()


@pytest.mark.timeout(180)
async def test_masters_without_the_broker(scene: Scene) -> None:
    """A master that reaches the database and not the broker leaves its shards to the other one, and has its
    share again when the broker is back; where both are cut off, whoever is back first has all.
    """
    async with (
        Proxy.to("127.0.0.1", scene.broker_port) as near,
        Proxy.to("127.0.0.1", scene.broker_port) as far,
    ):
        for name, proxy in (("one", near), ("two", far)):
            url = f"nats://127.0.0.1:{proxy.listen_port}"
            await scene.start(name, NATS_URL=url, MASTER_LEASE="2s")
        await scene.until_held(one=SHARDS // 2, two=SHARDS // 2)
        load = Load(scene, await scene.agent(AGENTS[0]))
        running = asyncio.create_task(load.run())
        await near.cut()
        await scene.until_held(RESUMES, one=0, two=SHARDS)
        await near.mend()
        await scene.until_held(one=SHARDS // 2, two=SHARDS // 2)
        await asyncio.gather(near.cut(), far.cut())
        await scene.until_held(one=0, two=0)
        await until(lambda: "stands by without a connection to the broker" in scene.masters["two"].log)
        await far.mend()
        await scene.until_held(one=0, two=SHARDS)
        await near.mend()
        await scene.until_held(one=SHARDS // 2, two=SHARDS // 2)
        load.stop()
        await running
        await load.check()


@pytest.mark.timeout(180)
async def test_apis_are_nudged(scene: Scene) -> None:
    """After rows have changed the bus says so, with the shard's revision."""
    heard: dict[int, int] = {}

    async def hear(_: str, envelope: Envelope) -> None:
        nudge = msgspec.json.decode(envelope.data)
        heard[nudge["shard"]] = nudge["rev"]

    await (await scene.bus("api")).subscribe(subjects.ALL_NUDGES, hear)
    await scene.start("one")
    agent = await scene.agent(AGENTS[0])
    source = agent.source
    await agent.send(source.begin("e1"), source.put("p1"), source.synced(), source.digest())
    await agent.observe("u1", 1, 1)

    await scene.fleet.until_rows(source)

    async def event_is_there() -> bool:
        return await events_of(scene.fleet) == {"u1": 1}

    await until(event_is_there)

    async def told() -> bool:
        return heard == {source.target.shard: await scene.rev(source.target.shard)}

    await until(told)
    assert heard[source.target.shard] >= 2  # state and Event are two commits at least
