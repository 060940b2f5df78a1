"""Commands under way between an api, a master and an agent's journal on a real broker, and their killing.

The api and the master are processes. The agent's side of commands runs in the test's own process, on a file
that counts effects.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp

from schemas.actions import ACTIONS, capability
from schemas.commands import Action, Command, CommandState
from schemas.ids import AgentKind, uuid7
from schemas.presence import Health, Heartbeat
from services.agent.capability import Outcome, Progress, Stale
from services.agent.gateway.bus import BusGateway
from services.agent.gateway.commands import BusCommands
from services.agent.gateway.interfaces import Unavailable
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from services.persistence.database.engine import Database
from services.runtime import failpoints
from services.runtime.bus import client
from services.runtime.failpoints import Point
from services.runtime.tasks import cancelled
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.bus.fixtures import AGENTS, RunningBroker
from tests.faults.audit import Audit
from tests.forked import ForkedService
from tests.ports import free_port
from tests.tokens import AUTHORIZED
from tests.waiting import until

WIDTH = 40
"""Commands that are asked for at one time: their author sees an end some time after it."""
OBJECTS = 10
FICKLE = 4
"""One in so many of the authors wants each command's end as soon as it is accepted."""
HESITANT = "db"
"""Objects of every second one of these are only looked at for some time: there each cancel comes before the
effect, however slow the machine is. The others' may come too late.
"""
HESITATES = 30.0
"""Seconds of that, unless it is canceled."""
TAKES = 0.8
"""Seconds of one effect: so many commands are under way, and not thousands done."""
CALL = 10.0
"""Seconds of one request at most."""
REACHED = 180.0
"""Seconds within which commands take a process, which starts first, to its step."""
FEWEST = 20
"""Commands that are under way at each step."""
TRIES = 10
"""To have so many: when many have just ended, their authors ask for the next ones a moment later."""
HELD = "sleep=0.5"
"""Seconds for which a process stays at its step while the broker is killed."""
EVERY = 3
"""Of the times that it comes by it stays at each third, or little would get done."""
HOLDS = 600
"""The last time, counted from the first, at which it stays there: more than it comes by."""
SETTLED = 240.0
"""Seconds within which everything has ended after the last kill."""
TARGET = AGENTS[0]
SCALE = ACTIONS[AgentKind.KUBERNETES]["scale"]


class Scaling(WorldActions):
    """The one action that is asked for, on what is in a World."""

    def declared(self) -> Mapping[str, Action]:
        return {SCALE.name: SCALE}

    async def look(self, command: Command) -> bytes:
        if command.object.name.startswith(HESITANT):
            await asyncio.sleep(HESITATES)
        return await super().look(command)

    async def perform(self, command: Command, seen: bytes, progress: Progress) -> Outcome:
        await asyncio.sleep(TAKES)
        if not self.world.touch(command.object.name, int(seen), command.id):
            raise Stale
        return Outcome({"version": int(seen) + 1})


