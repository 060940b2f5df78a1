"""First full state: from nothing to the last frame acknowledged, beside a raw LIST with the same paging."""

import asyncio
import json
import time

from benchmarks import stage
from benchmarks.measure import Figure
from benchmarks.scene import Scene
from schemas import topology
from schemas.frames import Frame, Phase
from schemas.ids import kubernetes
from schemas.kubernetes import KINDS
from services.agent.gateway.bus import BusGateway
from services.agent.kubernetes.repository.lists import PAGE_SIZE
from services.agent.kubernetes.repository.resources import KubernetesResources
from services.agent.kubernetes.sdk import client
from services.agent.kubernetes.sdk.client import RawClient
from services.agent.kubernetes.service.observation import KubernetesObservation, Selection
from services.agent.scheduler.snapshots import SnapshotScheduler
from services.runtime.lifecycle import tune_collector

ROUNDS = 15
DEADLINE = 120.0
POD = KINDS["pods"]


class StoppingGateway(BusGateway):
    """The real gateway; sets `synced` when the bus has acknowledged the frame that completes the list."""

    def listen_for_end(self) -> asyncio.Event:
        """A new event for one round."""
        self.synced = asyncio.Event()
        return self.synced

    async def publish_frame(self, frame: Frame) -> None:
        await super().publish_frame(frame)
        if frame.phase is Phase.SYNCED:
            self.synced.set()


async def measure(scene: Scene) -> list[Figure]:
    """Rounds of both, in turn."""
    home, pods = scene.folder, scene.sizes.pods
    raw = await client.connect(str(scene.kubeconfig), timeout=60, user_agent="atlhyper-benchmark")
    ours: list[float] = []
    reference: list[float] = []
    tune_collector()  # as every service does at its start
    try:
        async with (
            stage.broker(home) as broker,
            stage.connect(broker, home, topology.agent(kubernetes(stage.CLUSTER_ID)).name) as bus,
        ):
            gateway = StoppingGateway(bus, kubernetes(stage.CLUSTER_ID))
            for number in range(ROUNDS + 1):
                listed, listing = await _raw_list(raw)
                taken = await _full_state(raw, gateway)
                if listed != pods:
                    raise AssertionError(f"{listed} pods were listed, not {pods}")
                if number:  # the first round warms both up
                    reference.append(listing)
                    ours.append(taken)
    finally:
        await raw.close()
    figure = Figure(
        f"first full state of {pods} pods in the agent",
        "s",
        ours,
        f"raw LIST, pages of {PAGE_SIZE}",
        reference,
        bar_ratio=1.5,
        published="kubectl get -o json 4.8 s",
    )
    return [figure]


async def _raw_list(raw: RawClient) -> tuple[int, float]:
    """Every page's bytes, unread but for its continue token; number of objects and seconds."""
    started = time.perf_counter()
    token, pages = "", []
    while True:
        query = {"limit": str(PAGE_SIZE), **({"continue": token} if token else {})}
        page = await raw.get(POD.path(), query)
        pages.append(page)
        head = page[: page.index(b'"items":')].rstrip(b", ") + b"}"
        token = json.loads(head)["metadata"].get("continue", "")
        if not token:
            break
    seconds = time.perf_counter() - started
    return sum(len(json.loads(page)["items"]) for page in pages), seconds


async def _full_state(raw: RawClient, gateway: StoppingGateway) -> float:
    """Seconds from the start of an epoch to the acknowledgement of the frame that completes it."""
    observation = KubernetesObservation(KubernetesResources(raw, page_timeout=60), Selection(), [POD])
    scheduler = SnapshotScheduler(
        observation, gateway, instance="bench", digest_interval=60, full_interval=3600, events=dict
    )
    synced = gateway.listen_for_end()
    started = time.perf_counter()
    epoch = asyncio.create_task(scheduler.run())
    try:
        await asyncio.wait_for(synced.wait(), DEADLINE)
        return time.perf_counter() - started
    finally:
        epoch.cancel()
        await asyncio.gather(epoch, return_exceptions=True)
