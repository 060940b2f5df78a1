"""Kubernetes Events from a real API server to the bus, through what may happen to the agent."""

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from schemas import registry, subjects
from schemas.control import Confirmed
from schemas.envelope import Envelope
from schemas.ids import Target
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.errors import UserError
from tests.agent.fixtures import Heard, RunAgent
from tests.bus.fixtures import AGENTS, Connect, RunningBroker
from tests.processes import ServiceProcess
from tests.waiting import until


def create_events(plane: ControlPlane, namespace: str, *names: str, message: str = "") -> None:
    items = [
        {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
            "reason": name,
            "message": message,
            "type": "Normal",
            "count": 1,
        }
        for name in names
    ]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    plane.kubectl("create", "-n", namespace, "-f", "-", stdin=document)


def reasons(heard: Heard) -> list[str]:
    return sorted(event.reason for event in heard.events)


async def confirm(bus: Connect, target: Target, envelope: Envelope) -> None:
    """Say, as the master does, that all up to this one is committed."""
    body = Confirmed(epoch=envelope.epoch or "", sequence=envelope.sequence or 0)
    source = subjects.service_source("master", "test")
    master = await bus("master")
    await master.send(
        subjects.control(target, "confirmed"), registry.EVENTS_CONFIRMED.envelope(body, source=source)
    )


async def test_what_is_confirmed_is_not_sent_again_and_the_rest_is(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, bus: Connect, tmp_path: Path
) -> None:
    """AGENT_STATE outlives the agent: a restart sends, under its old id, what was not confirmed, no more.

    TIMEOUT_CONFIRM is how long it waits for that before it asks.
    """
    variables = {
        "AGENT_KUBECONFIG": str(control_plane.kubeconfig),
        "AGENT_NAMESPACES": namespace,
        "AGENT_STATE": str(tmp_path / "agent.db"),
        "AGENT_EVENT_FLUSH_INTERVAL": "100ms",
        "AGENT_HEARTBEAT_INTERVAL": "300ms",
    }
    envelopes: list[Envelope] = []

    async def note(_: str, envelope: Envelope) -> None:
        envelopes.append(envelope)

    reader = await bus("reader")
    await asyncio.to_thread(create_events, control_plane, namespace, "A", "B")
    async with run_agent(**variables) as heard:
        await reader.subscribe(f"atlhyper.up.kubernetes.{heard.target.id}.event.>", note)
        await heard.until(lambda h: reasons(h) == ["A", "B"] and len(envelopes) == 2)
        assert [envelope.first_sequence for envelope in envelopes] == [1, 1]
        await confirm(bus, heard.target, envelopes[1])
        await heard.until(lambda h: h.heartbeats[-1].counters["events_unconfirmed"] == 0)
        await asyncio.to_thread(create_events, control_plane, namespace, "C")
        await heard.until(lambda _: len(envelopes) == 3)
        assert envelopes[2].first_sequence == 3
    assert (tmp_path / "agent.db").exists()
    async with run_agent(**variables, AGENT_TIMEOUT_CONFIRM="1s") as heard:
        await heard.until(lambda h: "pods" in h.synced())
        await heard.until(lambda _: len(envelopes) >= 5)
        await confirm(bus, heard.target, envelopes[-1])
        await heard.until(lambda h: h.heartbeats[-1].counters["events_unconfirmed"] == 0)
        assert set(reasons(heard)) == {"C"}
    assert {envelope.id for envelope in envelopes[2:]} == {envelopes[2].id}
    assert {envelope.time for envelope in envelopes[2:]} == {envelopes[2].time}


async def test_spool_bytes(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Beyond SPOOL_BYTES the oldest go; the heartbeat counts them and says what to do."""
    async with run_agent(
        AGENT_KUBECONFIG=str(control_plane.kubeconfig),
        AGENT_NAMESPACES=namespace,
        AGENT_STATE=str(tmp_path / "agent.db"),
        AGENT_SPOOL_BYTES=str(1024 * 1024),
        AGENT_EVENT_FLUSH_INTERVAL="100ms",
        AGENT_HEARTBEAT_INTERVAL="300ms",
    ) as heard:
        await heard.until(lambda h: "pods" in h.synced())
        for number in range(4):
            names = [f"E{number}-{index}" for index in range(30)]
            await asyncio.to_thread(create_events, control_plane, namespace, *names, message="x" * 12_000)
        await heard.until(lambda h: h.heartbeats[-1].counters["events_dropped"] > 0)
        beat = await heard.until(lambda h: not h.heartbeats[-1].health.healthy and h.heartbeats[-1])
        assert beat.health.status == "degraded"
        assert "AGENT_SPOOL_BYTES" in beat.health.last_error


async def test_two_agents_on_one_file(
    run_agent: RunAgent, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The second one is told which file it is and what to set."""
    variables = {
        "AGENT_KUBECONFIG": str(control_plane.kubeconfig),
        "AGENT_NAMESPACES": namespace,
        "AGENT_STATE": str(tmp_path / "agent.db"),
    }
    async with run_agent(**variables) as heard:
        await heard.until(lambda h: h.heartbeats)
        with pytest.raises(UserError, match="in use by another agent"):
            async with run_agent(**variables) as second:
                await second.until(lambda _: False)


async def unconfirmed(agent: ServiceProcess) -> int:
    text = (await agent.get("/metrics")).text
    found = re.search(r"^atlhyper_agent_events_unconfirmed (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


async def test_killed_between_spool_and_bus(
    own_broker: RunningBroker, control_plane: ControlPlane, namespace: str, bus: Connect, tmp_path: Path
) -> None:
    """Seen while the broker was away, agent killed with -9, forgotten by the cluster: sent all the same."""
    target = AGENTS[0]
    reader = await bus("reader")
    heard = Heard(target)
    await reader.subscribe(subjects.up(target), heard.hear)
    agent = ServiceProcess(
        "agent kubernetes",
        {
            "ATLHYPER_HOME": str(own_broker.home),
            "AGENT_MASTER_URL": own_broker.url,
            "AGENT_CLUSTER_ID": target.id,
            "AGENT_KUBECONFIG": str(control_plane.kubeconfig),
            "AGENT_NAMESPACES": namespace,
            "AGENT_METRICS_LISTEN": "127.0.0.1:0",
            "AGENT_EVENT_FLUSH_INTERVAL": "100ms",
        },
        tmp_path / "agent.log",
    )
    await agent.start()
    try:
        await heard.until(lambda h: "pods" in h.synced())
        await own_broker.broker.stop()
        names = [f"E{number}" for number in range(20)]
        await asyncio.to_thread(create_events, control_plane, namespace, *names)

        async def spooled() -> bool:
            return await unconfirmed(agent) == 20

        await until(spooled)
    finally:
        await agent.stop(signal.SIGKILL)
    assert not heard.events
    await asyncio.to_thread(control_plane.kubectl, "delete", "events", "--all", "-n", namespace)
    await own_broker.start()
    await until(lambda: reader.connected)
    await agent.start()
    try:
        await heard.until(lambda h: reasons(h) == sorted(names))
    finally:
        await agent.stop(signal.SIGKILL)
