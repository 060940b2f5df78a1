"""The process `atlhyper` among others: streams that are closed or full, and Ctrl-C at its very beginning."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import environment

_NOBODY = {"ATLHYPER_URL": "http://127.0.0.1:1"}
_INTERRUPTED = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, *_):
        if name == "rich_click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from services.cli.entry import main
main()
"""


def shell(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    """`atlhyper` with these, as a shell reads them."""
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m services {arguments}"],
        env=environment(folder, _NOBODY),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("get pods >&-", 1),
        ("get pods <&- >&-", 1),
        ("apply -f - <&-", 2),
        ("context list >&-", 0),
        ("--help >&-", 0),
    ],
)
def test_closed_streams(arguments: str, code: int, tmp_path: Path) -> None:
    """They lead nowhere; everything else is as always."""
    done = shell(tmp_path, arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == (1 if code else 0), done.stderr


@pytest.mark.parametrize(("arguments", "code"), [("get pods 2>&-", 1), ("get pods <&- >&- 2>&-", 1)])
def test_nobody_to_tell(arguments: str, code: int, tmp_path: Path) -> None:
    """The exit code remains."""
    done = shell(tmp_path, arguments)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", ["completion bash", "--help", "--version", "context list"])
def test_a_full_disk(arguments: str, tmp_path: Path) -> None:
    """What cannot be written is told once, in the system's words."""
    config = tmp_path / "person" / ".config" / "atlhyper" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("contexts: {eu: {url: 'http://127.0.0.1:1'}}\n")
    done = shell(tmp_path, f"{arguments} > /dev/full")
    lines = done.stderr.splitlines()
    assert done.returncode == 1, done.stderr
    assert lines[0] == "error: cannot write: No space left on device"
    assert len(lines) == 2, done.stderr
    assert shell(tmp_path, f"{arguments} > /dev/full 2>&1").returncode == 1


def test_an_early_interrupt(tmp_path: Path) -> None:
    """Before anything large is imported: 130 without a word, as later."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
