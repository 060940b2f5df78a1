"""When heartbeats carry what an agent can do, on a real broker."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from nats.aio.msg import Msg

from schemas import binding, subjects
from schemas.presence import ActionSchemas, Health, Heartbeat
from services.agent.gateway.bus import BusGateway
from services.agent.scheduler.heartbeats import ANNOUNCED_EACH, HeartbeatScheduler
from services.runtime.bus.client import Bus
from tests.agent.commands.world import ACTIONS
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.waiting import until

A = AGENTS[0]
LONG, SHORT = 3600.0, 1e-6
"""Intervals: all beats of a test are within the first part of the one, each is beyond that of the other."""
BEAT = Heartbeat(
    version="1", interval=15, health=Health(healthy=True, start_time=datetime(2026, 11, 22, tzinfo=UTC))
)
SCHEMAS: ActionSchemas = {name: action.schema() for name, action in ACTIONS.items()}


class Beating:
    """An agent's heartbeats, one at a time, and what a reader hears of them."""

    def __init__(self, agent: Bus, reader: Bus, interval: float) -> None:
        self.agent = agent
        self.reader = reader
        self.able: ActionSchemas | None = SCHEMAS
        self.heard: list[Msg] = []
        self.scheduler = HeartbeatScheduler(
            lambda: BEAT,
            lambda: self.able,
            lambda: 0,
            BusGateway(agent, A),
            interval=interval,
            timeout=10,
        )

    async def hear(self, message: Msg) -> None:
        self.heard.append(message)

    async def beat(self) -> ActionSchemas | None:
        """What the next one announces; only one that does is packed."""
        before = len(self.heard)
        await self.scheduler.beat()
        assert self.scheduler.last_error == ""
        await until(lambda: len(self.heard) > before)
        [message] = self.heard[before:]
        headers: Mapping[str, str] = message.headers or {}
        body = binding.decode(headers, message.data).data
        assert (b'"actions"' in body) == (headers.get("Content-Encoding") == "gzip")
        return Heartbeat.model_validate_json(body).actions

    async def reconnected(self) -> None:
        """Until there are new connections."""
        await self.agent.wait_connected()
        await self.reader.wait_connected()


@pytest.fixture
async def beating(bus: Connect, request: pytest.FixtureRequest) -> Beating:
    """With the interval SHORT, or the one that the test asks for."""
    made = Beating(await bus(A.durable), await bus("reader"), getattr(request, "param", SHORT))
    await made.reader.tap(subjects.heartbeat(A), made.hear)
    return made


async def stopped(broker: RunningBroker, beating: Beating) -> None:
    """Until nobody is connected any more."""
    await broker.broker.stop()
    await until(lambda: not beating.agent.connected and not beating.reader.connected)


async def test_the_first_one_announces_and_then_one_of_forty(
    own_broker: RunningBroker, beating: Beating
) -> None:
    """Those between are as small as they were."""
    said = [await beating.beat() for _ in range(2 * ANNOUNCED_EACH + 2)]
    announcing = [number for number, actions in enumerate(said) if actions is not None]
    assert announcing == [0, ANNOUNCED_EACH, 2 * ANNOUNCED_EACH]
    assert said[0] == said[ANNOUNCED_EACH] == SCHEMAS
    plain = BEAT.model_dump_json().encode()
    assert {message.data for number, message in enumerate(beating.heard) if said[number] is None} == {plain}


async def test_a_new_connection_is_told_again(own_broker: RunningBroker, beating: Beating) -> None:
    """Once: who is behind it may be somebody else, or know less than before."""
    assert [await beating.beat() for _ in range(3)] == [SCHEMAS, None, None]
    await stopped(own_broker, beating)
    await own_broker.broker.start()
    await beating.reconnected()
    assert [await beating.beat() for _ in range(3)] == [SCHEMAS, None, None]


async def test_one_that_did_not_go_out_has_told_nobody(own_broker: RunningBroker, beating: Beating) -> None:
    """The next one announces in its place."""
    beating.able = None
    await beating.beat()
    beating.able = SCHEMAS
    await stopped(own_broker, beating)
    await beating.scheduler.beat()
    assert beating.scheduler.last_error
    await own_broker.broker.start()
    await beating.reconnected()
    assert [await beating.beat() for _ in range(2)] == [SCHEMAS, None]


async def test_what_has_changed_is_told(own_broker: RunningBroker, beating: Beating) -> None:
    """Rights come and go; one that does not know yet what it can do, or stands by, says nothing of it."""
    some = {name: SCHEMAS[name] for name in list(SCHEMAS)[:1]}
    told = []
    for able in (None, None, SCHEMAS, SCHEMAS, some, some, {}, {}, None, some):
        beating.able = able
        told.append(await beating.beat())
    assert told == [None, None, SCHEMAS, None, some, None, {}, None, None, some]


@pytest.mark.parametrize("beating", [LONG], indirect=True)
async def test_early_ones_repeat_it(own_broker: RunningBroker, beating: Beating) -> None:
    """The stream keeps the last one only: news at the start do not hide what was announced before them."""
    assert [await beating.beat() for _ in range(3)] == [SCHEMAS] * 3
