"""`atlhyper get -w` and `atlhyper events -w`: real processes that follow a real API."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from schemas.kubernetes.base import ObjectMeta
from schemas.kubernetes.pod import Pod, PodStatus
from services.api.http.server import bind, serve
from services.api.watch.hub import Hub
from tests.api.fixtures import Fleet, meta
from tests.cli.command import ATLHYPER, environment
from tests.tokens import TOKEN
from tests.waiting import until

LONG = 40.0


class Running:
    """A command that runs, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.notes: list[str] = []

    async def shows(self, *words: str) -> str:
        """Wait for a line with all of these words."""

        def found() -> str | None:
            return next((line for line in self.lines if all(word in line for word in words)), None)

        try:
            await until(lambda: found() is not None, LONG)
        except TimeoutError:
            raise AssertionError(f"no line with {words} in {self.lines}, {self.notes}") from None
        return str(found())

    async def notes_have(self, words: str) -> None:
        """Wait for them on standard error."""
        await until(lambda: any(words in line for line in self.notes), LONG)


Start = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def started(url: str, folder: Path, *arguments: str) -> AsyncIterator[Running]:
    """Run until the block ends; then SIGINT has to end it quietly."""
    process = await asyncio.create_subprocess_exec(
        ATLHYPER,
        *arguments,
        env=environment(folder, {"ATLHYPER_URL": url, "ATLHYPER_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Running(process)

    async def read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))  # noqa: PERF401 - as they come

    readers = [
        asyncio.create_task(read(process.stdout, running.lines)),
        asyncio.create_task(read(process.stderr, running.notes)),
    ]
    try:
        yield running
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), LONG) == 130
        assert not any("Traceback" in line for line in running.notes)
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(*readers)


@pytest.fixture
async def followed(served: httpx.AsyncClient, hub: Hub) -> AsyncIterator[str]:
    """The address of an API whose readers are told what changes."""
    following = asyncio.create_task(hub.run())
    yield str(served.base_url)
    following.cancel()
    await asyncio.wait([following])


def pod(name: str, phase: str = "Running", namespace: str = "default", **labels: str) -> Pod:
    made: ObjectMeta = meta(name, namespace)
    made.labels = labels
    return Pod(metadata=made, status=PodStatus(phase=phase))


async def test_rows_follow_the_table(fleet: Fleet, followed: str, tmp_path: Path) -> None:
    """First the table, then a line for each change under its columns; what is gone is shown once more."""
    await fleet.state("eu", {"pods": [pod("web-0"), pod("web-1")]})
    async with started(followed, tmp_path, "get", "pods", "-w", "--output-watch-events") as running:
        await running.shows("ADDED", "web-1")
        await fleet.state("eu", {"pods": [pod("web-1", "Failed"), pod("web-2"), pod("web-3", namespace="x")]})
        assert (await running.shows("DELETED", "web-0")).split()[3] == "Running"
        assert "web-1" in await running.shows("MODIFIED", "Failed")
        await running.shows("ADDED", "web-2")
    assert not any("web-3" in line for line in running.lines)


async def test_selectors_hold_for_what_changes(fleet: Fleet, followed: str, tmp_path: Path) -> None:
    """A row that no longer matches is gone for whoever asked by labels or fields."""
    await fleet.state("eu", {"pods": [pod("a", app="web"), pod("b", app="db")]})
    arguments = ("get", "pods", "-l", "app=web", "--field-selector", "status.phase!=Failed")
    async with started(
        followed, tmp_path, *arguments, "-w", "-o", "json", "--output-watch-events"
    ) as running:
        await running.shows('"items"')
        await fleet.state(
            "eu", {"pods": [pod("a", app="db"), pod("b", app="web"), pod("c", "Failed", app="web")]}
        )
        await running.shows('"DELETED"')
        await running.shows('"ADDED"')
        await until(lambda: running.lines[-1] == "}")
    text = "\n".join(running.lines)
    documents = []
    while text:
        value, end = json.JSONDecoder().raw_decode(text)
        documents.append(value)
        text = text[end:].lstrip()
    changes = [(each["type"], each["object"]["name"]) for each in documents[1:]]
    assert sorted(changes) == [("ADDED", "b"), ("DELETED", "a")]


async def test_only_what_changes(fleet: Fleet, followed: str, hub: Hub, tmp_path: Path) -> None:
    """`--watch-only` leaves out what is there; the first change brings the header."""
    await fleet.state("eu", {"pods": [pod("web-0")]})
    async with started(followed, tmp_path, "get", "pods", "--watch-only") as running:
        await until(lambda: hub._readers == 1)  # a change before would be one that it need not show
        await fleet.state("eu", {"pods": [pod("web-0"), pod("web-1")]})
        await running.shows("web-1")
    assert running.lines[0].startswith("NAME")
    assert not any("web-0" in line for line in running.lines)


async def test_an_api_that_comes_back_is_followed_on(
    fleet: Fleet, app: object, hub: Hub, tmp_path: Path
) -> None:
    """An outage is a note; what changed meanwhile is not missed."""
    await fleet.state("eu", {"pods": [pod("web-0")]})
    following = asyncio.create_task(hub.run())
    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        host, port = listener.getsockname()
        serving = asyncio.create_task(serve(app, listener))  # type: ignore[arg-type]
        async with started(f"http://{host}:{port}", tmp_path, "get", "pods", "-w") as running:
            await running.shows("web-0")
            serving.cancel()
            await asyncio.wait([serving])
            await fleet.state("eu", {"pods": [pod("web-0"), pod("web-1")]})
            serving = asyncio.create_task(serve(app, listener))  # type: ignore[arg-type]
            await running.shows("web-1")
        serving.cancel()
        await asyncio.wait([serving])
    following.cancel()
    await asyncio.wait([following])


async def test_events_follow(fleet: Fleet, followed: str, tmp_path: Path) -> None:
    """Only those that were asked for, as they come."""
    await fleet.state("eu", {"events": []})
    await fleet.event("eu", "e1")
    async with started(followed, tmp_path, "events", "-n", "shop", "--types", "Warning", "-w") as running:
        await running.shows("BackOff")
        await fleet.event("eu", "e2", type="Normal", reason="Pulled")
        await fleet.event("eu", "e3", reason="Failed")
        await running.shows("Failed", "pod/web-0")
    assert not any("Pulled" in line for line in running.lines)
