"""Somebody who types what a page says: terminals, a home, a fresh clone, and a system that runs meanwhile."""

import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from services.cli.cluster.control_plane import ControlPlane
from services.cli.context import Running
from tests.cli.command import ATLHYPER
from tests.docs.snippets import ROOT, Command, File, Interrupt, NotRun, Shown, Step, missing

LIMIT = 240.0
"""Seconds for one command, or until what a page shows is there."""
DOCUMENTED = {"api": "127.0.0.1:8080", "nats": "127.0.0.1:4222"}
"""The addresses that pages are written with; a run has others where these are in use."""
_READS = re.compile(
    r"(?:[A-Z_]+=\S* )*(?:curl (?!.*-X)|nats |\S*kubectl .*get|"
    r"atlhyper (?:get|agents|doctor|describe|events|bus show))"
)
"""Commands that may be given again until the page and the world agree."""


class Terminal:
    """A shell. What it is given runs in it, one after the other, as a person would type."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._files = folder / ".terminals" / secrets.token_hex(4)
        self._files.mkdir(parents=True)
        self.output_file = self._files / "output"
        self.output_file.touch()
        (self._files / "done").touch()
        self._runs = 0
        with self.output_file.open("ab") as output:
            self.process = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._tell("failed=0; trap 'failed=$?' ERR")

    def start(self, text: str) -> None:
        """Give it a command and look away."""
        self._runs += 1
        script = self._files / "command"
        script.write_text(text + "\n")
        done = self._files / "done"
        self._tell(f'failed=0; . {script} </dev/null; echo "{self._runs} $failed" >>{done}')

    def run(self, text: str) -> tuple[int, str]:
        """Exit code (of the last command in it that failed) and output."""
        before = len(self.output)
        self.start(text)
        self.wait(text)
        return self.code, self.output[before:]

    def wait(self, text: str) -> None:
        """Until it has ended what it was given. Raises AssertionError."""
        deadline = time.monotonic() + LIMIT
        while not self.ended:
            assert time.monotonic() < deadline, f"no end within {LIMIT:g}s: {text}\n{self.output[-3000:]}"
            time.sleep(0.02)

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self._done[:1] == [str(self._runs)] or self.process.poll() is not None

    @property
    def code(self) -> int:
        return int(self._done[1]) if self._done else -1

    @property
    def _done(self) -> list[str]:
        lines = (self._files / "done").read_text().splitlines()
        return lines[-1].split() if lines else []

    def interrupt(self) -> None:
        """Ctrl-C: every process in it but the shell itself is told, as a terminal does."""
        for pid in self._children():
            os.kill(pid, signal.SIGINT)

    def close(self) -> None:
        """Whatever still runs in it is killed."""
        for pid in [*self._children(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(10)

    def _children(self) -> list[int]:
        """The processes of the shell's group; services that a command started are in groups of their own."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,pgid="], capture_output=True, text=True, check=True)
        pairs = (tuple(map(int, line.split())) for line in listed.stdout.splitlines())
        return [pid for pid, group in pairs if group == self.process.pid and pid != self.process.pid]

    def _tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()