class Authors:
    """Some who each ask for one command after the other and wait for its end, whatever happens meanwhile."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._asking = True
        self._tasks: list[asyncio.Task[None]] = []
        self.asked: list[str] = []
        """Idempotency-Keys."""
        self.accepted: dict[str, str] = {}
        """Ids of commands, by key."""
        self.canceled: set[str] = set()
        """Ids of those whose end was asked for, and granted or promised."""
        self.ended: dict[str, dict[str, Any]] = {}
        """Commands as they were shown at their end, by id."""

    def begin(self) -> None:
        self._tasks = [asyncio.create_task(self._author(n)) for n in range(WIDTH)]

    def check(self) -> None:
        """Raises what one of them met that must not be."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def finish(self) -> None:
        """Each sees the end of its last one."""
        self._asking = False
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            await cancelled(task)

    async def _author(self, number: int) -> None:
        kind = HESITANT if number % (2 * FICKLE) == 0 else "web"
        about = {"resource": "deployments", "namespace": "shop", "name": f"{kind}-{number % OBJECTS}"}
        while self._asking:
            key = uuid7()
            self.asked.append(key)
            body = {
                "target": {"kind": TARGET.kind.value, "id": TARGET.id},
                "action": SCALE.name,
                "object": about,
                "params": {"replicas": len(self.asked)},
            }
            item = await self._answer("POST", "/commands", json=body, headers={"Idempotency-Key": key})
            self.accepted[key] = id_ = item["id"]
            if number % FICKLE == 0 and await self._cancel(id_):
                self.canceled.add(id_)
            while not CommandState(item["state"]).terminal:
                item = await self._answer("GET", f"/commands/{id_}", params={"wait": "5s"})
            self.ended[id_] = item

    async def _cancel(self, id_: str) -> bool:
        """False: it has ended otherwise."""
        item = await self._answer("POST", f"/commands/{id_}/cancel", json={}, ended=409)
        return "cancel_requested_at" in item

    async def _answer(
        self, method: str, path: str, *, headers: Mapping[str, str] = {}, ended: int = 0, **request: Any
    ) -> dict[str, Any]:
        """`ended`: a further status that is an answer."""
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                status, answer = await self.call(method, path, headers=headers, **request)
                if status in (200, 202, ended):
                    return answer
                assert status == 503, answer
            await asyncio.sleep(0.1)

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] = {}, **request: Any
    ) -> tuple[int, dict[str, Any]]:
        """Raises aiohttp.ClientError, TimeoutError."""
        url = f"{self._url}/api/v1{path}"
        async with self._session.request(method, url, headers={**AUTHORIZED, **headers}, **request) as answer:
            return answer.status, await answer.json(content_type=None)

    async def able(self) -> bool:
        """Whether something may be asked for."""
        with suppress(aiohttp.ClientError, TimeoutError):
            status, answer = await self.call("GET", f"/agents/{TARGET.kind}/{TARGET.id}")
            return status == 200 and capability(SCALE.name) in answer["capabilities"]
        return False


class AgentSide:
    """`async with AgentSide(broker, file, world) as agent:` it takes commands, and says that it does."""

    def __init__(self, broker: RunningBroker, file: Path, world: World) -> None:
        self._broker = broker
        self._file = file
        self._actions = Scaling(world)
        self.journal: Journal

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with (
            client.connect(self._broker.settings(), TARGET.durable, name="agent") as bus,
            StateFile(self._file, journal_rows.TABLES) as file,
        ):
            gateway = BusGateway(bus, TARGET)
            self.journal = Journal(file, gateway.clock.now)
            commands = BusCommands(bus, TARGET, gateway, poll_interval=0.1, patience=5.0)
            scheduler = CommandScheduler(
                TARGET,
                "uid",
                self._actions,
                self.journal,
                commands,
                read_only=False,
                patience=1.0,
                now=gateway.clock.now,
            )
            async with running(scheduler):
                beating = asyncio.create_task(self._beat(gateway))
                yield self
                await cancelled(beating)

    async def _beat(self, gateway: BusGateway) -> None:
        started = datetime.now(UTC)
        while True:
            health = Health(healthy=True, status="running", start_time=started)
            beat = Heartbeat(
                version="1",
                instance="uid",
                interval=15.0,
                health=health,
                read_only=False,
                journal=self.journal.id,
                capabilities=[capability(SCALE.name)],
            )
            with suppress(Unavailable):
                await gateway.beat(beat)
            await asyncio.sleep(2.0)


