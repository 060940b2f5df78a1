"""What a real agent's gateway announces reaches the rows of a real master, over a real broker."""

from datetime import UTC, datetime

from schemas.presence import ActionSchemas, Health, Heartbeat
from services.agent.gateway.bus import BusGateway
from services.agent.scheduler.heartbeats import HeartbeatScheduler
from services.persistence import queries
from tests.agent.commands.world import ACTIONS
from tests.bus.fixtures import AGENTS, Connect
from tests.master.conftest import Fleet, MasterProcess
from tests.waiting import until

A = AGENTS[0]
SCHEMAS: ActionSchemas = {name: action.schema() for name, action in ACTIONS.items()}


async def test_what_an_agent_announces_is_kept(bus: Connect, master: MasterProcess, fleet: Fleet) -> None:
    """Packed on its way, it is stored as it was said, and stays when the stream has only later heartbeats."""
    started = datetime.now(UTC)

    def beat() -> Heartbeat:
        health = Health(healthy=True, status="running", start_time=started)
        return Heartbeat(version="1", interval=15, health=health)

    gateway = BusGateway(await bus(A.durable), A)
    scheduler = HeartbeatScheduler(beat, lambda: SCHEMAS, lambda: 0, gateway, interval=1e-6, timeout=10)

    async def seen() -> queries.AgentStatus | None:
        return await fleet.status(A)

    await scheduler.beat()
    await until(seen)
    first = await seen()
    assert first is not None
    await scheduler.beat()

    async def seen_again() -> bool:
        status = await seen()
        return bool(status and status.last_seen != first.last_seen)

    await until(seen_again)
    async with fleet.db.read() as connection:
        assert await queries.announced(connection, [first]) == {A: SCHEMAS}
