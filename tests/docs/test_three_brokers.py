"""docs/how-to/run-a-three-node-broker.md: three servers of its files, on one machine."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import subjects
from schemas import topology as data
from schemas.envelope import Envelope
from schemas.ids import Target
from services.runtime.bus import broker as embedded
from services.runtime.bus import config, credentials, topology
from services.runtime.bus.client import Bus, BusError, connect
from services.runtime.settings import BusSettings
from tests.bus.messages import frame
from tests.bus.test_topology import make_certificate
from tests.cli.command import run
from tests.docs.snippets import ROOT, File, steps
from tests.ports import free_port
from tests.waiting import until

PAGE = ROOT / "docs" / "how-to" / "run-a-three-node-broker.md"
NAMES = ("broker-1", "broker-2", "broker-3")
MAX_FILE = 12884901888


class Brokers:
    """Three servers, each in a folder of its own, as if on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._certificate, self._key = make_certificate(folder)
        self._ports = {name: (free_port(), free_port()) for name in NAMES}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._keys = {}
        for user in config.deploy_users():
            credentials.issue(folder / "home", user.name)
            self._keys[config.placeholder(user.name)] = credentials.users(folder / "home")[user.name]
        [self._cluster] = [step.text for step in steps(PAGE) if isinstance(step, File)]

    @property
    def settings(self) -> BusSettings:
        """Of a client that knows all three."""
        urls = ",".join(f"tls://127.0.0.1:{client}" for client, _ in self._ports.values())
        return BusSettings(home=self._folder / "home", nats_url=urls, tls_ca=self._certificate)

    def start(self, name: str) -> None:
        folder = self._folder / name
        client, route = self._ports[name]
        if not folder.exists():
            for path, text in config.deploy_files().items():
                target = folder / Path(path).name
                target.parent.mkdir(exist_ok=True)
                target.write_text(self._localised(text, folder, client, route))
            (folder / "cluster.conf").write_text(self._localised(self._cluster, folder, client, route))
        certificate = {"NATS_TLS_CERT": self._certificate, "NATS_TLS_CA": self._certificate}
        variables = {**self._keys, **certificate, "NATS_TLS_KEY": self._key, "BROKER_NAME": name}
        with (folder / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [str(embedded.binary()), "-c", "cluster.conf"],
                cwd=folder,
                env={**os.environ, **{key: str(value) for key, value in variables.items()}},
                stdout=log,
                stderr=log,
            )

    def _localised(self, text: str, folder: Path, client: int, route: int) -> str:
        """A file of the page or of deploy/nats, with the addresses of this machine and the page's limit."""
        for name, (_, port) in self._ports.items():
            text = text.replace(f"{name}.example:6222", f"127.0.0.1:{port}")
        text = text.replace("0.0.0.0:4222", f"127.0.0.1:{client}").replace(
            "0.0.0.0:6222", f"127.0.0.1:{route}"
        )
        text = text.replace("/data/jetstream", str(folder / "data"))
        return re.sub(r"max_file: \d+", f"max_file: {MAX_FILE}", text)

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def close(self) -> None:
        for name in [*self._processes]:
            self.kill(name)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    found = Brokers(tmp_path)
    try:
        for name in NAMES:
            found.start(name)
        yield found
    finally:
        found.close()


def test_the_page_s_limit_holds_three_copies() -> None:
    """`max_file` as the page has it is three times the account's, and the sum of all copies fits."""
    text = PAGE.read_text(encoding="utf-8")
    assert str(MAX_FILE) in text
    assert MAX_FILE == 3 * data.MAX_FILE_STORE
    assert 3 * sum(stream.max_bytes for stream in data.STREAMS) <= MAX_FILE


@pytest.mark.timeout(600)
async def test_one_of_three_may_be_killed(brokers: Brokers, tmp_path: Path) -> None:
    """Streams with three copies, made as the page says: their leader is killed, and nothing is lost.

    Publishing goes on with two, and the third catches up.
    """
    settings, agent = brokers.settings, config.EXAMPLE_AGENT
    variables = {
        "ATLHYPER_HOME": str(settings.home),
        "NATS_URL": settings.nats_url,
        "NATS_TLS_CA": str(settings.tls_ca),
    }

    async def applied() -> bool:
        arguments = ("bus", "apply", "--replicas", "3")
        done = await asyncio.to_thread(run, *arguments, folder=tmp_path, variables=variables)
        return done.returncode == 0

    await until(applied, 180)  # the three have to find each other first
    async with (
        connect(settings, "operator", name="test", wait=True) as operator,
        connect(settings, agent.durable, name="test", wait=True) as bus,
    ):
        await operator.wait_connected()

        async def as_applied() -> bool:
            try:
                return await topology.diff(operator) == []
            except BusError:  # a leader is elected
                return False

        await until(as_applied, 90)

        async def copies() -> bool:
            for stream in data.STREAMS:
                try:
                    info = await operator.api(f"$JS.API.STREAM.INFO.{stream.name}")
                except BusError:
                    return False
                others = info["cluster"].get("replicas", [])
                if info["config"]["num_replicas"] != 3 or sum(each["current"] for each in others) != 2:
                    return False
            return True

        await until(copies, 90)
        assert await stored(bus, agent, frame(agent, 1)) == 1
        leaders: list[str] = []

        async def led() -> bool:
            try:
                info = await operator.api(f"$JS.API.STREAM.INFO.{data.SNAPSHOTS.name}")
            except BusError:
                return False
            leaders[:] = [info["cluster"]["leader"]] if info["cluster"].get("leader") else []
            return bool(leaders)

        await until(led, 90)
        [leader] = leaders
        brokers.kill(leader)
        assert await stored(bus, agent, frame(agent, 2)) == 2
        brokers.start(leader)
        await until(copies, 90)


async def stored(bus: Bus, agent: Target, envelope: Envelope) -> int:
    """Publish, again and again as an agent does, while the servers elect a leader."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await bus.publish(subjects.snapshot(agent), envelope)
            except BusError:
                await asyncio.sleep(0.2)
