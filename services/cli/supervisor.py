"""Processes of our own under one supervisor: started, watched, started again, stopped in order."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from services.cli.services import EXIT_DENIED, SUPERVISED
from services.runtime.backoff import Backoff
from services.runtime.errors import EXIT_TEMPORARY, UserError
from services.runtime.lifecycle import STEADY
from services.runtime.settings import EXIT_CONFIG

Say = Callable[[str, str], None]
"""Tells the person something: who, what."""

STOP_DEADLINE = 12.0
"""Seconds from SIGTERM to SIGKILL; a service gives its own tasks 10."""
_LOG_LIMIT = 20 * 2**20
"""Bytes of a log from which it is set aside, once."""
_LOG_CHECK = 30.0
_TAIL = 5


class Child:
    """One service as a process of its own, its log in a file.

    It gets a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, and a pipe as
    standard input, by whose end it notices that the supervisor is gone.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        say: Say,
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """`started` is called each time that it has been started, and has its pid."""
        self.name = name
        self.log = log
        self._arguments = arguments
        self._env = {**env, SUPERVISED: "1"}
        self._say = say
        self._started = started
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep_running(self) -> None:
        """Run it until `stop`, and start it again with back-off when it ends.

        Raises UserError, in the child's own words, when it ends at once because of its configuration or of
        what it is denied. What it says with EX_TEMPFAIL is told, once, and tried again as long as it takes.
        """
        loop = asyncio.get_running_loop()
        told = ""
        backoff = Backoff(base=0.5, cap=15.0)
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run()
            if self._stopping.is_set():
                return
            lasted = loop.time() - started
            if code in (EXIT_CONFIG, EXIT_DENIED) and lasted < STEADY:
                reason, advice = self._last_error()
                raise UserError(f"{self.name}: {reason}", advice, code)
            if lasted > STEADY:
                backoff.reset()
                told = ""
            delay = backoff.delay()
            if code == EXIT_TEMPORARY:
                reason, _ = self._last_error()
                if reason != told:
                    self._say(self.name, f"{reason}; tries again until it can")
                    told = reason
                await asyncio.sleep(delay)
                continue
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            self._say(self.name, f"ended ({how}), starts again in {delay:.1f}s; its log: {self.log}")
            if code > 0 and backoff.attempts <= 2:
                for line in self.tail():
                    self._say(self.name, f"  {line}")
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to its whole session after the deadline."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                await process.wait()
        except TimeoutError:
            self._say(self.name, f"did not stop within {STOP_DEADLINE:g}s, killed")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """At once, without a chance to clean up."""
        self._stopping.set()
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def tail(self) -> list[str]:
        """The last lines of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 32_768))
                return file.read().decode(errors="replace").splitlines()[-_TAIL:]
        except OSError:
            return []

    def _last_error(self) -> tuple[str, str]:
        """Cause and next step at the end of its log."""
        reason, advice = "cannot start", f"its log is {self.log}"
        for line in self.tail():
            if line.startswith("error: "):
                reason = line.removeprefix("error: ")
            elif line.startswith("  next: "):
                advice = line.removeprefix("  next: ")
        return reason, advice

    async def _run(self) -> int:
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                # -P: a folder `services` where the person stands is not ours.
                *(sys.executable, "-P", "-m", "services", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        self._process = process
        if self._stopping.is_set():  # `stop` came while it was being started
            process.kill()
        self._started()
        ended = asyncio.ensure_future(process.wait())
        try:
            while not (await asyncio.wait({ended}, timeout=_LOG_CHECK))[0]:
                self._limit_log()
        finally:
            ended.cancel()
        return process.returncode if process.returncode is not None else 0

    def _limit_log(self) -> None:
        """Keep one old log beside the current one; the child goes on writing to the end of its file."""
        with suppress(OSError):
            if self.log.stat().st_size > _LOG_LIMIT:
                self.log.with_suffix(".log.1").write_bytes(self.log.read_bytes())
                os.truncate(self.log, 0)


async def run_once(name: str, arguments: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a command of ours to its end; its last line. Raises UserError with its words when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "services", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    lines = output.decode(errors="replace").splitlines()
    if process.returncode == 0:
        return lines[-1] if lines else ""
    told = errors.decode(errors="replace").splitlines() or lines or [f"exit code {process.returncode}"]
    message = next((line.removeprefix("error: ") for line in told if line.startswith("error: ")), told[-1])
    advice = next((line.removeprefix("  next: ") for line in told if line.startswith("  next: ")), "")
    raise UserError(f"{name}: {message}", advice, process.returncode or 1)
