"""When an agent counts as stale or lost: by the broker's clock, and never over a gap in it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import kubernetes
from schemas.presence import Collection, Health, Heartbeat
from services.persistence import queries
from services.persistence.database.engine import Database
from services.persistence.presence.liveness import AgentState, Beat, advance, agent_state
from services.persistence.presence.rivals import Rival
from services.persistence.presence.store import Sign, store_signs
from services.persistence.state.applier import FrameApplier
from tests.persistence.frames import START, FrameSource, Log


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (0, AgentState.LIVE),
        (16, AgentState.LIVE),
        (31, AgentState.LIVE),
        (32, AgentState.STALE),
        (45, AgentState.STALE),
        (45.1, AgentState.LOST),
        (50, AgentState.LOST),
    ],
)
def test_state_by_age(age: float, state: AgentState) -> None:
    """At an interval of 15 s: stale after two missed heartbeats, lost after three."""
    assert agent_state(at(0), 15, at(age), at(-100)) is state


def test_lost_is_shown_within_50_seconds() -> None:
    """With a beat every 5 s, in any phase, the first beat that shows the loss comes at 50 s at the latest."""
    for phase in range(5):
        beats = (at(phase + 5 * number) for number in range(30))
        shown = next(now for now in beats if agent_state(at(0), 15, now, at(-100)) is AgentState.LOST)
        assert shown <= at(50)


def test_an_agent_that_said_goodbye_is_stopping_then_lost() -> None:
    assert agent_state(at(0), 15, at(40), at(-100), stopping=True) is AgentState.STOPPING
    assert agent_state(at(0), 15, at(46), at(-100), stopping=True) is AgentState.LOST


def test_no_verdict_over_a_gap() -> None:
    """After an hour in which the master's own beats are missing too, agents get their three intervals."""
    latest, since = advance((at(0), at(-100)), [Beat(at(3600), 5)])
    assert (latest, since) == (at(3600), at(3600))
    assert agent_state(at(-3), 15, latest, since) is AgentState.LIVE
    later, since = advance((latest, since), [Beat(at(3600 + 5 * number), 5) for number in range(1, 11)])
    assert agent_state(at(-3), 15, later, since) is AgentState.LOST


def test_faster_master_that_joins_is_no_gap() -> None:
    """One master beats each 60 s, another each 5: no moment between them counts as one without a clock. What
    both have missed does.
    """
    slow = [Beat(at(second), 60) for second in (0, 60, 120, 180)]
    fast = [Beat(at(second), 5) for second in range(100, 140, 5)]
    beats = sorted([*slow, *fast], key=lambda beat: beat.time)
    assert advance(None, beats) == (at(180), at(0))
    for cut in range(1, len(beats)):
        before = advance(None, beats[:cut])
        assert advance(before, beats[cut - 1 :]) == (at(180), at(0))
    assert advance(None, [*beats, Beat(at(361), 5)]) == (at(361), at(361))


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=30), st.integers(0, 30))
def test_clock_depends_on_the_beats_not_on_their_batches(times: list[float], cut: int) -> None:
    """It is the same however the beats were fetched, and never far from the last one."""
    beats = [Beat(at(seconds), 5) for seconds in times]
    whole = advance(None, beats)
    if 0 < cut < len(beats):
        assert advance(advance(None, beats[:cut]), beats[cut:]) == whole
    assert timedelta(0) <= whole[0] - beats[-1].time <= timedelta(seconds=15)
    assert whole[1] <= whole[0]


def test_a_beat_that_is_a_little_late_does_nothing() -> None:
    assert advance((at(100), at(0)), [Beat(at(90), 5)]) == (at(100), at(0))


def heartbeat(**fields: object) -> Heartbeat:
    health = Health(healthy=True, status="running", start_time=datetime(2026, 11, 1, tzinfo=UTC))
    return Heartbeat.model_validate({"version": "1", "interval": 15, "health": health} | fields)


async def test_agents_are_judged_by_the_stored_clock(db: Database) -> None:
    """The database shows an agent's last heartbeat and the state that follows from the master's beats."""
    target = kubernetes("c1")
    beats = [Beat(at(5 * number), 5) for number in range(8)]
    await store_signs(db, [Sign(target, heartbeat(instance="uid"), at(0))], beats, Log().cursor)
    async with db.read() as connection:
        (status,) = (await queries.list_agents(connection, limit=10)).items
    assert (status.state, status.last_seen) == (AgentState.STALE, at(0))
    assert status.heartbeat is not None
    assert status.heartbeat.instance == "uid"
    await store_signs(db, [], [Beat(at(50), 5)], Log().cursor)
    async with db.read() as connection:
        status = await queries.get_agent(connection, target) or status
        assert await queries.get_agent(connection, kubernetes("c2")) is None
    assert status.state is AgentState.LOST


