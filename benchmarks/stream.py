"""`GET /watch` as a reader of changes: server-sent events, without any pause of our own."""

import asyncio
import time
from typing import Any

import aiohttp
import msgspec

from benchmarks.processes import Rest

LOST = 60.0
"""Seconds after which a change that has not come ends the benchmark."""


class Stream:
    """Waits for versions of objects of one namespace; see `visible.Probe`, which asks instead."""

    def __init__(self, rest: Rest, cluster: str, resource: str, namespace: str) -> None:
        self.seconds: list[float] = []
        self._url = f"{rest.url}/api/v1/watch"
        self._session = rest.session
        self._query = {"cluster": cluster, "resource": resource, "namespace": namespace, "view": "full"}
        self._seen: dict[str, tuple[int, float]] = {}
        self._open = asyncio.Event()
        self._waiting: dict[tuple[str, int], float] = {}

    async def exists(self) -> bool:
        """Whether this api has it."""
        limit = aiohttp.ClientTimeout(total=10)
        async with self._session.get(self._url, params=self._query, timeout=limit) as response:
            return response.status == 200

    async def open(self) -> None:
        """Until the stream has begun."""
        async with asyncio.timeout(10):
            await self._open.wait()

    def expect(self, name: str, version: int, since: float) -> None:
        """Wait for this version; it may have come already."""
        seen_version, seen = self._seen.get(name, (0, 0.0))
        if seen_version >= version:
            self.seconds.append(seen - since)
        else:
            self._waiting[name, version] = since

    async def run(self) -> None:
        """Until cancelled."""
        limit = aiohttp.ClientTimeout(total=None)
        async with self._session.get(self._url, params=self._query, timeout=limit) as response:
            response.raise_for_status()
            self._open.set()
            async for line in response.content:
                if line.startswith(b"data:"):
                    self._take(msgspec.json.decode(line[5:]), time.perf_counter())

    def _take(self, event: dict[str, Any], now: float) -> None:
        if "item" not in event:
            return  # that it is in sync, or that something is gone
        name, version = event["name"], int(event["item"]["object"]["metadata"]["resourceVersion"])
        # A row stands for every change of its object until then.
        for key in [key for key in self._waiting if key[0] == name and key[1] <= version]:
            self.seconds.append(now - self._waiting.pop(key))
        if version > self._seen.get(name, (0, 0.0))[0]:
            self._seen[name] = (version, now)

    async def drained(self) -> None:
        """Until nothing is waited for."""
        async with asyncio.timeout(LOST):
            while self._waiting:  # noqa: ASYNC110 - the end of a run, not its middle
                await asyncio.sleep(0.05)
