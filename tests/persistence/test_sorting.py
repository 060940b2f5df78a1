"""Lists in the order of any column, page by page, while rows come, go and change."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frames import Frame
from schemas.ids import kubernetes
from schemas.kubernetes import KINDS
from services.persistence import queries
from services.persistence.database.engine import Connection, Database
from services.persistence.queries import BadContinue, ResourceFilter, UnknownColumn
from services.persistence.queries.sorting import LENGTH
from services.persistence.state.applier import FrameApplier
from tests.persistence.conftest import PATIENT, UNHURRIED
from tests.persistence.frames import FrameSource, Log, apply_all

PODS = ResourceFilter(resource="pods")
CLUSTERS = ("a", "b")
SORTS = ("restarts", "-restarts", "status", "-status", "created_at", "-created_at", "-node", "owner")
SORTS += ("cluster", "-namespace", "name", "-uid", "ip", "")


class Writer:
    """Two clusters whose pods change, a commit at a time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._log = Log()
        self._sources = {name: FrameSource(kubernetes(name)) for name in CLUSTERS}
        self._appliers = {
            name: FrameApplier(db, source.target.shard) for name, source in self._sources.items()
        }

    async def start(self) -> None:
        for name, source in self._sources.items():
            await self._apply(name, [source.begin("e"), *source.all()])

    async def write(self, cluster: str, name: str, variant: int | None) -> None:
        """A pod of the variant; None: it goes."""
        source = self._sources[cluster]
        frame = source.delete(name) if variant is None else source.put(name, pod(name, variant))
        await self._apply(cluster, [frame])

    async def _apply(self, cluster: str, frames: Iterable[Frame]) -> None:
        received = [self._log.receive(kubernetes(cluster), frame) for frame in frames]
        await apply_all(self._appliers[cluster], received, self._log.cursor)


def pod(name: str, variant: int) -> bytes:
    """One of a few contents, with ties, gaps, and texts that languages sort in other orders."""
    created = {} if variant % 3 == 0 else {"creationTimestamp": f"2026-11-0{variant % 3}T00:00:00Z"}
    status = {
        "phase": ("Running", "running", "Ärger", "", "Z" * (LENGTH + 50), "a\0b", "_%")[variant % 7],
        "podIP": f"10.0.0.{variant}",
        "containerStatuses": [{"name": "c", "restartCount": (variant * 7) % 12}],
    }
    return msgspec.json.encode(
        {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", **created},
            "spec": {"nodeName": f"node-{variant % 2}" if variant % 4 else "", "containers": [{"name": "c"}]},
            "status": status,
        }
    )


NAMES = [f"p{number:02}" for number in range(9)]
WRITE = st.tuples(st.sampled_from(CLUSTERS), st.sampled_from(NAMES), st.one_of(st.none(), st.integers(0, 13)))


@pytest.mark.timeout(180)  # each example has a database of its own
@settings(UNHURRIED, max_examples=12)
@given(
    before=st.lists(WRITE, min_size=8, max_size=25),
    between=st.lists(st.lists(WRITE, max_size=3), max_size=8),
    sort=st.sampled_from(SORTS),
    limit=st.integers(1, 4),
)
def test_a_row_that_does_not_change_is_on_one_page(
    new_url: Callable[[], str], before: list[Any], between: list[list[Any]], sort: str, limit: int
) -> None:
    """Whatever is inserted, deleted or changed between two pages: what stayed as it was is there once."""

    async def run() -> None:
        async with Database(new_url(), limits=PATIENT) as db:
            writer = Writer(db)
            await writer.start()
            there: dict[tuple[str, str], int] = {}
            for cluster, name, variant in before:
                await writer.write(cluster, name, variant)
                there.pop((cluster, name), None)
                if variant is not None:
                    there[cluster, name] = variant
            touched: set[tuple[str, str]] = set()
            seen: list[tuple[str, str]] = []
            token = ""
            for step in itertools.count():
                async with db.read() as connection:
                    page = await queries.list_resources(
                        connection, PODS, sort=sort, limit=limit, continue_=token
                    )
                seen += [(row["cluster"], row["name"]) for row in map(msgspec.json.decode, page.items)]
                if not (token := page.continue_):
                    break
                for cluster, name, variant in between[step] if step < len(between) else ():
                    await writer.write(cluster, name, variant)
                    touched.add((cluster, name))
            steady = [key for key in seen if key not in touched]
            assert len(steady) == len(set(steady))
            assert set(steady) == there.keys() - touched

    asyncio.run(run())


