"""A command line against a real API."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from click.testing import CliRunner, Result

from schemas.kubernetes.node import Node
from schemas.kubernetes.pod import Pod, PodSpec, PodStatus
from schemas.kubernetes.workload import Deployment
from services.api.logs import session
from services.cli.main import cli
from services.persistence import tokens
from tests.api.fixtures import Fleet, meta
from tests.cli.standin import Agents
from tests.tokens import TOKEN

Run = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
def _machine_may_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than the API gives a look at its tokens, or an agent the start of a log."""
    monkeypatch.setattr(tokens, "_PATIENCE", 30.0)
    monkeypatch.setattr(session, "ANSWER", 30.0)


@pytest.fixture
def atlhyper(
    served: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Run:
    """Runs a command line against `served`, in a thread: the API is in this one, and logs nothing."""
    caplog.set_level(logging.WARNING, logger="services.api.http.access")
    monkeypatch.setenv("ATLHYPER_URL", str(served.base_url))
    monkeypatch.setenv("ATLHYPER_TOKEN", TOKEN)

    async def run(*arguments: str, color: bool = False, stdin: str = "") -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, arguments, input=stdin, color=color)

    return run


@pytest.fixture
async def two_clusters(fleet: Fleet) -> None:
    """`eu` with pods, a node and a Deployment, `us` with one pod; both live."""
    pod = PodStatus(phase="Running", pod_ip="10.0.0.1")
    pods = [
        Pod(metadata=meta(f"web-{n}", "default"), spec=PodSpec(node_name="n1"), status=pod) for n in range(2)
    ]
    pods.append(Pod(metadata=meta("db-0", "data"), status=pod))
    eu = {
        "pods": pods,
        "nodes": [Node(metadata=meta("n1"))],
        "deployments": [Deployment(metadata=meta("web", "default"))],
    }
    us = {"pods": [Pod(metadata=meta("web-0", "default"), status=pod)]}
    await fleet.beats()
    for cluster, objects in (("eu", eu), ("us", us)):
        epoch = await fleet.state(cluster, objects)
        await fleet.heartbeat(
            cluster, dict.fromkeys(objects, ("synced", "")), epoch=epoch, journal=f"journal-{cluster}"
        )


def words(output: str) -> list[list[str]]:
    """A table, cell by cell."""
    return [line.split() for line in output.splitlines()]


@pytest.fixture
async def agents(fleet: Fleet) -> AsyncIterator[Agents]:
    """Master and agents: what the API accepts is done at once, unless a test says how."""
    standing_in = Agents(fleet.database)
    running = asyncio.create_task(standing_in.run())
    yield standing_in
    running.cancel()
    await asyncio.wait([running])
