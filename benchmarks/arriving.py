"""A simulated agent in a process of its own: a large one must not hold up those that measure.

    python -m benchmarks.arriving HOME BROKER_URL CLUSTER PODS

It says `ready` when it is connected, publishes its whole state when it is sent a line, ends with its input.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.simulated import SimulatedAgent
from schemas.ids import Target, kubernetes
from services.runtime.bus import client
from services.runtime.settings import BusSettings

START = 30.0


async def main(home: str, url: str, cluster: str, pods: str) -> None:
    """See the module."""
    target = kubernetes(cluster)
    settings = BusSettings(home=Path(home), nats_url=url)
    async with client.connect(settings, target.durable, name="benchmark") as bus:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await SimulatedAgent.start(bus, target, int(pods))
        await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def waiting(home: Path, url: str, target: Target, pods: int) -> AsyncIterator[Process]:
    """The process, connected; `arrive` lets it go."""
    words = ("-m", "benchmarks.arriving", str(home), url, target.id, str(pods))
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(START):
            await process.stdout.readline()
        yield process
    finally:
        process.stdin.close()
        async with asyncio.timeout(START):
            await process.wait()


def arrive(process: Process) -> None:
    """It publishes from now on."""
    assert process.stdin is not None
    process.stdin.write(b"\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
