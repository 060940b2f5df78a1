"""What a fault is, and the list that each one enters itself into."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp

from tests.faults.disk import MOUNTS
from tests.faults.shim import COMPILER
from tests.faults.system import CLUSTER, System

Steps = Callable[[System, random.Random], AsyncIterator[str]]
"""Breaks, yields, mends. What is yielded is what the seed chose, such as which link; may be empty."""

TOLD = 10.0
"""Seconds within which a disk or a database that fails is told."""
SILENT = 90.0
"""Seconds within which an API server is told that says nothing on connections that stay open."""


class Needs(StrEnum):
    """What a run has to have for a fault."""

    DISKS = "small disks, which only root on Linux mounts"
    SHIM = "a C compiler, on Linux"
    SQLITE = "SQLite"
    POSTGRESQL = "PostgreSQL"


POSSIBLE = frozenset(
    {Needs.SQLITE, Needs.POSTGRESQL}
    | ({Needs.DISKS} if MOUNTS else set())
    | ({Needs.SHIM} if COMPILER else set())
)
"""What this machine has."""


class Wrong(Exception):
    """The system does not say or do what it should while the fault lasts; a violation."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `breaking(system, random)` breaks on entry and mends on exit; the outage is in between."""

    name: str
    what: str
    """For people, in the table of docs/faults.md."""
    breaking: Callable[[System, random.Random], AbstractAsyncContextManager[str]]
    """Gives what Steps yield. Raises Wrong; it is mended then."""
    needs: frozenset[Needs]
    stops_load: bool = False
    """The API server is away, so nothing can be changed meanwhile."""
    replicated: bool = False
    """One of several replicas: work has to go on while it is down."""
    longest: float = math.inf
    """Seconds of outage at most."""


FAULTS: dict[str, Fault] = {}


def fault(name: str, what: str, *needs: Needs, **more: Any) -> Callable[[Steps], Steps]:
    """Enter these steps into the list. `more`: further fields of Fault."""

    def register(steps: Steps) -> Steps:
        FAULTS[name] = Fault(name, what, asynccontextmanager(steps), frozenset(needs), **more)
        return steps

    return register


async def told(system: System, words: dict[str, str], since: float | None = None) -> float:
    """Seconds until the readiness of each service says its words, since now or a time of the loop.

    Raises Wrong after TOLD.
    """
    loop = asyncio.get_running_loop()
    began = loop.time() if since is None else since
    while True:
        said = await system.unready()
        seconds = loop.time() - began
        if seconds > TOLD:
            raise Wrong(f"not told within {TOLD:.0f} s: {words}; told is {said}")
        if all(text in said.get(name, "") for name, text in words.items()):
            return seconds
        await asyncio.sleep(0.1)


async def told_of_silence(system: System) -> float:
    """Seconds until REST shows no resource of the agent as synced. Raises Wrong after SILENT."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    synced: list[str] = []
    while loop.time() - began <= SILENT:
        with suppress(aiohttp.ClientError, TimeoutError):
            agent = await system.get(f"/agents/kubernetes/{CLUSTER}")
            synced = [entry["resource"] for entry in agent["collection"] if entry["state"] == "synced"]
            if agent["collection"] and not synced:
                return loop.time() - began
        await asyncio.sleep(0.2)
    raise Wrong(f"after {SILENT:.0f} s the API server's silence is not told of {', '.join(synced)}")