class Stage:
    """All of it at work: kill what you like, then `check`."""

    def __init__(
        self,
        broker: RunningBroker,
        services: Mapping[str, ForkedService],
        agent: AgentSide,
        authors: Authors,
        audit: Audit,
        world: World,
    ) -> None:
        self.services = services
        self.authors = authors
        self._broker = broker
        self._agent = agent
        self._audit = audit
        self._world = world

    async def under_way(self) -> int:
        """Commands that were asked for and have not ended, by the database."""
        return len(self.authors.asked) - await self._audit.ended_commands()

    async def begin_at(self, point: Point, times: Iterable[int], action: str) -> ForkedService:
        """Have commands take its process, started anew, to this step for the first of these times."""
        process = self.services[point.partition(".")[0]]
        plans = ",".join(f"{point.value}:{nth}:{action}" for nth in times)
        for _ in range(TRIES):
            await process.kill()
            await process.start(**{failpoints.VARIABLE: plans})
            met = await self._comes_by(process, point, 0)
            if met >= FEWEST:
                return process
        raise AssertionError(f"{point}: {met} commands were under way")

    async def _comes_by(self, process: ForkedService, point: Point, before: int) -> int:
        """Wait until it was at this step more often than `before`; how many commands are under way then."""
        met = earlier = 0
        async with asyncio.timeout(REACHED):
            while _met(process, point) <= before:
                self.authors.check()
                assert process.ended is None, process.log[-3000:]
                earlier, met = met, await self.under_way()
                await asyncio.sleep(0.02)
        return max(earlier, met)  # the step may have ended some of them by now

    async def kill_broker_at(self, point: Point, first: int, times: int) -> None:
        """With -9, so often: each time the process of this step, started once, has come there anew."""
        process = await self.begin_at(point, range(first, first + HOLDS, EVERY), HELD)
        for left in reversed(range(times)):
            await self._broker.kill()
            await self._broker.start()
            while left and await self._comes_by(process, point, _met(process, point)) < FEWEST:
                pass  # many have just ended
        assert process.ended is None, process.log[-3000:]

    async def check(self) -> None:
        """Everything has ended: each command once, well, in time and with one effect, and none is lost. One
        whose end was asked for, and only such a one, may have ended as canceled, without any effect.
        """
        async with asyncio.timeout(SETTLED):
            await self.authors.finish()
        await until(self._nothing_waits, SETTLED)
        accepted = self.authors.accepted
        assert set(accepted) == set(self.authors.asked)
        keys = await self._audit.command_keys()
        assert sorted(keys.items()) == sorted((id_, key) for key, id_ in accepted.items())
        ends: dict[str, list[str]] = {id_: [] for id_ in keys}
        for step in await self._audit.command_steps():
            assert not CommandState(step.before).terminal, step
            assert CommandState(step.before).may_become(CommandState(step.after)), step
            if CommandState(step.after).terminal:
                ends[step.command_id].append(step.after)
        ended = self.authors.ended
        canceled = {id_ for id_, item in ended.items() if item["state"] == "canceled"}
        wished = {id_ for id_, item in ended.items() if item["cancel_requested_at"]}
        assert self.authors.canceled <= wished
        assert 0 < len(canceled & wished) == len(canceled)
        assert ends == {id_: ["canceled" if id_ in canceled else "succeeded"] for id_ in keys}
        assert self._world.effects() == dict.fromkeys(keys.keys() - canceled, 1)
        for item in ended.values():
            assert item["state"] == ends[item["id"]][0], item
            assert datetime.fromisoformat(item["finished_at"]) <= datetime.fromisoformat(item["finish_by"])

    async def _nothing_waits(self) -> bool:
        """Neither in the outbox nor in the journal."""
        journal = self._agent.journal
        return not (journal.open or journal.unconfirmed or await self._audit.outbox())


def _met(process: ForkedService, point: Point) -> int:
    """How often it came to what was planned at this step, since its start."""
    return process.log.count(f'"{point.value}"')


@asynccontextmanager
async def stage(broker: RunningBroker, database_url: str, folder: Path) -> AsyncIterator[Stage]:
    """On a database that has the tables and the tests' token, with commands under way."""
    common = {"ATLHYPER_HOME": str(broker.home), "NATS_URL": broker.url, "DATABASE_URL": database_url}
    address = f"127.0.0.1:{free_port()}"
    timing = {"MASTER_LEASE": "3s", "MASTER_COMMAND_RESEND_INTERVAL": "3s"}
    name = {"MASTER_INSTANCE": "one", "MASTER_METRICS_LISTEN": "127.0.0.1:0"}
    world = World(folder / "world.db")
    async with (
        ForkedService("api", common | {"API_LISTEN": address}, folder / "api.log") as api,
        ForkedService("master", common | timing | name, folder / "master.log") as master,
        Database(database_url) as database,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL)) as session,
    ):
        audit = Audit(database)
        await audit.install()
        await api.start()
        await master.start()
        authors = Authors(session, f"http://{address}")
        async with AgentSide(broker, folder / "agent.db", world).running() as agent:
            await until(authors.able, 180)
            authors.begin()
            try:
                yield Stage(broker, {"api": api, "master": master}, agent, authors, audit, world)
            finally:
                await authors.stop()
    world.close()
