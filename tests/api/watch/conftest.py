"""Two replicas of the api on one database, and a cluster in it."""

from collections.abc import AsyncIterator

import pytest

from tests.api.fixtures import Fleet
from tests.api.watch.changing import Cluster
from tests.api.watch.following import Replica, replica


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url) as running:
        yield running


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url) as running:
        yield running


@pytest.fixture
async def cluster(fleet: Fleet) -> Cluster:
    return await Cluster(fleet, "prod-eu").start("web-0", "web-1")
