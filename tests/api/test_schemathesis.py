"""Requests that nobody has thought of, made from the OpenAPI document: none is answered otherwise.

A longer run, with other requests each time: `make schemathesis`.
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.persistence.database.engine import Database
from tests.api.filled import fill
from tests.api.processes import environment, process
from tests.bus.fixtures import RunningBroker
from tests.tokens import AUTHORIZED

CONFIG = Path(__file__).with_name("schemathesis.toml")
SECONDS = os.environ.get("SCHEMATHESIS_SECONDS", "")
"""How long the long run takes; unset for the short one, whose requests are always the same."""


@pytest.fixture
async def address(broker: RunningBroker, database_url: str) -> AsyncIterator[str]:
    """An api process with something of everything."""
    async with Database(database_url) as database:
        await fill(database)
    variables = environment(broker, database_url, API_LISTEN="127.0.0.1:0")
    async with process(**variables) as (running, lines):
        reading = asyncio.create_task(_drained(running.stderr))
        yield str(lines[-1]["address"])
        assert running.returncode is None
        reading.cancel()


async def _drained(stream: asyncio.StreamReader | None) -> None:
    """A pipe that nobody reads would hold the process up."""
    assert stream is not None
    while await stream.read(65536):
        pass


def _headers() -> list[str]:
    return [part for name, value in AUTHORIZED.items() for part in ("--header", f"{name}: {value}")]


@pytest.mark.timeout(int(SECONDS or 0) + 600)
async def test_every_answer_is_as_documented(address: str, tmp_path: Path) -> None:
    """Valid, invalid and linked requests: no 5xx, no status, content type or shape that is not documented."""
    long = (
        ["--max-time", SECONDS, "--generation-database", "none"]
        if SECONDS
        else ["--seed", "1", "--generation-deterministic", "-n", "15"]
    )
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
        *("run", f"{address}/schema/openapi.json", "--no-color", *long, *_headers()),
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(CONFIG.with_name("schemathesis_hooks.py"))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert running.stdout is not None
    try:
        said = (await running.stdout.read()).decode()
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()
    # Not by the exit code alone: a warning has one of its own, and so has a run without requests.
    assert re.search(r"\b([1-9][0-9]*) generated, \1 passed", said), said
    assert not re.search(r"(Failures|Errors):", said), said