async def test_every_column_of_every_kind_sorts(db: Database) -> None:
    """Each column that a row of any kind shows can be sorted by, both ways, on rows that have it or not."""
    source = FrameSource(kubernetes("a"), resources=tuple(KINDS))
    for resource in KINDS:
        for name in ("x", "y"):
            source.held[resource, "", name] = msgspec.json.encode({"metadata": {"name": name, "uid": name}})
        source.held[resource, "", "unreadable"] = b'{"metadata":{"name":1}}'
    log, applier = Log(), FrameApplier(db, source.target.shard)
    frames = [source.begin("e"), *source.all()]
    await apply_all(applier, [log.receive(source.target, frame) for frame in frames], log.cursor)
    async with db.read() as connection:
        for resource in [*KINDS, "widgets.example.com"]:
            where = ResourceFilter(resource=resource)
            with pytest.raises(UnknownColumn) as refusal:
                await queries.list_resources(connection, where, sort="no", limit=1)
            for column in refusal.value.known:
                for sort in (column, f"-{column}"):
                    names = await walked(connection, where, sort)
                    assert sorted(names) == (["unreadable", "x", "y"] if resource in KINDS else [])


async def walked(connection: Connection, where: ResourceFilter, sort: str) -> list[str]:
    """The names of a list, in pages of one."""
    names, token = [], ""
    while True:
        page = await queries.list_resources(connection, where, sort=sort, limit=1, continue_=token)
        names += [msgspec.json.decode(item)["name"] for item in page.items]
        token = page.continue_
        if not token:
            return names


def test_columns_without_a_value_have_a_known_type() -> None:
    """What an empty object has no value for is a time, unless it is known to be a number."""
    unknown = {
        name for kind in KINDS.values() for name, value in kind.model().columns().items() if value is None
    }
    assert unknown == {
        "first_seen",
        "last_seen",
        "started_at",
        "last_schedule",
        "duration_seconds",
        "min_pods",
    }


async def test_orders(db: Database) -> None:
    """Texts by code point, numbers by value, what is missing least; the key in the same direction."""
    writer = Writer(db)
    await writer.start()
    for number, variant in enumerate((0, 1, 2, 3, 4, 5, 12)):
        await writer.write("a", f"p{number}", variant)
    await writer.write("b", "p0", 0)

    async def rows(sort: str, column: str) -> list[Any]:
        async with db.read() as connection:
            page = await queries.list_resources(connection, PODS, sort=sort, limit=100)
        return [msgspec.json.decode(item)[column] for item in page.items]

    assert await rows("restarts", "restarts") == [0, 0, 0, 2, 4, 7, 9, 11]
    statuses = await rows("-status", "status")
    assert statuses == sorted(statuses, reverse=True)
    assert (
        await rows("created_at", "created_at")
        == [None] * 4 + ["2026-11-01T00:00:00Z"] * 2 + ["2026-11-02T00:00:00Z"] * 2
    )
    assert await rows("-cluster", "name") == ["p0", "p6", "p5", "p4", "p3", "p2", "p1", "p0"]


async def test_a_continue_of_another_order_is_refused(db: Database) -> None:
    """A place in one order is none in another; what is not of the column's type is no place at all."""
    writer = Writer(db)
    await writer.start()
    for number in range(3):
        await writer.write("a", f"p{number}", number)
    async with db.read() as connection:
        page = await queries.list_resources(connection, PODS, sort="restarts", limit=1)
        for sort in ("-restarts", "status", ""):
            with pytest.raises(BadContinue, match="another query"):
                await queries.list_resources(connection, PODS, sort=sort, limit=1, continue_=page.continue_)
        place = queries.paging.token((PODS, "restarts"), ["x", "kubernetes", "a", "default", "p0"])
        with pytest.raises(BadContinue, match="not one that was given out"):
            await queries.list_resources(connection, PODS, sort="restarts", limit=1, continue_=place)


def test_bodies_are_pods() -> None:
    """The test's own pods are read by the projection."""
    assert KINDS["pods"].decode(pod("p", 4)).columns()["restarts"] == 4
