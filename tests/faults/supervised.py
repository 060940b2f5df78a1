"""A service under a supervisor: killed, stopped in its tracks, and started again when it ends by itself.

`tests.processes` has the one without: a test that wants to see how a service ends starts it there.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cli.services import SUPERVISED
from services.runtime.errors import EXIT_TEMPORARY

ROOT = Path(__file__).parents[2]
STOP = 15.0
"""Seconds from SIGTERM to SIGKILL."""
PAUSE = 0.5
"""Seconds before a process that ended on its own is started again, as its supervisor would."""


@dataclass(frozen=True, slots=True)
class Exit:
    """An end that nobody had asked for."""

    name: str
    code: int
    tail: str


class SupervisedProcess:
    """One service, kept running: what ends on its own is started again and, unless it asked for that, noted.

    Standard input is a pipe: the service ends when the harness is gone, however it went.
    """

    def __init__(self, name: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.exits: list[Exit] = []
        self._arguments = arguments
        self._env = dict(env)
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted = False

    @property
    def pid(self) -> int | None:
        """None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, **variables: str) -> None:
        """Start it, with further variables for this one time."""
        assert self.pid is None, f"{self.name} runs already"
        self._wanted = True
        await self._spawn(variables)
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {self.name}")

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone, and it stays so until `start`."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int | None:
        """SIGTERM, and SIGKILL when that takes too long; its exit code."""
        return await self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: it hangs, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT"""
        self._signal(signal.SIGCONT)

    def freeze(self) -> None:
        """SIGUSR1, which `planted.freeze` understands."""
        self._signal(signal.SIGUSR1)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)

    async def _end(self, number: signal.Signals) -> int | None:
        self._wanted = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        process = self._process
        if process is None:
            return None
        self._signal(signal.SIGCONT)  # one that is stopped would not see SIGTERM
        self._signal(number)
        try:
            async with asyncio.timeout(STOP):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        return process.returncode

    async def _spawn(self, variables: Mapping[str, str]) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**self._env, SUPERVISED: "1", **variables},
                cwd=ROOT,
                start_new_session=True,
            )

    async def _keep(self) -> None:
        while self._wanted:
            assert self._process is not None
            code = await self._process.wait()
            if code != EXIT_TEMPORARY:
                self.exits.append(Exit(self.name, code, self.tail()))
            await asyncio.sleep(PAUSE)
            await self._spawn({})
