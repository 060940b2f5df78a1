"""The api as a process of its own."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bus.fixtures import RunningBroker

_MAIN = "from services.cli.main import main; main()"


def environment(broker: RunningBroker, database_url: str, **more: str) -> dict[str, str]:
    return {
        "PATH": "",
        "ATLHYPER_HOME": str(broker.home),
        "NATS_URL": broker.url,
        "DATABASE_URL": database_url,
        **more,
    }


@asynccontextmanager
async def process(
    **variables: str,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[dict[str, object]]]]:
    """`atlhyper api` with these variables, once it serves; and the lines it has logged by then."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _MAIN,
        "api",
        env=variables,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert running.stderr is not None
    try:
        lines: list[dict[str, object]] = []
        async with asyncio.timeout(50):
            while not lines or lines[-1]["event"] != "serving":
                lines.append(json.loads(await running.stderr.readline()))
        yield running, lines
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