class Desk:
    """`with Desk(folder) as desk: desk.follow(steps)`. The clone and the home are folders of the test."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.home = folder / "home"
        self.clone = folder / "atlhyper"
        for each in (self.home, self.clone):
            each.mkdir(parents=True)
        self._fill_clone()
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        kept = {"KUBEBUILDER_ASSETS": os.environ.get("KUBEBUILDER_ASSETS", "")}
        self._environment = {
            "HOME": str(self.home),
            "XDG_CACHE_HOME": cache,
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "NO_PROXY": "127.0.0.1,localhost",
            **{name: value for name, value in kept.items() if value},
            "PATH": os.environ["PATH"],
            **(variables or {}),
        }
        self._environment["PATH"] = f"{folder / 'bin'}:{self._environment['PATH']}"
        (folder / "bin").mkdir()
        self.addresses: dict[str, str] = {}
        """Documented → real, besides those of the system that runs."""
        self._terminal: Terminal | None = None
        self._running: list[tuple[Command, Terminal]] = []
        """What keeps running, with the terminal of each."""

    def _fill_clone(self) -> None:
        """Links to this repository; `make` finds everything installed and leaves the real `.venv` alone."""
        environment = self.clone / ".venv"
        environment.mkdir()
        for path in ROOT.iterdir():
            if path.name not in (".git", ".venv"):
                (self.clone / path.name).symlink_to(path)
        for path in (ROOT / ".venv").iterdir():
            if path.name != ".ready":
                (environment / path.name).symlink_to(path)
        (environment / ".ready").touch()

    def provide(self, name: str, program: Path) -> None:
        """Put a program on the PATH, as a package manager would."""
        (self.home.parent / "bin" / name).symlink_to(program)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _, terminal in reversed(self._running):
            if not terminal.ended:
                terminal.interrupt()
                deadline = time.monotonic() + 60
                while not terminal.ended and time.monotonic() < deadline:
                    time.sleep(0.05)
            terminal.close()
        self.leave()
        for folder in (self.home / ".local/share/atlhyper/cluster", self.home / "second/cluster"):
            if folder.exists():
                ControlPlane(folder).stop()

    def leave(self) -> None:
        """Close the terminal in which commands were typed; those that keep running go on in theirs."""
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None

    # --- what a page says ---

    def follow(self, steps: Sequence[Step], *, activated: bool = False) -> None:
        """Do all of it, in a terminal of its own. Raises AssertionError that names the line of the page.

        `activated`: with the virtual environment on the path, as the how-to guides begin.
        """
        self.leave()
        self._terminal = Terminal(self.clone, self._activated if activated else self._environment)
        for step in steps:
            try:
                self._do(step)
            except AssertionError as error:
                raise AssertionError(f"line {step.line}: {error}") from None

    def _do(self, step: Step) -> None:
        match step:
            case Command(keeps_running=True):
                self._keep(step)
            case Command():
                self._run(step)
            case File(name, text):
                (self.clone / name).write_text(self.real(text))
            case Shown(command, shown):
                self._until_shown(self._find(command), shown)
            case Interrupt(command):
                terminal = self._find(command)
                terminal.interrupt()
                terminal.wait(command)
            case NotRun():
                pass

    def _run(self, step: Command) -> None:
        assert self._terminal is not None
        deadline = time.monotonic() + LIMIT
        again = bool(_READS.match(step.text))
        while True:
            code, output = self._terminal.run(self.real(step.text))
            output = self.documented(output)
            wrong = self._judge(step, code, output)
            if not wrong:
                return
            assert again, f"{wrong}\n$ {step.text}\n{output[:3000]}"
            assert time.monotonic() < deadline, f"{wrong}\n$ {step.text}\n{output[:3000]}"
            time.sleep(0.3)

    @staticmethod
    def _judge(step: Command, code: int, output: str) -> str:
        if (code != 0) != step.fails:
            return f"exit code {code}"
        absent = missing(step.shown, output)
        return f"not shown: {absent}" if absent else ""

    def _keep(self, step: Command) -> None:
        terminal = Terminal(self.clone, self._activated)
        self._running.append((step, terminal))
        terminal.start(self.real(step.text))
        self._until_shown(terminal, step.shown)

    def _until_shown(self, terminal: Terminal, shown: tuple[str, ...]) -> None:
        deadline = time.monotonic() + LIMIT
        while absent := missing(shown, self.documented(terminal.output)):
            text = terminal.output
            assert not terminal.ended, f"it has ended\n{text[-3000:]}"
            assert time.monotonic() < deadline, f"not shown: {absent}\n{text[-3000:]}"
            time.sleep(0.1)

    @property
    def _activated(self) -> dict[str, str]:
        return {**self._environment, "PATH": f"{ATLHYPER.parent}:{self._environment['PATH']}"}

    @property
    def is_up(self) -> bool:
        """Whether a system of this home runs."""
        return Running.read(self.home / ".local/share/atlhyper") is not None

    def _find(self, command: str) -> Terminal:
        return next(each for step, each in reversed(self._running) if command in step.text)

    # --- addresses ---

    def real(self, text: str) -> str:
        """What a page says, with the addresses of this run."""
        for documented, actual in self._addresses().items():
            text = re.sub(rf"(?<![\d.]){re.escape(documented)}(?!\d)", actual, text)
        return text

    def documented(self, text: str) -> str:
        """What a command prints, with the addresses and the home of the page."""
        for documented, actual in self._addresses().items():
            text = re.sub(rf"(?<![\d.]){re.escape(actual)}(?!\d)", documented, text)
        text = re.sub(r" \(127\.0\.0\.1:\d+ is in use\)$", "", text, flags=re.MULTILINE)
        return text.replace(str(self.home), "~")

    def _addresses(self) -> dict[str, str]:
        state = Running.read(self.home / ".local/share/atlhyper")
        if state is None:
            return self.addresses
        real = {"api": state.api, "nats": state.nats}
        running = {documented: real[name].partition("://")[2] for name, documented in DOCUMENTED.items()}
        return {**running, **self.addresses}
