"""Kubernetes Events: one row each, with the newest version, however the versions arrive."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ContractError
from schemas.kubernetes.event import KubernetesEvent
from services.persistence import queries, retention
from services.persistence.cursors import CursorStore
from services.persistence.database.engine import Database
from services.persistence.events.store import ObservedEvent, store_events
from services.persistence.queries import EventFilter
from tests.persistence.conftest import PATIENT, UNHURRIED
from tests.persistence.frames import START, Log


def observed(
    uid: str = "u1",
    *,
    count: int = 1,
    seconds: int = 0,
    sequence: int = 1,
    cluster: str = "c1",
    epoch: str = "e1",
    **fields: object,
) -> ObservedEvent:
    """One version of an Event; what makes it newer are `count`, then `seconds`, then `sequence`."""
    seen = (START + timedelta(seconds=seconds)).isoformat()
    document = {
        "metadata": {"name": f"event-{uid}", "namespace": "default", "uid": uid},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "p1"},
        "type": "Warning",
        "reason": "BackOff",
        "message": f"version {count} {seconds} {sequence}",
        "firstTimestamp": START.isoformat(),
        "lastTimestamp": seen,
        "count": count,
        "source": {"component": "kubelet", "host": "node-1"},
    } | fields
    return ObservedEvent(cluster, KubernetesEvent.decode(msgspec.json.encode(document)), epoch, sequence)


async def stored(db: Database, **where: object) -> list[dict[str, object]]:
    async with db.read() as connection:
        page = await queries.list_events(connection, EventFilter(**where), limit=1000)  # type: ignore[arg-type]
    return [msgspec.json.decode(item) for item in page.items]


async def test_row_has_the_contract_s_shape(db: Database) -> None:
    """A row is the Event as the API promises it, keyed by cluster and uid."""
    await store_events(db, [observed(count=3, seconds=60)], Log().cursor)
    assert await stored(db) == [
        {
            "cluster_id": "c1",
            "uid": "u1",
            "namespace": "default",
            "name": "event-u1",
            "type": "Warning",
            "reason": "BackOff",
            "message": "version 3 60 1",
            "count": 3,
            "first_seen": "2026-11-01T00:00:00Z",
            "last_seen": "2026-11-01T00:01:00Z",
            "involved": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "p1"},
            "component": "kubelet",
            "host": "node-1",
        }
    ]


VERSIONS = st.lists(
    st.builds(
        observed,
        st.sampled_from(["u1", "u2"]),
        count=st.integers(1, 4),
        seconds=st.integers(0, 3),
        sequence=st.integers(1, 50),
        epoch=st.sampled_from(["e1", "e2"]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda item: (item.event.metadata.uid, item.epoch, item.sequence),
)


@pytest.mark.timeout(180)  # each example has a database of its own
@settings(UNHURRIED, max_examples=60)
@given(versions=VERSIONS, order=st.randoms(use_true_random=False), size=st.integers(1, 5))
def test_rows_do_not_depend_on_the_order_of_arrival(
    new_url: Callable[[], str], versions: list[ObservedEvent], order: object, size: int
) -> None:
    """Versions late, twice and shuffled, in any batches, give the row of the newest; counts never fall."""

    async def run() -> None:
        arriving = versions * 2
        order.shuffle(arriving)  # type: ignore[attr-defined]
        async with Database(new_url(), limits=PATIENT) as db:
            highest: dict[object, int] = {}
            for start in range(0, len(arriving), size):
                await store_events(db, arriving[start : start + size], Log().cursor)
                for row in await stored(db):
                    assert isinstance(row["count"], int)
                    assert row["count"] >= highest.get(row["uid"], 0)
                    highest[row["uid"]] = row["count"]
            expected = {}
            for uid in {item.event.metadata.uid for item in versions}:
                newest = max(
                    (item for item in versions if item.event.metadata.uid == uid),
                    key=lambda item: (item.event.count, item.event.last_seen, item.epoch, item.sequence),
                )
                expected[uid] = newest.event.message
            assert {row["uid"]: row["message"] for row in await stored(db)} == expected

    asyncio.run(run())


async def test_every_permutation_of_three_versions(db: Database) -> None:
    """The three forms a version is newer by, in all six orders, end in the same row."""
    versions = [observed(count=2), observed(count=2, seconds=9), observed(count=3, seconds=1)]
    for number, some in enumerate(itertools.permutations(versions)):
        await store_events(
            db,
            [ObservedEvent(f"c{number}", item.event, item.epoch, item.sequence) for item in some],
            Log().cursor,
        )
    assert {row["message"] for row in await stored(db)} == {"version 3 1 1"}


async def test_uids_of_two_clusters_do_not_meet(db: Database) -> None:
    """The same uid in another cluster is another Event."""
    await store_events(db, [observed(cluster="a"), observed(cluster="b", count=9)], Log().cursor)
    assert [row["count"] for row in await stored(db, clusters=("a",))] == [1]


async def test_new_style_events_are_read_by_their_series(db: Database) -> None:
    """events.k8s.io leaves count and lastTimestamp empty: its series says how often and when."""
    fields = {
        "firstTimestamp": None,
        "lastTimestamp": None,
        "count": 0,
        "eventTime": "2026-11-01T00:00:05.123456Z",
        "series": {"count": 7, "lastObservedTime": "2026-11-01T00:09:00.5Z"},
    }
    await store_events(db, [observed(**fields)], Log().cursor)
    (row,) = await stored(db)
    assert (row["count"], row["last_seen"]) == (7, "2026-11-01T00:09:00.500000Z")


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"name": "x"}},
        {"metadata": {"name": "x", "uid": "u"}, "firstTimestamp": None, "lastTimestamp": None},
        {"count": 2**63},
        {"lastTimestamp": "0001-01-01T00:00:00+14:00"},
    ],
)
async def test_what_cannot_be_a_row_is_refused_and_stores_nothing(
    db: Database, fields: dict[str, object]
) -> None:
    """Without identity, time or a countable count it breaks the contract; its batch is not half stored."""
    with pytest.raises(ContractError):
        await store_events(db, [observed("good"), observed(**fields)], Log(sequence=5).cursor)
    assert await stored(db) == []
    assert await CursorStore(db).load("test", "FRAMES") is None


async def test_filters_and_pages(db: Database) -> None:
    """Filters narrow, pages follow each other without loss or repeat, newest first, and say what is left."""
    await store_events(
        db,
        [
            observed(f"u{number}", seconds=number // 2, cluster=f"c{number % 2}", reason=f"R{number % 3}")
            for number in range(20)
        ],
        Log().cursor,
    )
    seen: list[object] = []
    continue_ = ""
    async with db.read() as connection:
        for left in (13, 6, 0):
            page = await queries.list_events(connection, EventFilter(), limit=7, continue_=continue_)
            assert page.remaining == left
            seen += [msgspec.json.decode(item)["last_seen"] for item in page.items]
            continue_ = page.continue_
    assert continue_ == ""
    assert len(seen) == 20
    assert seen == sorted(seen, key=str, reverse=True)
    assert len(await stored(db, reason="R1")) == 7
    assert len(await stored(db, clusters=("c1",), name="web-1", kind="Pod", namespace="default")) == 10
    assert len(await stored(db, q="VERSION 1 3")) == 2
    assert len(await stored(db, q="100%")) == 0
    between = {"since": at(2), "until": at(4)}
    assert {str(row["last_seen"])[-3:] for row in await stored(db, **between)} == {"02Z", "03Z"}


async def test_old_events_are_forgotten(db: Database) -> None:
    """What was last seen before the retention goes, in steps, and nothing else."""
    await store_events(db, [observed(f"u{number}", seconds=number) for number in range(1200)], Log().cursor)
    keep = retention.Keep(rows=timedelta(seconds=60), tombstones=timedelta(hours=1))
    assert await retention.forget(db, keep, now=at(1160)) == 1100
    assert len(await stored(db)) == 100


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)
