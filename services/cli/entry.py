"""Where the process `atlhyper` begins: what has to hold before anything large is imported."""

import os
import signal
import sys


def main() -> None:
    """The console script."""
    # A program that was started in the background ignores SIGINT, and goes on doing so.
    quiet = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if quiet:
        signal.signal(signal.SIGINT, _end)
    _open_standard_streams()
    from services.cli.main import main as run

    if quiet:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _end(*_: object) -> None:
    """Nothing has been done yet. As a shell reports SIGINT; not an exception, which an import may swallow."""
    os._exit(130)


def _open_standard_streams() -> None:
    """Those that whoever started us has closed lead nowhere, as with `>/dev/null`.

    Python has None in their place; and a socket that took their number would be read and written as them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