async def test_late_heartbeat_does_not_overwrite_a_newer_one(db: Database) -> None:
    """A repeat of an earlier message leaves the newer one in place."""
    target = kubernetes("c1")
    await store_signs(db, [Sign(target, heartbeat(version="2"), at(30))], [], Log().cursor)
    await store_signs(db, [Sign(target, heartbeat(version="1"), at(15))], [], Log().cursor)
    async with db.read() as connection:
        status = await queries.get_agent(connection, target)
    assert status is not None
    assert status.heartbeat is not None
    assert (status.heartbeat.version, status.last_seen) == ("2", at(30))


async def test_the_brokers_clock_may_be_set_back(db: Database) -> None:
    """By an hour: who beats on is live, with what it says now; who does not is lost as soon as ever."""
    alive, silent, log = kubernetes("c1"), kubernetes("c2"), Log()
    both = [Sign(target, heartbeat(version="1"), at(3600)) for target in (alive, silent)]
    await store_signs(db, both, [Beat(at(3600), 5)], log.cursor)
    found = {}
    for second in range(0, 65, 5):
        signs = [] if second % 15 else [Sign(alive, heartbeat(version="2"), at(second))]
        await store_signs(db, signs, [Beat(at(second), 5)], log.cursor)
        async with db.read() as connection:
            agents = {item.target: item for item in (await queries.list_agents(connection, limit=10)).items}
        found[second] = [agents[target].state for target in (alive, silent)]
    assert {states[0] for states in found.values()} == {AgentState.LIVE}
    assert [found[second][1] for second in (0, 30, 35, 45, 50)] == [
        *(AgentState.LIVE, AgentState.LIVE),
        *(AgentState.STALE, AgentState.STALE, AgentState.LOST),
    ]
    said = agents[alive].heartbeat
    assert said is not None
    assert (said.version, agents[alive].last_seen) == ("2", at(60))


class Fleet:
    """One id, whose state was begun by the agent `owner` in epoch e2 after e1; its clock runs."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.target = kubernetes("c1")
        self.now = 0.0
        log, source = Log(), FrameSource()
        frames = [source.begin(epoch, "uid-1") for epoch in ("e1", "e2")]
        self.frames = [log.receive(self.target, frame) for frame in frames]
        self.cursor = log.cursor

    async def begin(self) -> None:
        applier = FrameApplier(self.db, self.target.shard)
        await applier.apply(self.frames, self.cursor)

    async def beat(self, at_second: float, **fields: object) -> list[Rival]:
        """One heartbeat, after the master's own up to that moment."""
        beats = [Beat(at(second), 5) for second in range(0, int(at_second) + 1, 5)]
        sign = Sign(self.target, beat_of(**fields), at(at_second))
        return await store_signs(self.db, [sign], beats, self.cursor)

    async def status(self) -> queries.AgentStatus:
        async with self.db.read() as connection:
            status = await queries.get_agent(connection, self.target)
        assert status is not None
        return status


def beat_of(
    *, run: int = 1, status: str = "running", epoch: str = "e2", instance: str = "uid-1", interval: float = 15
) -> Heartbeat:
    """The heartbeat of an agent's nth run."""
    start_time = datetime(2026, 11, 1, run, tzinfo=UTC)
    health = Health(healthy=True, status=status, start_time=start_time)
    return Heartbeat(version="1", epoch=epoch, instance=instance, interval=interval, health=health)


@pytest.fixture
async def fleet(db: Database) -> Fleet:
    fleet = Fleet(db)
    await fleet.begin()
    await fleet.beat(10)
    return fleet


@pytest.mark.parametrize(
    ("fields", "standing_by"),
    [
        ({"status": "standby", "epoch": "e1"}, True),
        ({"status": "standby", "epoch": "replaced so long ago that nobody knows"}, True),
        ({"epoch": "e1"}, False),
        ({"epoch": "e9", "instance": "uid-2"}, False),
        ({"epoch": "", "instance": "uid-2"}, False),
    ],
)
async def test_rival_does_not_hide_the_agent_that_serves(
    fleet: Fleet, fields: dict[str, str], standing_by: bool
) -> None:
    """Who stands by, is in a replaced epoch, or comes from another cluster, is noted beside the owner."""
    [rival] = await fleet.beat(20, run=2, **fields)
    assert (rival.standing_by, rival.may_serve, rival.winner) == (standing_by, False, "e2")
    assert rival.winner_instance == "uid-1"
    status = await fleet.status()
    assert status.last_seen == at(10)
    assert status.heartbeat is not None
    assert status.heartbeat.instance == "uid-1"
    assert status.rival is not None
    assert status.rival.seen == at(20)
    assert await fleet.beat(25) == []
    status = await fleet.status()
    assert (status.last_seen, status.rival is not None) == (at(25), True)


