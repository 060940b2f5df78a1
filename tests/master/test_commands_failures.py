"""Masters that are killed while commands are under way: the next one goes on, and nothing is done twice."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest
import sqlalchemy as sa

from schemas.commands import CommandState
from services.persistence import tables
from services.persistence.database import migrate
from services.persistence.database.engine import Database
from services.persistence.leases import MEMBER
from services.runtime import failpoints
from services.runtime.failpoints import Point
from services.runtime.tasks import cancelled
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.commanding import CommandAgent, Commands, command_for
from tests.master.conftest import MasterProcess
from tests.persistence.sending import beat
from tests.waiting import until

pytestmark = [pytest.mark.timeout(400), pytest.mark.alone]

RESUMES = 10.0
"""Seconds in which work goes on, whatever became of a master."""
_LEASE = tables.table_of(tables.Lease)
A = AGENTS[0]
KILLED = -signal.SIGKILL

Start = Callable[..., Awaitable[MasterProcess]]


@pytest.fixture
async def start(own_broker: RunningBroker, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a master of that name on that database."""
    masters: dict[str, MasterProcess] = {}

    async def begin(name: str, url: str, **variables: str) -> MasterProcess:
        if name in masters:
            await masters[name].stop(signal.SIGKILL)
        masters[name] = MasterProcess(
            {
                "ATLHYPER_HOME": str(own_broker.home),
                "NATS_URL": own_broker.url,
                "DATABASE_URL": url,
                "MASTER_INSTANCE": name,
                "MASTER_METRICS_LISTEN": "127.0.0.1:0",
                "MASTER_COMMAND_RESEND_INTERVAL": "1s",
                **variables,
            },
            tmp_path / f"{name}.log",
        )
        await masters[name].start()
        return masters[name]

    yield begin
    for master in masters.values():
        await master.stop(signal.SIGKILL)


@pytest.fixture
async def taker(own_broker: RunningBroker, bus: Connect) -> AsyncIterator[CommandAgent]:
    made = CommandAgent(await bus(A.durable), A)
    task = asyncio.create_task(made.run())
    yield made
    await cancelled(task)


async def all_done(commands: Commands, agent: CommandAgent, ids: list[str], seconds: float) -> None:
    """Each has succeeded, its agent knows that we know, and did it once, in the order of acceptance."""

    async def done() -> bool:
        states = await commands.states()
        return all(states[one] == CommandState.SUCCEEDED for one in ids) and set(ids) <= set(agent.confirmed)

    await until(done, seconds)
    assert sorted(agent.effects) == sorted(ids)
    assert await commands.waiting() == {}


@pytest.mark.parametrize(
    "point",
    [
        Point.COMMAND_BEFORE_SEND,
        Point.COMMAND_AFTER_SEND,
        Point.COMMAND_AFTER_SENT,
        Point.RESULT_BEFORE_COMMIT,
        Point.RESULT_AFTER_COMMIT,
        Point.RESULT_BEFORE_CONFIRM,
    ],
)
async def test_a_master_killed_at_any_step_loses_nothing(
    start: Start, taker: CommandAgent, tmp_path: Path, point: Point
) -> None:
    """Between any two steps of any of some commands; it is started again as it was before."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'atlhyper.db'}"
    await migrate.upgrade(url)
    async with Database(url) as db:
        commands = Commands(db)
        await beat(db, A, taker.journal_id)
        ids = [await commands.accept(command_for(A)) for _ in range(5)]
        first = await start("one", url, **{failpoints.VARIABLE: f"{point.value}:2:kill"})
        ids += [await commands.accept(command_for(A)) for _ in range(5)]

        async def ended() -> bool:
            ids.append(await commands.accept(command_for(A)))  # each of them may be the one
            await asyncio.sleep(0.3)
            return first.ended == KILLED

        await until(ended, 40)
        await start("one", url)
        await all_done(commands, taker, ids, 40)


async def test_another_master_goes_on_when_the_holder_is_killed(
    start: Start, taker: CommandAgent, new_postgres_url: Callable[[], str]
) -> None:
    """While commands come in all the time. Within ten seconds one that was accepted at the worst moment has
    succeeded; then the other one is killed too.
    """
    url = new_postgres_url()
    async with Database(url) as db:
        commands = Commands(db)
        await beat(db, A, taker.journal_id)
        masters = {name: await start(name, url) for name in ("one", "two")}
        ids: list[str] = []
        enough = asyncio.Event()

        async def load() -> None:
            while not enough.is_set():  # to its end: a cancelled commit may have gone through
                ids.append(await commands.accept(command_for(A)))
                await asyncio.sleep(0.1)

        loading = asyncio.create_task(load())
        for _ in range(2):
            took: list[float] = []
            while not took or (took[-1] >= RESUMES and len(took) < 3):  # the machine may have stood still
                await until(lambda: _all_hold(db, masters), 40)
                await until(lambda: len(taker.confirmed) > len(ids) // 2 > 5, 40)
                holder = (await _holders(db))["commands"]
                await masters[holder].stop(signal.SIGKILL)
                killed = time.monotonic()
                late = await commands.accept(command_for(A))
                ids.append(late)
                await until(lambda: _has_succeeded(commands, late), 30)  # noqa: B023 - it ends here
                took.append(time.monotonic() - killed)
                masters[holder] = await start(holder, url)
            assert took[-1] < RESUMES, took
        enough.set()
        await loading
        await all_done(commands, taker, ids, 40)


async def _has_succeeded(commands: Commands, command_id: str) -> bool:
    return await commands.state(command_id) is CommandState.SUCCEEDED


async def _holders(db: Database) -> dict[str, str]:
    """Names of the masters that hold leases, by lease."""
    async with db.read() as connection:
        held = sa.select(_LEASE.c.name, _LEASE.c.holder).where(_LEASE.c.expires_at > sa.func.now())
        found = await connection.execute(held)
        return {row.name: row.holder.partition("/")[0] for row in found if not row.name.startswith(MEMBER)}


async def _all_hold(db: Database, masters: Iterable[str]) -> bool:
    """Whether each of them has something: it would take over the rest."""
    holders = await _holders(db)
    return "commands" in holders and set(holders.values()) >= set(masters)
