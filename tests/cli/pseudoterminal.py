"""Running `atlhyper` on a terminal, as a person in front of one does."""

import codecs
import os
import pty
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cli.command import ATLHYPER, environment


def on_a_terminal(
    *arguments: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    typed: str = "",
    prompt: str = "[y/N]",
    seen: Callable[[str], object] = lambda _: None,
    limit: float = 90.0,
    columns: int = 0,
) -> tuple[int, str]:
    """Exit code, and everything that the terminal has shown. `typed` is typed once `prompt` is there.

    `seen`: is given all that is shown, whenever there is more.
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
    decode = codecs.getincrementaldecoder("utf-8")().decode  # a character may come in two reads
    try:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # as Linux says that nobody holds the other end any more
                data = b""
            if not data:
                break
            shown += decode(data)
            assert time.monotonic() < deadline, shown
            seen(shown)
            if typed and prompt in shown:
                os.write(ours, typed.encode())
                typed = ""
        return process.wait(limit), shown
    finally:
        process.kill()
        process.wait(limit)
        os.close(ours)
