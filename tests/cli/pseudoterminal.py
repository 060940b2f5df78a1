"""Running `atlhyper` on a terminal, as a person in front of one does."""

import os
import pty
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from tests.cli.command import ATLHYPER, environment


def on_a_terminal(
    *arguments: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    typed: str = "",
    prompt: str = "[y/N]",
    limit: float = 40.0,
    columns: int = 0,
) -> tuple[int, str]:
    """Exit code, and everything that the terminal has shown. `typed` is typed once `prompt` is there.

    `columns`: how wide it is; 0: it does not say.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24 if columns else 0, columns))
    process = subprocess.Popen(
        [ATLHYPER, *arguments],
        cwd=folder,
        env=environment(folder, variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, deadline = "", time.monotonic() + limit
    try:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # as Linux says that nobody holds the other end any more
                data = b""
            if not data:
                break
            shown += data.decode()
            assert time.monotonic() < deadline, shown
            if typed and prompt in shown:
                os.write(ours, typed.encode())
                typed = ""
        return process.wait(10), shown
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)
