"""compose.yaml without a container engine: each service as a process, its mounts in a folder of its own."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
PROJECT = {"RUN_AS": f"{os.getuid()}:{os.getgid()}"}
"""What a person writes to .env."""
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
_ADDRESS = re.compile(r"(?:0\.0\.0\.0|127\.0\.0\.1|nats):(4222|8222|8080|9464|9465)\b")
IMAGE_ENVIRONMENT = {"ATLHYPER_HOME": "/var/lib/atlhyper", "HOME": "/tmp"}
"""As the Dockerfile has it; a test holds the two together."""


def load(variables: Mapping[str, str] = PROJECT) -> dict[str, Any]:
    """The file with its variables filled in, as Compose does it. Raises KeyError for one that must be set."""

    def fill(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if kind == "-":
            return variables.get(name) or text
        return variables[name]

    found: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(fill, (ROOT / "compose.yaml").read_text()))
    return found


async def prepared(project: Path, *names: str) -> None:
    """What a person does first."""
    command = ["sh", str(ROOT / "deploy" / "compose" / "prepare"), *names]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=project, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


class Container:
    """One service: its files under `folder`, its ports moved to free ones.

    `ports` maps a port of the file to one of this machine, and is shared by all containers. `project` is the
    folder that paths of the file on the host's side begin in.
    """

    def __init__(
        self, composition: Mapping[str, Any], name: str, project: Path, ports: dict[str, int]
    ) -> None:
        self.service: dict[str, Any] = composition["services"][name]
        self.name = name
        self._ports = ports
        self._root = project / "containers" / name
        self.process: asyncio.subprocess.Process | None = None
        self.said = ""
        files: dict[str, str] = {}
        for kind, folder in (("configs", "/"), ("secrets", "/run/secrets/")):
            for entry in self.service.get(kind, []):
                source, target = (entry, folder + entry) if isinstance(entry, str) else entry.values()
                files[target] = composition[kind][source]["file"]
        volumes: dict[str, str] = {}
        for volume in self.service.get("volumes", []):
            source, target = (
                volume.split(":") if isinstance(volume, str) else (volume["source"], volume["target"])
            )
            volumes[target] = source
        self._mounts = ["/tmp", "/var/lib/atlhyper", *files, *volumes]
        for target, source in files.items():
            self._give(_of(source, project), target)
        for target, source in volumes.items():
            here = self.path(target)
            here.parent.mkdir(parents=True, exist_ok=True)
            if source.startswith("."):
                here.symlink_to(_of(source, project))
            else:
                here.mkdir(exist_ok=True)

    def _give(self, source: Path, target: str) -> None:
        """A file that is mounted, with addresses and paths as they are here."""
        here = self.path(target)
        here.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, here)
        here.write_text(self.local(here.read_text()))

    def path(self, target: str) -> Path:
        """Where a path of the container is here."""
        return self._root / target.lstrip("/")

    def local(self, text: str) -> str:
        """Addresses and paths of the container as they are here."""
        for mount in self._mounts:
            text = re.sub(rf"(?<![\w.)])({re.escape(mount)})(?![\w.])", f"{self._root}\\1", text)
        return _ADDRESS.sub(self._moved, text)

    def _moved(self, match: re.Match[str]) -> str:
        if match[1] not in self._ports:
            self._ports[match[1]] = free_port()
        # The broker's certificate is for this name, too.
        host = "localhost" if match[0].startswith("nats") else "127.0.0.1"
        return f"{host}:{self._ports[match[1]]}"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing but what the image and the file set."""
        values = {**IMAGE_ENVIRONMENT, **self.service.get("environment", {})}
        for name in IMAGE_ENVIRONMENT:
            self.path(values[name]).mkdir(parents=True, exist_ok=True)
        return {"PATH": str(PROGRAMS), **{name: self.local(value) for name, value in values.items()}}

    def words(self, *more: str) -> list[str]:
        """The command line; `more` replaces the command as `docker compose run` does."""
        entrypoint, *rest = self.service.get("entrypoint", ["atlhyper"])
        command = more or self.service.get("command", [])
        return [str(PROGRAMS / entrypoint), *rest, *map(self.local, command)]

    async def run(self, *more: str, **variables: str) -> str:
        """What it prints, once it has ended well."""
        code, output = await self._finished(self.words(*more), **variables)
        assert code == 0, f"{self.name} ended with {code}: {output}"
        return output

    async def start(self) -> None:
        """Start it and leave it running; what it says goes to `<name>.log`."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.words(), env=self.environment, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL
            )

    async def become_healthy(self, seconds: float = 150.0) -> None:
        """Wait for it. An AssertionError shows what it says instead, also when it ends."""
        process = self.process
        assert process
        deadline = time.monotonic() + seconds
        while not await self.healthy():
            ended = process.returncode is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} is not healthy: {self.said}\n{self.log[-3000:]}")

    async def healthy(self) -> bool:
        """Whether its health check, the very command, ends well; `said` is what it printed."""
        kind, program, *arguments = self.service["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "ready")
        ready = [sys.executable, str(ROOT / "deploy" / "image" / "ready"), *map(self.local, arguments)]
        code, self.said = await self._finished(ready)
        return code == 0

    async def stop(self) -> int:
        """SIGTERM, and the exit code; SIGKILL after the time that the file gives."""
        process = self.process
        assert process
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(float(self.service["stop_grace_period"].removesuffix("s"))):
                return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @property
    def log(self) -> str:
        return (self._root / "log").read_text()

    async def _finished(self, words: list[str], **variables: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *words,
            env=self.environment | variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(60):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode, output.decode()


def _of(path: str, project: Path) -> Path:
    """A path on the host's side: what the person made, else what the repository has."""
    own = project / path
    return own if own.exists() else ROOT / path
