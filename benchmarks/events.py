"""Kubernetes Events from the bus to rows, beside fetching and acknowledging the same messages and no more."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import msgspec
from nats.aio.msg import Msg

from benchmarks import kube, simulated, stage
from benchmarks.measure import Figure
from benchmarks.processes import Rest, core
from benchmarks.scene import Scene
from schemas import registry, subjects, topology
from schemas.envelope import Envelope, sequence_text
from schemas.ids import Target, kubernetes, uuid7
from schemas.kubernetes.base import ObjectMeta, ObjectReference
from schemas.kubernetes.event import EventSource, KubernetesEvent
from services.runtime.bus.client import Bus

FLOOR = 5000.0
"""Rows a second of one master."""
BATCH = 500
DEADLINE = 120.0
LOOK = 0.25
"""Seconds between two looks at the number of rows."""
_FIRST = datetime(2026, 11, 21, 8, tzinfo=UTC)


async def measure(scene: Scene) -> list[Figure]:
    """Each database in turn: the messages are in the stream before the master starts."""
    targets = [kubernetes(f"events-{number:02}") for number in range(scene.sizes.event_agents)]
    figures = []
    for name in scene.databases.names:
        folder = scene.folder / name
        folder.mkdir()
        async with (
            stage.broker(folder, targets) as broker,
            core(folder, broker.url, scene.databases.url(name, folder)) as services,
        ):
            await services.master.stop()
            async with simulated.connections(broker, folder, targets) as buses:
                total = await _publish(buses, targets, scene.sizes.events)
            async with stage.connect(broker, folder, topology.MASTER.name) as bus:
                reference = await _fetch(bus, total)
            await services.master.start()
            rows = await _rows(services.rest, total)
        figures.append(
            Figure(
                f"Kubernetes Events, bus → row, {name}",
                "rows/s",
                [rows],
                "raw fetch and ack, one by one",
                [reference],
                floor=FLOOR,
                published="event-exporter kept 2,000 of 6,000, argocd-agent about 10/s per agent",
                note=f"{total:,} different Events of {len(targets)} simulated agents, one master; from the "
                "first rows that are seen to the last",
            )
        )
    return figures


async def _publish(buses: list[Bus], targets: list[Target], total: int) -> int:
    """Fill the stream, each agent with its share; how many they are."""
    share = total // len(targets)
    for bus, target in zip(buses, targets, strict=True):
        epoch = uuid7()

        async def put(number: int, bus: Bus = bus, target: Target = target, epoch: str = epoch) -> None:
            envelope = Envelope(
                type=registry.EVENT_OBSERVED.name,
                source=subjects.agent_source(target),
                data=registry.EVENT_OBSERVED.encode(_event(target, number)),
                extensions={
                    "epoch": epoch,
                    "sequence": sequence_text(number + 1),
                    "firstsequence": sequence_text(1),
                },
            )
            await bus.publish(subjects.event(target, "shop", "Pod"), envelope, timeout=30)

        await kube.each(put, range(share))
    return share * len(targets)


def _event(target: Target, number: int) -> KubernetesEvent:
    """One Event of a pod, different from every other."""
    name = f"web-{number % 200}"
    seen = _FIRST + timedelta(seconds=number)
    return KubernetesEvent(
        metadata=ObjectMeta(
            name=f"{name}.{number:x}",
            namespace="shop",
            uid=f"{target.id}-{number}",
            resource_version=str(number + 1),
            creation_timestamp=seen,
        ),
        involved_object=ObjectReference(
            kind="Pod", namespace="shop", name=name, uid=f"uid-{name}", api_version="v1"
        ),
        type="Warning" if number % 5 == 0 else "Normal",
        reason="BackOff" if number % 5 == 0 else "Pulled",
        message=f"Back-off restarting failed container main in pod {name}_shop({number})",
        source=EventSource(component="kubelet", host="node-1"),
        first_timestamp=seen,
        last_timestamp=seen,
        count=1,
    )


async def _fetch(bus: Bus, total: int) -> float:
    """Messages a second: pulls of BATCH, each message acknowledged, nothing decoded."""
    stream, consumer = topology.EVENTS.name, "bench"
    config = {"name": consumer, "ack_policy": "explicit", "max_ack_pending": 10 * BATCH, "mem_storage": True}
    await bus.api(
        f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}",
        {"stream_name": stream, "config": config, "action": "create"},
    )
    arrived: asyncio.Queue[str] = asyncio.Queue()
    inbox = f"{topology.inbox(bus.user)}.bench"

    async def take(message: Msg) -> None:
        if message.reply:
            arrived.put_nowait(message.reply)

    subscription = await bus.tap(inbox, take)
    request = msgspec.json.encode({"batch": BATCH, "expires": int(5e9)})
    try:
        async with asyncio.timeout(DEADLINE):
            started = time.perf_counter()
            for number in range(total):
                if number % BATCH == 0:
                    await bus.ask(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", request, inbox)
                await bus.settle(await arrived.get(), b"+ACK")
            return total / (time.perf_counter() - started)
    finally:
        await subscription.close()
        await bus.api(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}")


async def _rows(rest: Rest, total: int) -> float:
    """Rows a second, from the first that are seen to the last."""
    first: tuple[float, int] | None = None
    async with asyncio.timeout(DEADLINE):
        while True:
            count, now = await _count(rest), time.perf_counter()
            if count and first is None:
                first = (now, count)
            if count >= total:
                break
            await asyncio.sleep(LOOK)
    assert first is not None
    if first[1] >= total:
        raise RuntimeError(f"all {total} rows were there at the first look: too few to measure")
    return (total - first[1]) / (now - first[0])


async def _count(rest: Rest) -> int:
    page = await rest.get("/events", limit="1")
    return len(page["items"]) + page["remaining"] if page else 0
