"""docs/how-to/inspect-with-nats.md: its commands show what is on the bus, as the user `reader`."""

import asyncio
import os
import re
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas import registry, subjects
from schemas.ids import kubernetes
from services.cli.cluster.build import ensure_binaries
from services.runtime.bus import broker as embedded
from services.runtime.bus import client, credentials
from tests.bus.fixtures import Connect, RunningBroker
from tests.master.agent import BusAgent
from tests.persistence.frames import FrameSource, body_of

# Of a cluster: its programs are built before the first test, this one among them.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "inspect-with-nats.md"
LOCAL = kubernetes("local")


def documented() -> list[str]:
    """Every `nats …` line of the page's sh blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("nats ")]


@dataclass
class NatsCommand:
    """The program with the page's two variables set."""

    program: Path
    variables: dict[str, str]

    async def __call__(self, line: str) -> tuple[int, str]:
        """Run `nats …`; exit code and output of both kinds."""
        process = await asyncio.create_subprocess_exec(
            str(self.program),
            *shlex.split(line)[1:],
            env=self.variables,
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
        return process.returncode or 0, output.decode()


@pytest.fixture
def nats(own_broker: RunningBroker, tmp_path: Path) -> NatsCommand:
    """The command; it keeps its own files in a folder of the test."""
    seed = credentials.seed_file(own_broker.home, "reader")
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    variables = {**home, "NATS_URL": own_broker.url, "NATS_NKEY": str(seed), "NATS_TIMEOUT": "8s"}
    return NatsCommand(ensure_binaries(["nats"])["nats"], variables)


@pytest.fixture
async def agent(own_broker: RunningBroker) -> AsyncIterator[BusAgent]:
    """The agent `kubernetes/local` with one epoch, a heartbeat and an Event on the bus."""
    credentials.issue(own_broker.home, LOCAL.durable)
    embedded.reload(own_broker.home)
    async with client.connect(own_broker.settings(), LOCAL.durable, name="local", wait=True) as connection:
        async with asyncio.timeout(60):
            await connection.wait_connected()
        source = FrameSource(target=LOCAL)
        source.held["pods", "demo", "shop-1"] = body_of("shop-1", "demo")
        agent = BusAgent(connection, source)
        for frame in (source.begin("epoch-1"), *source.all(), source.digest()):
            await publish_plain(agent, frame)
        await agent.beat()
        await agent.observe("u1", 1, 1)
        yield agent


async def publish_plain(agent: BusAgent, frame: object) -> None:
    """As a real agent publishes a small frame: not packed."""
    envelope = registry.FRAME_PUBLISHED.envelope(frame, source=agent.source_name)  # type: ignore[arg-type]
    await agent.bus.publish(subjects.snapshot(LOCAL), envelope)


EXPECTED = {
    "nats stream ls": (
        "ATLHYPER_HEARTBEATS",
        "ATLHYPER_SNAPSHOTS",
        "ATLHYPER_EVENTS",
        "ATLHYPER_DEAD_LETTERS",
    ),
    "nats stream report": ("ATLHYPER_EVENTS", "File"),
    "nats stream info ATLHYPER_SNAPSHOTS": ("Frames of state", "Allows Purge: false", "Messages: 4"),
    "nats stream subjects ATLHYPER_EVENTS": ("atlhyper.up.kubernetes.local.event.6.default.Pod",),
    "nats consumer report ATLHYPER_SNAPSHOTS": ("ATLHYPER_SNAPSHOTS",),
    "nats stream get ATLHYPER_HEARTBEATS --last-for atlhyper.up.kubernetes.local.heartbeat": (
        *("ce-source: /atlhyper/kubernetes/local", "io.atlhyper.kubernetes.heartbeat.sent.v1"),
        '"interval":15.0',
    ),
    "nats stream get ATLHYPER_SNAPSHOTS --last-for atlhyper.up.kubernetes.local.snapshot.6": (
        *('"phase":"digest"', '"pods":{"count":1,"sum":'),
    ),
    "nats sub 'atlhyper.up.kubernetes.local.>'": ('"name":"shop-2"',),
    "nats sub 'atlhyper.up.*.*.heartbeat'": ('"interval":15.0',),
}
"""What each command of the page shows."""


def test_every_command_of_the_page_is_run_here() -> None:
    """No command is documented that nobody tries."""
    assert documented() == list(EXPECTED)


async def test_the_commands_show_what_is_there(nats: NatsCommand, agent: BusAgent) -> None:
    """Streams, last heartbeat and digest are found with the commands of the page."""
    for line, texts in EXPECTED.items():
        if line.startswith("nats sub"):
            continue
        code, output = await nats(line)
        assert code == 0, f"{line}: {output}"
        for text in texts:
            assert text in output, f"{line}: {output}"


async def test_subscriptions_hear_what_comes(nats: NatsCommand, agent: BusAgent) -> None:
    """`nats sub` shows frames and heartbeats as they are published."""

    async def publish() -> None:
        while True:
            await publish_plain(agent, agent.source.put("shop-2", namespace="demo"))
            await agent.beat()
            await asyncio.sleep(0.1)

    publisher = asyncio.create_task(publish())
    try:
        for line, texts in EXPECTED.items():
            if line.startswith("nats sub"):
                code, output = await nats(f"{line} --count 4")
                assert code == 0, f"{line}: {output}"
                assert all(text in output for text in texts), f"{line}: {output}"
    finally:
        publisher.cancel()


REFUSED = (
    "nats stream purge ATLHYPER_HEARTBEATS -f",
    "nats stream rm ATLHYPER_HEARTBEATS -f",
    "nats stream rmm ATLHYPER_HEARTBEATS 1 -f",
    "nats stream edit ATLHYPER_HEARTBEATS --max-age 1h -f",
    "nats consumer add ATLHYPER_HEARTBEATS mine --pull --defaults",
    "nats pub atlhyper.up.kubernetes.local.heartbeat nonsense",
    "nats pub --jetstream atlhyper.up.kubernetes.local.heartbeat nonsense",
    "nats pub atlhyper.down.kubernetes.local.ctl.resync nonsense",
)


async def test_the_reader_is_refused_what_changes_something(
    nats: NatsCommand, agent: BusAgent, bus: Connect
) -> None:
    """Purging, deleting, changing, consuming and publishing are refused by the broker; nothing changes."""
    await agent.listen()
    for line, (code, output) in zip(REFUSED, await asyncio.gather(*map(nats, REFUSED)), strict=True):
        assert code != 0, line
        assert "permissions violation" in output.lower(), f"{line}: {output}"
    operator = await bus("operator")
    info = await operator.api("$JS.API.STREAM.INFO.ATLHYPER_HEARTBEATS")
    assert (info["state"]["messages"], info["state"]["consumer_count"]) == (1, 0)
    assert info["config"]["max_age"] == 30 * 86400 * 10**9
    assert not agent.heard
