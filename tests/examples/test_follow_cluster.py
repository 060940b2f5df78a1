"""examples/follow_cluster.py where nothing of ours is installed: the bus is a product of its own."""

import asyncio
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.persistence.frames import FrameSource, body_of

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "follow_cluster.py"
ALLOWED = {"nats-py", "nkeys", "pynacl", "cffi", "pycparser"}
"""nats-py[nkeys] and what it needs."""


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment, with what the example's first line asks for."""
    folder = tmp_path_factory.mktemp("third-party")
    uv = Path(sys.executable).parent / "uv"
    python = folder / "bin" / "python"
    commands: tuple[list[str | Path], ...] = (
        [uv, "venv", "--quiet", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, f"nats-py[nkeys]=={version('nats-py')}"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr
    return python


def test_it_needs_nothing_of_ours(third_party: Path) -> None:
    """The environment holds the NATS client and what that needs; our packages cannot be imported there."""
    uv = Path(sys.executable).parent / "uv"
    command: list[str | Path] = [uv, "pip", "list", "--format", "json", "--python", third_party]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert {package["name"] for package in json.loads(listed.stdout)} <= ALLOWED
    for name in ("atlhyper", "schemas", "services"):
        imported = subprocess.run([third_party, "-P", "-c", f"import {name}"], capture_output=True, cwd="/")
        assert imported.returncode != 0


def test_it_is_short() -> None:
    """A reader takes it in at a glance."""
    code = EXAMPLE.read_text(encoding="utf-8").split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 25


async def test_it_prints_what_changes(third_party: Path, own_broker: RunningBroker, bus: Connect) -> None:
    """A change is a line, whether its frame is packed or not, whether an object comes or goes."""
    source = FrameSource(target=AGENTS[0])
    agent = BusAgent(await bus(AGENTS[0].durable), source)
    other = BusAgent(await bus(AGENTS[1].durable), FrameSource(target=AGENTS[1]))
    seed = own_broker.home / "nats" / "credentials" / "reader.nk"
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in (third_party, "-P", EXAMPLE, AGENTS[0].id, seed, own_broker.url)),
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    try:
        async with asyncio.timeout(60):
            assert await process.stderr.readline() == f"following {AGENTS[0].id}\n".encode()
            await other.send(other.source.begin("theirs"), other.source.put("not-ours"))
            await agent.send(source.begin("ours"), source.put("web-1", body_of("web-1"), namespace="demo"))
            await agent.send(source.put("node-1", b"{}", resource="nodes", namespace=""), source.synced())
            await agent.send(source.delete("web-1", namespace="demo"), source.digest())
            lines = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    assert lines == ["put pods demo web-1", "put nodes _ node-1", "del pods demo web-1"]
