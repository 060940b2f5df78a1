"""How long the agent waits for an API server: as long as that asks for, and never for ever."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from aiohttp import web

from schemas.kubernetes import KINDS
from services.agent.kubernetes.repository.resources import WATCH_GRACE, KubernetesResources
from services.agent.settings import AgentSettings
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.backoff import Backoff
from tests.agent.fixtures import RunAgent
from tests.agent.proxy import Fault, FaultProxy
from tests.agent.test_bad_answers import CONFIGMAPS, status

ASKED = 4
"""Seconds."""


@pytest.mark.parametrize("code", [429, 503])
async def test_a_server_is_left_alone_for_as_long_as_it_asks(
    run_agent: RunAgent,
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`Retry-After` is the least pause before the next request, whatever the agent's own would be."""
    monkeypatch.setattr(Backoff, "delay", lambda _: 0.05)
    asked: list[float] = []

    def busy(request: web.Request) -> web.Response:
        asked.append(asyncio.get_running_loop().time())
        return status(code, "not now", Retry_After=str(ASKED))(request)

    async with FaultProxy(control_plane, tmp_path) as proxy:
        proxy.add(Fault(CONFIGMAPS, answer=busy, times=2))
        async with run_agent(AGENT_KUBECONFIG=str(proxy.kubeconfig), AGENT_NAMESPACES=namespace) as heard:
            await heard.until(lambda h: CONFIGMAPS in h.synced())
    assert len(asked) == 2
    assert asked[1] - asked[0] >= ASKED


class SilentClient:
    """A KubernetesClient that notes after how many seconds without a byte a watch is given up."""

    silence = 0.0

    async def watch(
        self, path: str, query: object, *, accept: str = "", silence: float
    ) -> AsyncGenerator[bytes, None]:
        self.silence = silence
        yield b""


async def test_a_half_open_watch_is_told_within_90_seconds() -> None:
    """With the defaults, the heartbeat that says so included; also with the longest watch that may be set."""
    settings, longest = AgentSettings(), AgentSettings(timeout_watch=75.0)
    for one, more in ((settings, settings.heartbeat_interval), (longest, 0)):
        client = SilentClient()
        resources = KubernetesResources(client, page_timeout=1, watch_timeout=one.timeout_watch)
        assert [change async for change in resources.watch(KINDS["pods"], "", "1")]
        assert 0 < client.silence <= one.timeout_watch + WATCH_GRACE
        assert one.timeout_watch + WATCH_GRACE + more <= 90
