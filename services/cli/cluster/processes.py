"""Background processes that outlive the one that started them, known by a pid file in one folder."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_LOG_LIMIT = 10 * 2**20  # bytes; a log beyond it is set aside at the next start
_TAIL = 12  # lines
_PROC = Path("/proc/self/cmdline").exists()  # Linux; elsewhere `ps` tells the same


class Processes:
    """Starts, finds and ends processes whose command line names `folder`.

    A pid alone proves nothing: the number may belong to somebody else by now. A recorded process counts as
    ours only while its command line is still the program we started with our folder among its arguments.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last lines of a log, indented, for an error message."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()[-_TAIL:]
        except OSError:
            lines = []
        return "\n".join(f"    {line}" for line in lines) or "    (no output)"

    def start(self, name: str, command: Sequence[str | Path]) -> int:
        """Start in a session of its own, so that Ctrl-C in a terminal does not reach it. The pid."""
        log = self.log(name)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        self._children[name] = process
        self._pid_file(name).write_text(f"{process.pid}\n")
        return process.pid

    def pid(self, name: str) -> int | None:
        """The pid of the running process; None when it does not run (any more)."""
        if (child := self._children.get(name)) is not None:
            if child.poll() is None:
                return child.pid
            del self._children[name]
        try:
            pid = int(self._pid_file(name).read_text())
        except (OSError, ValueError):
            return None
        command = command_line(pid)
        return pid if name in command and f"{self.folder}/" in command else None

    def send_signal(self, name: str, number: signal.Signals) -> bool:
        """Whether there was a process of ours to signal."""
        pid = self.pid(name)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def stop(self, name: str, grace: float) -> None:
        """SIGTERM, after `grace` seconds SIGKILL; returns when the process is gone."""
        self.send_signal(name, signal.SIGTERM)
        self.send_signal(name, signal.SIGCONT)  # a stopped process would not see the first one
        if not self.wait_gone(name, grace):
            self.send_signal(name, signal.SIGKILL)
            if not self.wait_gone(name, 10):
                raise TimeoutError(f"{name} (pid {self.pid(name)}) does not end, not even by SIGKILL")
        self._pid_file(name).unlink(missing_ok=True)

    def wait_gone(self, name: str, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.pid(name) is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _pid_file(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.pid"


def command_line(pid: int) -> str:
    """The command line of any process; empty when there is none or it has ended and waits to be reaped."""
    if _PROC:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    answer = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return answer.stdout.strip()


def resident_memory(pid: int) -> int:
    """Resident memory in bytes; 0 when there is no such process."""
    if _PROC:
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return int(answer.stdout.strip() or 0) * 1024
