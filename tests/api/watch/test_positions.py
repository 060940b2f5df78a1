"""From every position that was given out a reader goes on, and misses nothing."""

from contextlib import AsyncExitStack

import httpx
import pytest

from services.api.watch import hub as hubs
from services.api.watch import reader as readers
from tests.api.watch.changing import Cluster, delete, forget_tombstones, put
from tests.api.watch.following import Replica, apply, follow, mirror_of, table
from tests.tokens import AUTHORIZED


async def test_from_a_list_on_nothing_is_missed(one: Replica, other: Replica, cluster: Cluster) -> None:
    """The `position` of a list is where the watch goes on, on the other replica too."""
    async with httpx.AsyncClient(base_url=one.url, headers=AUTHORIZED, timeout=40) as client:
        listed = (await client.get("/api/v1/clusters/prod-eu/pods")).json()
        events = (await client.get("/api/v1/events")).json()
    assert events["position"] == listed["position"]
    await cluster.put("web-1", status="Failed")
    await cluster.delete("web-0")
    for name in ("since", "lastEventId"):
        async with follow(other.url, f"{name}={listed['position']}") as reader:
            await reader.synced()
        assert [(m.event, m.name) for m in reader.messages] == [
            ("put", "web-1"),
            ("delete", "web-0"),
            ("synced", ""),
        ]


async def test_a_missed_row_comes_once_in_its_newest_state(
    one: Replica, other: Replica, cluster: Cluster
) -> None:
    """What changed ten times while the reader was away is one message, at its last place in the order."""
    async with follow(one.url) as reader:
        await reader.synced()
    for number in range(10):
        await cluster.put("web-0", status=f"S{number}")
    await cluster.put("web-1")
    async with follow(other.url, since=reader.position) as again:
        await again.synced()
    assert [message.name for message in again.of("put")] == ["web-0", "web-1"]
    assert again.of("put")[0].data["item"]["status"] == "S9"


async def test_every_position_is_one_to_go_on_from(one: Replica, other: Replica, cluster: Cluster) -> None:
    """Cut off behind any message, also in the middle of a commit, a reader misses nothing and sees no older
    state than it has; the order is that of the revisions, removals before their successors.
    """
    names = [f"many-{number}" for number in range(7)]
    async with follow(one.url, "initial=true") as reader:
        await cluster.put(*names)
        await cluster.change(delete("many-0"), put("web-0", "Late"), delete("many-1"))
        await cluster.put("many-0")
        expected = await table(cluster.fleet.database)
        await reader.until(lambda reader: mirror_of(reader.messages) == expected)
    cuts = [(index, message.id) for index, message in enumerate(reader.messages)]
    for index, position in cuts:
        seen = mirror_of(reader.messages[: index + 1])
        revs = [m.data["rev"] for m in reader.messages[: index + 1] if "rev" in m.data]
        async with follow(other.url, since=position) as again:
            await again.synced()
        later = [message.data["rev"] for message in again.of("put", "delete")]
        assert later == sorted(later)
        assert not later or not revs or later[0] >= max(revs)
        apply(seen, again.messages)
        assert seen == expected


async def test_pages_end_in_the_middle_of_a_commit(
    one: Replica, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits larger than a page: whole for those who are sent them from the ring, from the database, and
    for those who come while one is half read.
    """
    monkeypatch.setattr(hubs, "PAGE", 3)
    monkeypatch.setattr(readers, "_PAGE", 3)
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(follow(one.url, "initial=true")) for _ in range(3)]
        for round_ in range(6):
            await cluster.put(*(f"many-{number}" for number in range(20)), status=f"R{round_}")
            await cluster.delete(*(f"many-{number}" for number in range(0, 20, 3)))
            followers.append(await stack.enter_async_context(follow(one.url, "initial=true")))
        expected = await table(cluster.fleet.database)
        assert len(expected) == 2 + 13
        for follower in followers:
            await follower.until(lambda reader: mirror_of(reader.messages) == expected)


async def test_a_quiet_reader_does_not_grow_old(
    one: Replica, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader whose filter matches nothing is given newer positions all the same."""
    monkeypatch.setattr(readers, "HEARTBEAT", 0.1)
    async with follow(one.url, "cluster=elsewhere") as reader:
        first = (await reader.synced()).position
        await cluster.put("web-0")
        await reader.until(lambda reader: reader.position != first)
    assert [message.event for message in reader.messages] == ["synced"]
    assert reader.blocks[-1].startswith(": heartbeat\nid: v1.")
    await forget_tombstones(cluster.fleet.database, cluster.shard)
    async with follow(one.url, "cluster=elsewhere", since=reader.position) as again:
        await again.synced()
    assert [message.event for message in again.messages] == ["synced"]
