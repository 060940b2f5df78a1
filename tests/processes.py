"""A service as a process of its own: killed, started again, asked how it is. Nobody starts it but the test.

`tests.faults.supervised` has one that is started again whenever it ends, as in production.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.waiting import until

STOP = 40.0
"""Seconds that an end may take."""
_ADDRESS = re.compile(r'"address": ?"(?:http://)?(127\.0\.0\.1:\d+)"')


def pause(pid: int) -> None:
    """SIGSTOP, and wait until every thread stands still: for some moments it would still answer."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP
    while any(_state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline, f"{pid} goes on"
        time.sleep(0.005)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class ServiceProcess:
    """`atlhyper <command>` with these variables besides our own; what it logs goes to a file."""

    def __init__(self, command: str, variables: Mapping[str, str], log: Path) -> None:
        self._command = command.split()
        self._variables = variables
        self._log = log
        self._log_start = 0
        """Characters of the log that earlier starts have written."""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, also again."""
        self._log_start = len(self.log) if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from services.cli.main import main; main()", *self._command),
                env=os.environ | self._variables,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._running.returncode

    def send(self, number: signal.Signals) -> None:
        """Does nothing when it has ended."""
        if self._running.returncode is None:
            self._running.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code. Raises TimeoutError."""
        self.send(number)
        async with asyncio.timeout(STOP):
            return await self._running.wait()

    @property
    def log(self) -> str:
        """Of all its starts."""
        return self._log.read_text()

    async def url(self) -> str:
        """Where it answers /readyz and /metrics, once it does."""
        await until(lambda: _ADDRESS.search(self.log, self._log_start))
        found = _ADDRESS.search(self.log, self._log_start)
        assert found
        return f"http://{found[1]}"

    async def readyz(self) -> str:
        """All that /readyz says."""
        return (await self.get("/readyz?verbose")).text

    async def trouble(self) -> str:
        """What /readyz says is wrong; empty when it is ready."""
        answer = await self.get("/readyz")
        return "" if answer.status_code == 200 else answer.text

    async def get(self, path: str) -> httpx.Response:
        """Ask it over HTTP, as of its latest start."""
        async with httpx.AsyncClient(base_url=await self.url(), trust_env=False, timeout=30) as client:
            return await client.get(path)

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "it was never started"
        return self._process
