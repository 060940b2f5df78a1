"""A service that is started again and again: each start is a fork of one process that has imported it.

What a service imports takes far longer than what it does when it starts.
"""

import asyncio
import importlib
import json
import os
import random
import select
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from services.runtime import failpoints

IMPORTED = 60.0
"""Seconds that importing may take on a busy machine."""
END = 40.0
"""Seconds within which it has ended once it was told to."""


class ForkedService:
    """`async with ForkedService("master", variables, log) as master: await master.start()`.

    Nothing of it is left when the block ends, nor when its parent is gone.
    """

    def __init__(self, command: str, variables: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._variables = dict(variables)
        self._log = log
        self._log_start = 0
        """Where the log of this start begins, in bytes."""
        self._ending: asyncio.Task[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._log.touch()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.forked", self._command, str(self._log)),
                cwd=Path(__file__).parents[1],
                env=os.environ | self._variables,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout
        try:
            async with asyncio.timeout(IMPORTED):
                assert await self._process.stdout.readline(), self._log.read_text()
        except BaseException:
            self._process.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        async with asyncio.timeout(END):
            await self._process.wait()
        if self._ending:
            await self._ending

    async def start(self, **variables: str) -> None:
        """Once more, with these variables besides; it must have ended before."""
        assert self._ending is None or self._ending.done(), f"{self._command} runs"
        assert self._process.stdout
        self._log_start = self._log.stat().st_size
        self._say(json.dumps(variables))
        self._ending = asyncio.create_task(self._process.stdout.readline())

    @property
    def ended(self) -> int | None:
        """The exit code of the last start, negative for a signal; None while it runs."""
        return int(self._ending.result()) if self._ending and self._ending.done() else None

    @property
    def log(self) -> str:
        """Of the last start."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def kill(self) -> None:
        """With -9; does nothing when it has ended."""
        assert self._ending
        self._say("")
        async with asyncio.timeout(END):
            await asyncio.shield(self._ending)

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())


def serve(command: str, log: Path) -> None:
    """One start per line of standard input, a JSON object of variables; then print how it ended. Before the
    first one print that it may come.

    A line or the end of the input while it runs kills it with -9.
    """
    for module in ("services.cli.main", "services.cli.services", f"services.{command}.app"):
        importlib.import_module(module)
    print("ready", flush=True)
    with open(0, "rb", buffering=0, closefd=False) as orders:
        while line := orders.readline():
            if not line.strip():
                continue  # it had ended by itself
            if (pid := os.fork()) == 0:
                _run(command, log, json.loads(line))
            while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
                if select.select([orders], [], [], 0.01)[0]:
                    orders.readline()
                    os.kill(pid, signal.SIGKILL)
                    ended = os.waitpid(pid, 0)
                    break
            print(os.waitstatus_to_exitcode(ended[1]), flush=True)


def _run(command: str, log: Path, variables: Mapping[str, str]) -> None:
    """In the child: never returns."""
    from services.cli.main import main

    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, number in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(source, number)
        random.seed()
        os.environ.update(variables)
        failpoints.arm(os.environ)
        sys.argv = ["atlhyper", command]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it was, the exit code tells
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
