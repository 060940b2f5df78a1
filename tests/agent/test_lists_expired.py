"""A list in pages whose moment a real API server has forgotten between two of them."""

import asyncio
import signal

import pytest

from services.agent.kubernetes.repository import lists
from services.agent.kubernetes.sdk.interfaces import Expired
from services.cli.cluster.control_plane import ControlPlane
from tests.agent.test_api_server_faults import compact
from tests.agent.test_lists import CONFIGMAPS, listed, reading

pytestmark = pytest.mark.timeout(180)


async def test_a_list_that_expires_between_its_pages(
    own_control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """410 for a `continue` is `Expired`, in the server's words: half a list is none; a new one is whole."""
    plane = own_control_plane
    for number in range(8):
        plane.kubectl("create", "configmap", f"c{number}", "-n", "default")
    monkeypatch.setattr(lists, "PAGE_SIZE", 2)
    async with reading(plane.kubeconfig) as reader:
        reader._paged = {"v1"}
        pages = reader.pages(CONFIGMAPS, "default")
        seen = [observed.key.name for observed in (await anext(pages)).objects]
        assert len(seen) == 2
        # Meanwhile the second page is on its way; the third is asked for once that has been taken.
        await asyncio.to_thread(plane.kubectl, "create", "configmap", "later", "-n", "default")
        await asyncio.to_thread(compact, plane)
        await asyncio.to_thread(plane.send_signal, "kube-apiserver", signal.SIGKILL)  # and what it remembers
        await asyncio.to_thread(plane.start_component, "kube-apiserver")

        async def rest() -> None:
            async for page in pages:
                seen.extend(observed.key.name for observed in page.objects)

        with pytest.raises(Expired, match="410 The provided continue parameter is too old"):
            await rest()
        assert "later" not in seen
        found, _ = await listed(reader, CONFIGMAPS)
    assert {("default", name) for name in (*(f"c{number}" for number in range(8)), "later")} <= found.keys()
