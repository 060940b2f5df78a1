"""A real PostgreSQL for tests: on loopback, in a temporary folder, ended by its pid.

Binaries: the folder POSTGRES_BIN, else the machine's own, else those of the `pgserver` wheel. PostgreSQL
refuses to run as root, so root starts it as an unprivileged user, who owns the folder.
"""

import asyncio
import contextlib
import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg

from services.persistence.database.migrate import upgrade
from tests.ports import free_port

_START = 60.0  # seconds that a start, a stop or initdb may take
_TEMPLATE = "atlhyper_template"
_DEFAULTS = {
    # A process that is killed loses nothing by it: what was written is the kernel's.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "log_line_prefix": "'%m [%p] %a '",
}


class Postgres:
    """A server in a folder of its own: `start()`, then `url(…)`. It may be stopped, killed, started again."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.password = secrets.token_hex(8)
        self.port = 0
        self._settings = {**_DEFAULTS, **(settings or {})}
        self._user = _unprivileged()
        self._names = itertools.count(1)
        self._has_template = False
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="atlhyper-postgres-"))
        self.own(self.folder)
        self._bin = self._binaries()

    # --- its life ---

    def start(self) -> None:
        """Make the cluster at the first start; returns when it answers. The port stays the same."""
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            self._make(data)
        deadline = time.monotonic() + _START
        self.launch()
        while True:
            if self._running().poll() is not None:
                raise AssertionError(f"PostgreSQL ended at its start:\n{self.log()}")
            with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
                self.execute("SELECT 1")
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL does not answer:\n{self.log()}")
            time.sleep(0.05)

    def launch(self) -> None:
        """Start the process and return at once: clients see how it starts up."""
        self.port = self.port or free_port()
        options = [f"{name}={value.strip(chr(39))}" for name, value in self._settings.items()]
        command = [
            *(self._bin / "postgres", "-D", self.folder / "data", "-h", "127.0.0.1", "-p", str(self.port)),
            *("-k", self.folder, *(word for option in options for word in ("-c", option))),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log, **self._as_user())
        if self._guard is None:
            self._guard = self._watch_over()

    def stop(self) -> None:
        """End it as an administrator would: clients are cut off, open transactions rolled back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the server and all its processes, as a machine that fails would."""
        pids = self._pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._running().wait(_START)
        self._process = None
        # What the kernel has not cleared away yet would stop the next start.
        deadline = time.monotonic() + _START
        while any(_exists(pid) for pid in pids):
            assert time.monotonic() < deadline, "PostgreSQL does not end by SIGKILL"
            time.sleep(0.02)

    def pause(self) -> None:
        """Stop all its processes where they are: it accepts connections and never answers."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """The end: the process and the folder are gone."""
        if self._process is not None:
            self.resume()
            self.stop()
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait(_START)
        shutil.rmtree(self.folder, ignore_errors=True)

    def own(self, path: Path) -> None:
        """Let a file or folder be that of the user who runs it."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid, follow_symlinks=False)

    # --- its databases ---

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = "") -> str:
        """What DATABASE_URL takes."""
        return f"postgresql+asyncpg://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser; its rows. It may be called inside of an event loop."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(
                self.url(database).replace("+asyncpg", ""), timeout=_START, command_timeout=_START
            )
            try:
                return list(await connection.fetch(sql))
            finally:
                await connection.close()

        return _in_thread(run)

    def new_database(self, *, migrated: bool = True) -> str:
        """The URL of a new database, with all tables (empty) unless `migrated` is false."""
        if migrated and not self._has_template:
            self.execute(f"CREATE DATABASE {_TEMPLATE}")
            _in_thread(lambda: upgrade(self.url(_TEMPLATE)))
            self._has_template = True
        name = f"test_{next(self._names)}"
        # template0 has nobody connected to it, ever.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if migrated else 'template0'}")
        return self.url(name)

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    # --- inside ---

    def _make(self, data: Path) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        self.own(secret)
        command: list[str | Path] = [self._bin / "initdb", "-D", data, "-U", "postgres", "--pwfile", secret]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--locale=C.UTF-8"]
        # Many machines' PostgreSQL sorts by a language, and what we read must not depend on it. It takes ICU,
        # which not every build has.
        language: list[str | Path] = ["--locale-provider=icu", "--icu-locale=en-US"]
        for arguments in (command + language, command):
            made = subprocess.run(arguments, capture_output=True, timeout=_START, **self._as_user())
            if not made.returncode:
                return
        raise AssertionError(f"initdb failed: {made.stderr.decode(errors='replace')}")

    def _end(self, number: signal.Signals) -> None:
        process = self._running()
        process.send_signal(number)
        process.wait(_START)
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "PostgreSQL does not run"
        return self._process

    def _pids(self) -> list[int]:
        """The server and its children; the server is the last to be stopped and the first to be started."""
        pid = self._running().pid
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
        return [pid, *(child for child, parent in pairs if parent == pid)]

    def _watch_over(self) -> subprocess.Popen[bytes]:
        """Ends the server when this process is gone, however it went: the pipe closes with it."""
        script = 'cat >/dev/null; "$1" -D "$2/data" -m immediate -t 10 stop >/dev/null 2>&1; rm -rf "$2"'
        command = ["sh", "-c", script, "guard", str(self._bin / "pg_ctl"), str(self.folder)]
        return subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            **{**self._as_user(), "stdin": subprocess.PIPE},
        )  # fmt: skip

    def _binaries(self) -> Path:
        tried = []
        for folder in _folders():
            if not (folder / "initdb").exists() or not (folder / "postgres").exists():
                continue
            if self._can_run(folder):
                return folder
            tried.append(str(folder))
            if _wheel() == folder:
                # The wheel may lie where only root can go: a copy of it then.
                copy = self.folder / "pginstall"
                shutil.copytree(folder.parent, copy, symlinks=True)
                for path in (copy, *copy.rglob("*")):
                    self.own(path)
                if self._can_run(copy / "bin"):
                    return copy / "bin"
        shutil.rmtree(self.folder)
        raise AssertionError(
            "no PostgreSQL for the tests"
            + (f"; these do not start: {', '.join(tried)}" if tried else "")
            + "\n  next: install it (Debian and Ubuntu: postgresql; macOS: brew install postgresql),"
            + " or name its folder: POSTGRES_BIN=/path/to/bin"
            + ("" if sys.version_info < (3, 13) else "; the pgserver wheel has none for this Python")
        )

    def _can_run(self, folder: Path) -> bool:
        try:
            command = [folder / "postgres", "--version"]
            return not subprocess.run(
                command, capture_output=True, timeout=_START, **self._as_user()
            ).returncode
        except OSError:
            return False

    def _as_user(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL, "cwd": self.folder, "start_new_session": True
        }  # fmt: skip
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return options


def _unprivileged() -> pwd.struct_passwd | None:
    """Who runs it: we ourselves (None), or when we are root somebody who is not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def _folders() -> list[Path]:
    """Where binaries may be, the best first."""
    if chosen := os.environ.get("POSTGRES_BIN"):
        return [Path(chosen)]
    found = [Path(path).resolve().parent] if (path := shutil.which("initdb")) else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return [*found, wheel] if (wheel := _wheel()) else found


def _wheel() -> Path | None:
    spec = find_spec("pgserver")  # importing it would make folders
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _in_thread(run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine to its end, wherever we are called."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(run())).result()
