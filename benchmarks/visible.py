"""When a change is visible over REST: objects are asked for until their row has the wanted version.

An answer that shows it ends the wait, so every value is late by up to one pause and one request, never early.
"""

import asyncio
import time
from typing import Any

from benchmarks.processes import Rest

PAUSE = 0.01
"""Seconds between two looks at one path."""
PATIENT = 0.1
"""Of the time waited so far: who waits long is asked less often, or asking would be the load."""
LOST = 60.0
"""Seconds after which a change that is not visible ends the benchmark."""


class Probe:
    """Waits for versions of objects under one path: a list of one namespace, or one object.

    `seconds` has one value per change: from the moment it was made until it, or a later one of the same
    object, was seen. `looks` counts the requests.
    """

    def __init__(self, rest: Rest, path: str, **query: str) -> None:
        self.seconds: list[float] = []
        self.looks = 0
        self._rest = rest
        self._path = path
        self._query = query
        self._waiting: list[tuple[str, int, float]] = []
        self._asked = asyncio.Event()

    def expect(self, name: str, version: int, since: float) -> None:
        """Wait for this resourceVersion of an object; `since` in `time.perf_counter` seconds."""
        self._waiting.append((name, version, since))
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._waiting:
                self._asked.clear()
                await self._asked.wait()
            versions = _versions(await self._rest.get(self._path, **self._query))
            now = time.perf_counter()
            self.looks += 1
            left = []
            for name, version, since in self._waiting:
                if versions.get(name, 0) >= version:
                    self.seconds.append(now - since)
                elif now - since > LOST:
                    raise TimeoutError(f"{self._path} {name}: version {version} not visible in {LOST:.0f} s")
                else:
                    left.append((name, version, since))
            self._waiting = left
            await asyncio.sleep(max(PAUSE, PATIENT * max((now - since for *_, since in left), default=0)))

    async def drained(self) -> None:
        """Until nothing is waited for."""
        async with asyncio.timeout(LOST):
            while self._waiting:  # noqa: ASYNC110 - the end of a run, not its middle
                await asyncio.sleep(0.05)


def _versions(answer: dict[str, Any] | None) -> dict[str, int]:
    if answer is None:
        return {}
    rows = answer.get("items", [answer])
    return {row["name"]: int(row["object"]["metadata"].get("resourceVersion", 0)) for row in rows}