async def test_rival_is_forgotten_when_it_is_silent_or_says_goodbye(fleet: Fleet) -> None:
    """It is shown for three of its intervals, or until it stops."""
    await fleet.beat(20, run=2, status="standby", epoch="e1")
    await fleet.beat(60)
    assert (await fleet.status()).rival is not None
    await fleet.beat(70)
    assert (await fleet.status()).rival is None
    await fleet.beat(75, run=2, status="standby", epoch="e1")
    assert (await fleet.status()).rival is not None
    await fleet.beat(76, run=2, status="stopping", epoch="e1")
    status = await fleet.status()
    assert (status.rival, status.state) == (None, AgentState.LIVE)


async def test_rival_is_called_when_the_owner_is_lost(fleet: Fleet) -> None:
    """Three intervals after the owner's last sign, by the broker's clock, who stands by is to serve."""
    for second, called in ((30, False), (50, False), (65, True)):
        [rival] = await fleet.beat(second, run=2, status="standby", epoch="e1")
        assert rival.may_serve is called
    [rival] = await fleet.beat(70, run=2, epoch="e9", instance="uid-2")
    assert rival.may_serve


async def test_goodbye_hands_the_id_to_the_same_cluster_only(fleet: Fleet) -> None:
    """A clean stop calls who stands by at once; a stranger would take the id at each restart of its owner."""
    await fleet.beat(20, status="stopping")
    [rival] = await fleet.beat(21, run=2, status="standby", epoch="e1")
    assert rival.may_serve
    [rival] = await fleet.beat(22, run=3, status="standby", epoch="e9", instance="uid-2")
    assert not rival.may_serve
    assert (await fleet.status()).state is AgentState.STOPPING


async def test_frames_are_a_sign_of_life_too(fleet: Fleet) -> None:
    """Who has begun and not beaten yet is there: a second agent that stands by is not called as well."""
    await fleet.beat(60, run=2, status="standby", epoch="e1")
    log, source = Log(sequence=70), FrameSource()
    begun = log.receive(fleet.target, source.begin("e3", "uid-1"))
    await FrameApplier(fleet.db, fleet.target.shard).apply([begun], log.cursor)
    [rival] = await fleet.beat(75, run=3, status="standby", epoch="e2")
    assert (rival.may_serve, rival.winner) == (False, "e3")


async def test_goodbye_of_another_is_not_the_owner_s(fleet: Fleet) -> None:
    """An agent that never served, and stops, leaves the state of the one that serves alone."""
    for epoch in ("", "unheard", "e1"):
        await fleet.beat(20, run=2, status="stopping", epoch=epoch)
    assert (await fleet.status()).state is AgentState.LIVE


async def test_agent_that_has_not_begun_is_shown_only_where_nobody_serves(fleet: Fleet) -> None:
    """One that cannot start tells why, unless that would hide an agent that does serve."""
    await fleet.beat(20, run=2, status="starting", epoch="", instance="")
    assert (await fleet.status()).last_seen == at(10)
    await fleet.beat(21, status="stopping")
    await fleet.beat(25, run=2, status="starting", epoch="", instance="")
    assert (await fleet.status()).last_seen == at(25)


async def test_new_epoch_of_the_same_agent_is_no_rival(fleet: Fleet) -> None:
    """A heartbeat that names the epoch before, or one whose begin is still unread, is the agent's own."""
    assert await fleet.beat(20, epoch="e1") == []
    assert await fleet.beat(25, epoch="e3") == []
    assert (await fleet.status()).last_seen == at(25)


async def test_own_clocks_of_agents_do_not_matter(db: Database) -> None:
    """Times that a heartbeat brings along, hours off in whatever direction, change no verdict."""
    for name, hours in (("slow", -1), ("fast", 1)):
        off = datetime(2026, 11, 1, 12, tzinfo=UTC) + timedelta(hours=hours)
        health = Health(healthy=True, status="running", start_time=off)
        said = Collection(resource="pods", state="synced", last_event_at=off)
        body = Heartbeat(version="1", interval=15, health=health, collection=[said])
        await store_signs(db, [Sign(kubernetes(name), body, at(0))], [Beat(at(0), 5)], Log().cursor)
    for second, state in ((30, AgentState.LIVE), (40, AgentState.STALE), (50, AgentState.LOST)):
        beats = [Beat(at(moment), 5) for moment in range(0, second + 1, 5)]
        await store_signs(db, [], beats, Log().cursor)
        async with db.read() as connection:
            page = await queries.list_agents(connection, limit=10)
        assert {status.state for status in page.items} == {state}


async def test_without_a_clock_nobody_is_lost(db: Database) -> None:
    """Before the first beat of a master there is no present to judge by."""
    await store_signs(db, [Sign(kubernetes("c1"), heartbeat(), at(0))], [], Log().cursor)
    async with db.read() as connection:
        (status,) = (await queries.list_agents(connection, limit=10)).items
    assert status.state is AgentState.LIVE
