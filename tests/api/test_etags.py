"""Conditional requests: 304 while an answer would be the same, and only then."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from schemas.ids import kubernetes
from services.api.http import etags
from services.persistence import retention, tokens
from services.persistence.database.engine import Database
from services.persistence.retention import Keep
from tests.api.fixtures import NOW, Fleet
from tests.api.watch.changing import Cluster

Change = Callable[[], Awaitable[object]]
NEAR, FAR = "prod-eu", "far-1"
"""Of two shards."""
PODS = f"/api/v1/clusters/{NEAR}/pods"


@pytest.fixture
async def cluster(fleet: Fleet) -> Cluster:
    """Two clusters with one pod each, live and synced."""
    assert kubernetes(NEAR).shard != kubernetes(FAR).shard
    await fleet.beats()
    for name in (FAR, NEAR):
        cluster = await Cluster(fleet, name).start("web-0")
        await fleet.heartbeat(name, {"pods": ("synced", "")}, epoch=cluster._epoch)
        await fleet.event(name, "e1", minutes_ago=30)
    return cluster


async def changed(api: httpx.AsyncClient, path: str, change: Change) -> bool:
    """Whether an answer has another ETag after a change; a conditional request says the same as it."""
    before = await api.get(path)
    assert before.status_code == 200, before.text
    tag = before.headers["etag"]
    again = await api.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await change()
    after = await api.get(path, headers={"If-None-Match": tag})
    if after.status_code == 304:
        fresh = (await api.get(path)).json()
        assert fresh | {"position": ""} == before.json() | {"position": ""}
        return False
    assert after.headers["etag"] != tag
    return True


@pytest.mark.parametrize(
    "path",
    [PODS, f"/api/v1/resources/pods?cluster={NEAR}", "/api/v1/resources/pods", "/api/v1/summary?by=state"],
)
async def test_what_changes_is_sent(
    fleet: Fleet, api: httpx.AsyncClient, cluster: Cluster, path: str
) -> None:
    """A row that comes, changes or goes, a moment, a state: each makes another ETag."""

    async def forbidden(seconds: int) -> None:
        said, time = {"pods": ("forbidden", "no")}, NOW + timedelta(seconds=seconds)
        await fleet.heartbeat(NEAR, said, epoch=cluster._epoch, time=time)

    async def lost() -> None:
        await fleet.beats(NOW + timedelta(minutes=2))

    assert await changed(api, path, lambda: cluster.put("web-1"))
    assert await changed(api, path, lambda: cluster.put("web-0", status="Failed"))
    assert await changed(api, path, lambda: cluster.delete("web-1"))
    if "summary" not in path:
        assert await changed(api, path, lambda: forbidden(1))
        assert not await changed(api, path, lambda: forbidden(2))
    if "resources" in path:
        assert await changed(api, path, lost)


async def test_other_shards_do_not_matter(fleet: Fleet, api: httpx.AsyncClient, cluster: Cluster) -> None:
    """What changes in a cluster of another shard leaves the ETags of this one's answers as they are."""
    assert cluster.name == NEAR
    far = await Cluster(fleet, FAR).start("web-0")
    for path in (
        PODS,
        f"{PODS}/shop/web-0",
        f"/api/v1/resources/pods?cluster={NEAR}",
        f"/api/v1/events?cluster={NEAR}",
        f"/api/v1/summary?cluster={NEAR}",
    ):
        assert not await changed(api, path, lambda: far.put("web-9"))
    assert await changed(api, "/api/v1/resources/pods", lambda: far.put("web-9"))


async def test_one_object(fleet: Fleet, api: httpx.AsyncClient, cluster: Cluster) -> None:
    """Its own changes and its cluster's moment make another ETag, its neighbours' do not."""
    path = f"{PODS}/shop/web-0"
    assert not await changed(api, path, lambda: cluster.put("web-1"))
    assert await changed(api, path, lambda: cluster.put("web-0", status="Failed"))
    answer = await api.get(path)
    await cluster.delete("web-0")
    gone = await api.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert gone.status_code == 404
    assert (await api.get(path, headers={"If-None-Match": "*"})).status_code == 404
    event = "/api/v1/events/prod-eu/uid-shop-e1"
    assert await changed(api, event, lambda: fleet.event(NEAR, "e1", message="another"))


async def test_events_that_went_by_age(fleet: Fleet, api: httpx.AsyncClient, cluster: Cluster) -> None:
    """No revision tells that old Events are gone; the ETag does."""
    assert cluster.name == NEAR
    await fleet.event(NEAR, "e2", minutes_ago=1)

    async def forget() -> None:
        keep = Keep(rows=timedelta(minutes=10), tombstones=timedelta(hours=1))
        assert await retention.forget(fleet.database, keep, NOW) == 2

    assert await changed(api, f"/api/v1/events?cluster={NEAR}", forget)


async def test_the_query_is_part_of_the_tag(api: httpx.AsyncClient, cluster: Cluster) -> None:
    """Another view, page or filter is another answer."""
    assert cluster.name == NEAR
    queries = ("", "?view=full", "?limit=7", "?namespace=shop", "?sort=name")
    tags = {(await api.get(PODS + query)).headers["etag"] for query in queries}
    assert len(tags) == len(queries)


async def test_no_row_is_read_for_a_304(
    fleet: Fleet, api: httpx.AsyncClient, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not changed costs two small statements, and none of them touches the rows."""
    assert cluster.name == NEAR
    monkeypatch.setattr(tokens, "LIFE", 60.0)  # they are looked at as well, when that was too long ago
    tag = (await api.get(PODS)).headers["etag"]
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    engine = _reader(fleet.database)
    sa.event.listen(engine, "before_cursor_execute", note)
    assert (await api.get(PODS, headers={"If-None-Match": tag})).status_code == 304
    sa.event.remove(engine, "before_cursor_execute", note)
    statements = [statement for statement in statements if statement != "BEGIN"]
    assert len(statements) == 2
    assert not [statement for statement in statements if "FROM resource" in statement]


def _reader(database: Database) -> sa.Engine:
    engine: sa.Engine = database._reader.sync_engine
    return engine


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ('W/"a"', True),
        ('"a"', True),
        ('"b", W/"a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        ("", False),
        (None, False),
    ],
)
def test_matching(given: str | None, known: bool) -> None:
    """The weak comparison of RFC 9110, over a list and for `*`."""
    assert etags.matches(given, 'W/"a"') is known
