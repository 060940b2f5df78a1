"""A real agent between a real API server and a real broker; `tests/conftest.py` loads this module."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas import registry, subjects
from schemas.envelope import Envelope
from schemas.frames import Frame, Phase, Put
from schemas.ids import Target, kubernetes
from schemas.kubernetes.event import KubernetesEvent
from schemas.presence import Heartbeat
from services.agent import app
from services.agent.settings import AgentSettings
from services.runtime.bus import broker as embedded
from services.runtime.bus import client, credentials
from services.runtime.settings import load
from tests.bus.fixtures import RunningBroker

PATIENCE = 60.0
"""Seconds that anything expected may take."""


@dataclass
class Heard:
    """Everything one agent has published, as a subscriber hears it."""

    target: Target
    frames: list[Frame] = field(default_factory=list)
    events: list[KubernetesEvent] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    agent: asyncio.Task[None] | None = None

    async def hear(self, subject: str, envelope: Envelope) -> None:
        """Sort one message."""
        self.raw.append(envelope.data)
        body = registry.lookup(envelope.type).decode(envelope.data)
        parsed = subjects.parse(subject)
        assert isinstance(parsed, subjects.Up)
        assert parsed.target == self.target
        kept: Any = {"snapshot": self.frames, "event": self.events, "heartbeat": self.heartbeats}[
            parsed.channel
        ]
        kept.append(body)

    async def until(self, condition: Callable[["Heard"], Any], seconds: float = PATIENCE) -> Any:
        """Wait for something to be heard; what `condition` returned."""
        async with asyncio.timeout(seconds):
            while not (found := condition(self)):
                if self.agent and self.agent.done():
                    self.agent.result()  # raises what ended it
                    raise AssertionError("the agent ended on its own")
                await asyncio.sleep(0.02)
        return found

    def objects(self, resource: str) -> dict[tuple[str, str], Put]:
        """What a reader of all frames holds of one resource."""
        held: dict[tuple[str, str], Put] = {}
        for frame in self.frames:
            for item in frame.items:
                if item.resource == resource:
                    if isinstance(item, Put):
                        held[item.namespace, item.name] = item
                    else:
                        held.pop((item.namespace, item.name), None)
        return held

    def synced(self) -> set[str]:
        """The resources that have been completed."""
        return {resource for frame in self.frames for resource in frame.synced}

    def phases(self, phase: Phase) -> list[Frame]:
        """The frames of one phase."""
        return [frame for frame in self.frames if frame.phase is phase]


RunAgent = Callable[..., Any]


@pytest.fixture
def run_agent(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, cluster_id: str, patient_connections: None
) -> RunAgent:
    """`async with run_agent(AGENT_KUBECONFIG=…) as heard:` runs an agent set up by variables alone."""

    @asynccontextmanager
    async def run(cluster: str = cluster_id, **variables: str) -> AsyncIterator[Heard]:
        target = kubernetes(cluster)
        credentials.issue(broker.home, target.durable)
        embedded.reload(broker.home)
        await _known(broker, target.durable)
        values = {
            "ATLHYPER_HOME": str(broker.home),
            "AGENT_CLUSTER_ID": cluster,
            "AGENT_MASTER_URL": broker.url,
            "AGENT_METRICS_LISTEN": "127.0.0.1:0",
            **variables,
        }
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        heard = Heard(target)
        async with client.connect(broker.settings(), "reader", name="test", wait=True) as reader:
            async with asyncio.timeout(PATIENCE):
                await reader.wait_connected()
            await reader.subscribe(subjects.up(target), heard.hear)
            agent = asyncio.create_task(app.run(load(AgentSettings)))
            heard.agent = agent
            try:
                yield heard
            finally:
                agent.cancel()
                await asyncio.gather(agent, return_exceptions=True)

    return run


async def _known(broker: RunningBroker, user: str) -> None:
    """Until the broker has read its accounts anew: a reload is a signal, and it returns before that."""
    async with client.connect(broker.settings(), user, name="probe", wait=True) as probe:
        await asyncio.wait_for(probe.wait_connected(), PATIENCE)
