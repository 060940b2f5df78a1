"""Reading the rows: lists and pages, one object, agents, counts, dead letters."""

from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest

from schemas.deadletter import DeadLetter
from schemas.frames import Frame
from schemas.ids import Target, kubernetes
from services.persistence import dead_letters, queries
from services.persistence.database.engine import Connection, Database
from services.persistence.dead_letters import ReceivedDeadLetter
from services.persistence.presence.store import Sign, store_signs
from services.persistence.queries import BadContinue, ResourceFilter, paging
from services.persistence.state.applier import FrameApplier
from tests.persistence.frames import START, FrameSource, Log, apply_all, body_of
from tests.persistence.test_presence import heartbeat


async def fill(db: Database, *sources: FrameSource) -> None:
    """Each agent's whole state, in an epoch of its own."""
    log, applier = Log(), FrameApplier(db, 0)
    for source in sources:
        frames: list[Frame] = [source.begin(f"epoch-{source.target.id}"), *source.all(), source.digest()]
        await apply_all(applier, [log.receive(source.target, frame) for frame in frames], log.cursor)


def cluster(name: str, pods: int) -> FrameSource:
    source = FrameSource(kubernetes(name))
    for number in range(pods):
        namespace = f"ns-{number % 3}"
        body = body_of(f"p{number}", namespace, nodeName=f"node-{number % 2}", containers=[{"name": "c"}])
        source.held["pods", namespace, f"p{number}"] = body
    return source


@pytest.fixture
async def connection(db: Database) -> AsyncIterator[Connection]:
    await fill(db, cluster("a", 10), cluster("b", 7))
    async with db.read() as connection:
        yield connection


def keys(items: list[bytes]) -> list[tuple[str, str, str]]:
    decoded = [msgspec.json.decode(item) for item in items]
    return [(item["cluster"], item["namespace"], item["name"]) for item in decoded]


