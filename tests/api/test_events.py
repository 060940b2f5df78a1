"""Events of the fleet, filtered and page by page."""

import httpx
import pytest

from services.persistence.database.engine import Database
from tests.api.fixtures import Fleet
from tests.api.raw import listening


@pytest.fixture
async def stored(fleet: Fleet) -> None:
    """Four Events in two clusters."""
    await fleet.state("prod-eu", {"events": []})
    await fleet.state("prod-us", {"events": []})
    await fleet.event("prod-eu", "e1", minutes_ago=30)
    await fleet.event(
        "prod-eu", "e2", minutes_ago=20, type="Normal", reason="Pulled", message="Pulled 100% of it"
    )
    await fleet.event("prod-us", "e3", minutes_ago=10)
    await fleet.event("prod-us", "e4", minutes_ago=0, namespace="blog", reason="FailedMount")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["e4", "e3", "e2", "e1"]),
        ("cluster=prod-eu", ["e2", "e1"]),
        ("cluster=prod-eu,prod-us", ["e4", "e3", "e2", "e1"]),
        ("namespace=blog", ["e4"]),
        ("type=Normal", ["e2"]),
        ("reason=BackOff", ["e3", "e1"]),
        ("kind=Pod&name=web-0", ["e4", "e3", "e2", "e1"]),
        ("kind=Node", []),
        ("since=2026-11-21T07:50:00Z", ["e4", "e3"]),
        ("since=2026-11-21T08:50:00%2B01:00", ["e4", "e3"]),
        ("until=2026-11-21T07:50:00Z", ["e2", "e1"]),
        ("since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", ["e4", "e3", "e2", "e1"]),
        ("since=2026-11-21T07:35:00Z&until=2026-11-21T07:45:00Z", ["e2"]),
        ("q=RESTARTING", ["e4", "e3", "e1"]),
        ("q=100%25 of", ["e2"]),
        ("q=%25", ["e2"]),
    ],
)
@pytest.mark.usefixtures("stored")
async def test_filters(api: httpx.AsyncClient, query: str, names: list[str]) -> None:
    """Each filter narrows, together they all hold; the one seen last comes first."""
    answer = await api.get(f"/api/v1/events?{query}")
    assert answer.status_code == 200, answer.text
    assert [row["name"] for row in answer.json()["items"]] == names


@pytest.mark.usefixtures("stored")
async def test_pages(api: httpx.AsyncClient) -> None:
    """Following `continue` gives each Event once, and `remaining` counts down to 0."""
    names, remaining, token = [], [], ""
    while True:
        query = {"limit": "3"} | ({"continue": token} if token else {})
        page = (await api.get("/api/v1/events", params=query)).json()
        names += [row["name"] for row in page["items"]]
        remaining.append(page["remaining"])
        token = page["continue"]
        if token is None:
            break
    assert (names, remaining) == (["e4", "e3", "e2", "e1"], [1, 0])


@pytest.mark.usefixtures("stored")
async def test_one_event(api: httpx.AsyncClient) -> None:
    """An Event is found by its cluster and uid, with its projection, and says as of when."""
    [row] = (await api.get("/api/v1/events?type=Normal")).json()["items"]
    one = (await api.get(f"/api/v1/events/prod-eu/{row['uid']}")).json()
    projection = one.pop("object")
    assert one == row | {"as_of": "2026-11-21T08:00:00Z"}
    assert (projection["metadata"]["name"], projection["count"]) == (row["name"], row["count"])
    full = (await api.get("/api/v1/clusters/prod-eu/events?view=full")).json()["items"]
    assert projection in [item["object"] for item in full]


async def test_every_column_sorts(either_url: str) -> None:
    """What an Event shows it can be sorted by, both ways and in pages; what it is about by kind and name."""
    async with Database(either_url) as database, listening(database) as served:
        fleet, api = Fleet(database), served.client
        await fleet.state("prod-eu", {"events": []})
        for name, about in (("e1", "Pod/web-1"), ("e2", "Node/web-2"), ("e3", "Pod/web-0")):
            await fleet.event("prod-eu", name, about=about, reason="é" * 300 + name)
        [shown, *_] = (await api.get("/api/v1/events")).json()["items"]
        for column in shown:
            for sort in (column, f"-{column}"):
                assert sorted(await _names(api, sort)) == ["e1", "e2", "e3"]
        assert await _names(api, "involved") == ["e2", "e3", "e1"]
        assert await _names(api, "-involved") == ["e1", "e3", "e2"]


async def _names(api: httpx.AsyncClient, sort: str) -> list[str]:
    """In pages of one."""
    names, token = [], ""
    while token is not None:
        query = {"sort": sort, "limit": "1"} | ({"continue": token} if token else {})
        answer = await api.get("/api/v1/events", params=query)
        assert answer.status_code == 200, answer.text
        names += [item["name"] for item in answer.json()["items"]]
        token = answer.json()["continue"]
    return names
