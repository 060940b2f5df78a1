"""The services as processes of their own, and what they cost."""

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from services.runtime.listen import any_port
from tests.tokens import AUTHORIZED, admit

START = 60.0
"""Seconds until a service is ready."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of one process."""

    peak: float
    """Highest resident set since its start (VmHWM)."""
    pss: float
    """Proportional set now: its own pages, and its share of those it shares."""


class Process:
    """`async with Process("master", folder, variables) as master:` → `python -m services master`."""

    def __init__(self, command: str, folder: Path, variables: dict[str, str]) -> None:
        self._command = command.split()
        self._environment = {**os.environ, "ATLHYPER_HOME": str(folder), **variables}
        self.log = folder / f"{'-'.join(self._command)}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it, also again."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services", *self._command),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after 20 s."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        assert self._process is not None
        return self._process.returncode

    def check(self) -> None:
        """Raises RuntimeError with the end of its log when it is not there any more."""
        if self.code is not None:
            words = " ".join(self._command)
            raise RuntimeError(f"`{words}` ended with {self.code}:\n{self.log.read_text()[-3000:]}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> Memory:
    """What a process takes now and took at most."""
    status, rollup = (Path(f"/proc/{pid}/{name}").read_text() for name in ("status", "smaps_rollup"))
    peak, pss = re.search(r"VmHWM:\s+(\d+) kB", status), re.search(r"Pss:\s+(\d+) kB", rollup)
    assert peak, "this system does not tell the peak memory of a process"
    assert pss, "this system does not tell the proportional memory of a process"
    return Memory(int(peak[1]) / 1024, int(pss[1]) / 1024)


class Shares:
    """CPU of several processes over a time: `Shares(master=pid)`, later `.percent()`."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._since = time.monotonic()
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def percent(self) -> dict[str, float]:
        """Of one core, since the start."""
        seconds = time.monotonic() - self._since
        return {
            name: 100 * (cpu_seconds(pid) - self._before[name]) / seconds for name, pid in self._pids.items()
        }


class Rest:
    """The REST API of the run."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.url = url
        self.session = session

    async def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """GET under /api/v1; None for 404."""
        async with self.session.get(f"{self.url}/api/v1{path}", params=query) as response:
            answer = await response.read()
            if response.status == 404:
                return None
            if response.status != 200:
                raise RuntimeError(f"GET {path}: {response.status} {answer[:500].decode()}")
            return msgspec.json.decode(answer, type=dict[str, Any])

    async def post(self, path: str, body: object, key: str) -> dict[str, Any]:
        """POST under /api/v1 with an Idempotency-Key; the command."""
        headers = {"Idempotency-Key": key}
        async with self.session.post(f"{self.url}/api/v1{path}", json=body, headers=headers) as response:
            answer = await response.read()
            if response.status not in (200, 202):  # it may have ended by now
                raise RuntimeError(f"POST {path}: {response.status} {answer[:500].decode()}")
            return msgspec.json.decode(answer, type=dict[str, Any])

    async def agents(self) -> dict[str, dict[str, Any]]:
        """Every agent by id."""
        found = await self.get("/agents", limit="10000")
        assert found is not None
        return {agent["id"]: agent for agent in found["items"]}


@dataclass(frozen=True, slots=True)
class Core:
    """Master and api on one database."""

    master: Process
    api: Process
    rest: Rest


@asynccontextmanager
async def core(folder: Path, broker_url: str, database_url: str) -> AsyncIterator[Core]:
    """Tables, one master, one api, with the settings that users have; until the block ends."""
    port = any_port("127.0.0.1")
    variables = {
        "NATS_URL": broker_url,
        "DATABASE_URL": database_url,
        "MASTER_METRICS_LISTEN": "127.0.0.1:0",
        "API_LISTEN": f"127.0.0.1:{port}",
    }
    upgrade = Process("db upgrade", folder, variables)
    async with upgrade, asyncio.timeout(START):
        while upgrade.code is None:  # noqa: ASYNC110 - the event is the process's own
            await asyncio.sleep(0.05)
        if upgrade.code:
            upgrade.check()
    await admit(database_url)
    async with (
        Process("master", folder, variables) as master,
        Process("api", folder, variables) as api,
        aiohttp.ClientSession(headers=AUTHORIZED, timeout=aiohttp.ClientTimeout(total=30)) as session,
    ):
        rest = Rest(session, f"http://127.0.0.1:{port}")
        async with asyncio.timeout(START):
            while not await is_ready(rest):
                master.check()
                api.check()
                await asyncio.sleep(0.1)
        yield Core(master, api, rest)
        master.check()
        api.check()


async def is_ready(rest: Rest) -> bool:
    """Whether the api is."""
    try:
        async with rest.session.get(f"{rest.url}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