@pytest.mark.parametrize("targets", [None, (kubernetes("a"),), (kubernetes("a"), kubernetes("b"))])
@pytest.mark.parametrize("keyed", [paging.KEYED, 0])
async def test_pages_are_the_list(
    connection: Connection, targets: tuple[Target, ...] | None, keyed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of any size, one after the other, are the whole list in order, and say how much is left."""
    monkeypatch.setattr(paging, "KEYED", keyed)
    where = ResourceFilter(resource="pods", targets=targets)
    whole = await queries.list_resources(connection, where, limit=1000)
    assert (whole.continue_, whole.remaining) == ("", 0)
    assert keys(whole.items) == sorted(keys(whole.items))
    for limit in (1, 3, 10, 17):
        items: list[bytes] = []
        continue_, left = "", None
        while left is None or continue_:
            page = await queries.list_resources(connection, where, limit=limit, continue_=continue_)
            items += page.items
            continue_, left = page.continue_, page.remaining
            assert left == len(whole.items) - len(items)
        assert items == whole.items


async def test_filters(connection: Connection) -> None:
    """Cluster, namespace and node narrow a list; what does not exist is an empty list."""

    async def count(**where: object) -> int:
        filter_ = ResourceFilter(resource="pods", **where)  # type: ignore[arg-type]
        return len((await queries.list_resources(connection, filter_, limit=100)).items)

    assert await count() == 17
    assert await count(targets=(kubernetes("b"),)) == 7
    assert await count(targets=()) == 0
    assert await count(namespace="ns-0") == 7
    assert await count(namespace="") == 0
    assert await count(node="node-1", targets=(kubernetes("a"),)) == 5
    assert await count(owner=("ReplicaSet", "none")) == 0


async def test_continue_of_another_query_is_refused(connection: Connection) -> None:
    """A `continue` is bound to its query, and nonsense is told from an empty page."""
    where = ResourceFilter(resource="pods")
    page = await queries.list_resources(connection, where, limit=2)
    other = ResourceFilter(resource="pods", namespace="ns-0")
    for query, continue_ in [
        (other, page.continue_),
        (where, "nonsense"),
        (where, "%%%"),
        (where, page.continue_[:-4]),
        (where, "bnVsbA"),
        (where, "Ünicode"),
    ]:
        with pytest.raises(BadContinue):
            await queries.list_resources(connection, query, limit=2, continue_=continue_)


async def test_full_view_adds_the_projection(connection: Connection) -> None:
    """`full` puts the object's own bytes into the item."""
    where = ResourceFilter(resource="pods", targets=(kubernetes("a"),))
    page = await queries.list_resources(connection, where, limit=1, full=True)
    item = msgspec.json.decode(page.items[0])
    assert item["object"]["metadata"]["name"] == item["name"] == "p0"


async def test_one_object(connection: Connection) -> None:
    """Found by its key, with its bytes and when it last changed; None for what is not there."""
    stored = await queries.get_resource(connection, kubernetes("a"), "pods", "ns-1", "p1")
    assert stored is not None
    assert msgspec.json.decode(stored.body)["metadata"]["name"] == "p1"
    assert stored.updated_at > START
    assert await queries.get_resource(connection, kubernetes("a"), "pods", "ns-2", "p1") is None


async def test_an_object_whose_agent_sent_no_json_cannot_break_an_answer(db: Database) -> None:
    """What a part-wise object turns out to be is checked: every item of every answer is JSON."""
    source = cluster("a", 0)
    source.held["pods", "default", "broken"] = b'{"metadata":{"name":"broken"},"status":"x"}'
    await fill(db, source)
    async with db.read() as connection:
        page = await queries.list_resources(connection, ResourceFilter(resource="pods"), limit=10, full=True)
    item = msgspec.json.decode(page.items[0])
    assert (item["name"], item["cluster"], item["object"]["status"]) == ("broken", "a", "x")


async def test_summaries_are_counted_from_the_rows(connection: Connection) -> None:
    counted = await queries.summaries(connection, [kubernetes("a"), kubernetes("b"), kubernetes("none")])
    assert counted[kubernetes("a")].pods == {"Running": 10}
    assert counted[kubernetes("none")].pods == {}


async def test_agent_status_joins_what_it_says_and_what_we_hold(db: Database) -> None:
    """A resource that the agent calls synced is `listing` until its rows are complete here too."""
    source = cluster("a", 1)
    await fill(db, source)
    said = [
        {"resource": "pods", "state": "synced", "objects": 1},
        {"resource": "widgets.example.com", "state": "synced"},
        {"resource": "secrets", "state": "forbidden", "reason": "secrets is forbidden"},
    ]
    await store_signs(db, [Sign(source.target, heartbeat(collection=said), START)], [], Log().cursor)
    async with db.read() as connection:
        (status,) = (await queries.list_agents(connection, limit=10)).items
    assert {entry.resource: (entry.state, entry.synced_at is not None) for entry in status.collection} == {
        "nodes": ("listing", True),
        "pods": ("synced", True),
        "secrets": ("forbidden", False),
        "widgets.example.com": ("listing", False),
    }
    assert (status.version, status.in_sync, status.resync_reason) == (4, True, "")


async def test_in_sync_awaits_all_that_can_be_collected(db: Database) -> None:
    """A kind that is still listed makes an agent not in sync, one that it calls forbidden does not.

    Readers and the one that applies the frames are of one opinion.
    """
    log, applier, source = Log(), FrameApplier(db, 0), FrameSource(resources=("pods", "secrets"))

    async def apply(*frames: Frame) -> tuple[bool, bool]:
        report = await applier.apply([log.receive(source.target, frame) for frame in frames], log.cursor)
        async with db.read() as connection:
            (status,) = (await queries.list_agents(connection, limit=10)).items
        return report.frames[-1].in_sync, status.in_sync

    async def say(state: str) -> None:
        log.sequence += 1
        time = START + timedelta(seconds=log.sequence)
        said = [{"resource": "pods", "state": "synced"}, {"resource": "secrets", "state": state}]
        await store_signs(db, [Sign(source.target, heartbeat(collection=said), time)], [], log.cursor)

    await say("listing")
    begin = source.begin("e1")
    source.resources = ("pods",)
    assert await apply(begin, source.put("a"), source.synced(), source.digest()) == (False, False)
    await say("forbidden")
    assert await apply(source.digest()) == (True, True)
    source.held["pods", "default", "unsent"] = body_of("unsent")
    assert await apply(source.digest()) == (False, False)


async def test_dead_letters_are_kept_once(db: Database) -> None:
    """A letter that is delivered again stays one row; lists leave its body out, one of them has it."""
    letter = DeadLetter.model_construct(
        reason="not JSON",
        consumer="master",
        subject="atlhyper.up.kubernetes.a.heartbeat",
        stream="S",
        stream_sequence=4,
        received_at=START,
        headers={"ce-id": "1"},
        body=b"\x00\xff",
    )
    received = [
        ReceivedDeadLetter(
            id=f"l{number}", received_at=START, sender="/atlhyper/core/master/m", letter=letter
        )
        for number in range(3)
    ]
    await dead_letters.store(db, received)
    await dead_letters.store(db, received)
    async with db.read() as connection:
        page = await queries.list_dead_letters(connection, limit=2)
        assert (len(page.items), page.remaining, page.as_of) == (2, 1, START)
        rest = await queries.list_dead_letters(connection, limit=2, continue_=page.continue_)
        assert [msgspec.json.decode(item)["id"] for item in page.items + rest.items] == ["l2", "l1", "l0"]
        assert "body" not in msgspec.json.decode(page.items[0])
        one = msgspec.json.decode(await queries.get_dead_letter(connection, "l0") or b"")
        assert (one["body"], one["reason"], one["headers"]) == ("AP8=", "not JSON", {"ce-id": "1"})
        assert await queries.get_dead_letter(connection, "none") is None
