"""The API server without any client library: create, change and watch, as bare as HTTP allows."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

MERGE_PATCH = "application/merge-patch+json"
CONNECTIONS = 32


class Api:
    """`async with connect(kubeconfig) as api:` → JSON in, JSON out. Raises RuntimeError for a refusal."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(self, method: str, path: str, body: object = None, content: str = "") -> dict[str, Any]:
        """One request; the answer's JSON."""
        data = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": content or "application/json"} if data else {}
        async with self._session.request(method, path, data=data, headers=headers) as response:
            answer = await response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {answer[:300].decode()}")
            return msgspec.json.decode(answer, type=dict[str, Any])

    async def patch(self, path: str, change: object) -> dict[str, Any]:
        """A merge patch; the object after it."""
        return await self.call("PATCH", path, change, MERGE_PATCH)

    async def watch(self, path: str, version: str) -> AsyncIterator[bytes]:
        """The lines of a watch from a resourceVersion on, unread."""
        query = {"watch": "1", "resourceVersion": version}
        limit = aiohttp.ClientTimeout(total=None)
        async with self._session.get(path, params=query, timeout=limit) as response:
            response.raise_for_status()
            while line := await response.content.readline():
                yield line


@asynccontextmanager
async def connect(kubeconfig: Path) -> AsyncIterator[Api]:
    """The API server that a kubeconfig with a token names."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
    connector = aiohttp.TCPConnector(
        limit=0, ssl=ssl.create_default_context(cafile=cluster["certificate-authority"])
    )
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    async with aiohttp.ClientSession(
        cluster["server"], connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=60)
    ) as session:
        yield Api(session)
        await asyncio.sleep(0.1)  # aiohttp leaves the end of TLS connections to the loop


async def each(work: Callable[[int], Awaitable[object]], numbers: Iterable[int]) -> None:
    """Do it for every number, CONNECTIONS at a time."""
    waiting = iter(numbers)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(worker())
