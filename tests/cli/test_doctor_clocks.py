"""What `atlhyper doctor` says of clocks that are wrong."""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cli import clocks
from services.cli.checks import CHECKS
from services.cli.clocks import Reading, judged
from services.cli.findings import Finding
from services.persistence.database import clock
from tests.bus.fixtures import RunningBroker
from tests.faults import shim

HOST = Reading("this host's clock", 0.0, 0.0)
BROKER = "the broker's clock"
DATABASE = "the database's clock"


async def findings() -> list[Finding]:
    return [finding async for finding in CHECKS["clocks"](None)]


def an_hour(text: str) -> str:
    """What is said of one, without the seconds for which a machine may stand still between two clocks."""
    return re.sub(r"3,(59[5-9]|60[0-5]) s", "3,600 s", text)


@pytest.fixture
def settings(
    broker: RunningBroker, new_postgres_url: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker and a PostgreSQL, which the settings name."""
    monkeypatch.setenv("ATLHYPER_HOME", str(broker.home))
    monkeypatch.setenv("NATS_URL", broker.url)
    monkeypatch.setenv("DATABASE_URL", new_postgres_url())


async def test_all_alike(settings: None) -> None:
    """One line, which names the clocks that were read."""
    [finding] = await findings()
    assert (finding.state, finding.next_step) == ("ok", "")
    assert finding.text.startswith(f"this host's clock, {BROKER}, {DATABASE}: at most ")


@pytest.mark.parametrize(("hours", "word"), [(1, "ahead of"), (-1, "behind")])
async def test_the_databases_is_wrong(
    settings: None, monkeypatch: pytest.MonkeyPatch, hours: int, word: str
) -> None:
    """It is told beside the broker's and beside this host's, with what to do; it is no failure."""
    right = clock.now

    async def wrong(connection: AsyncConnection) -> datetime:
        return await right(connection) + timedelta(hours=hours)

    monkeypatch.setattr(clocks.clock, "now", wrong)
    other = {"ahead of": "behind", "behind": "ahead of"}[word]
    found = await findings()
    assert [(finding.state, an_hour(finding.text)) for finding in found] == [
        ("warn", f"{BROKER} is 3,600 s {other} {DATABASE}"),
        ("warn", f"{DATABASE} is 3,600 s {word} this host's clock"),
    ]
    assert all("NTP" in finding.next_step for finding in found)


@pytest.mark.skipif(shim.COMPILER is None, reason="needs a C compiler, on Linux")
async def test_this_hosts_is_wrong(broker: RunningBroker, tmp_path: Path) -> None:
    """With SQLite this host's clock is the database's: the whole command, an hour ahead, warns."""
    library = await asyncio.to_thread(shim.compiled, tmp_path)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "doctor"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {
            "LD_PRELOAD": str(library),
            shim.CLOCK: "3600",
            "HOME": str(tmp_path),
            "ATLHYPER_HOME": str(broker.home),
            "NATS_URL": broker.url,
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'none.db'}",
        },
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    told = an_hour(output.decode())
    assert f"warn  clocks    {BROKER} is 3,600 s behind this host's clock" in told


async def test_neither_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own checks tell that; here is nothing to compare."""
    monkeypatch.setenv("ATLHYPER_HOME", str(tmp_path))
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://nobody@127.0.0.1:1/none")
    assert await findings() == []


def test_an_answer_that_took_long_proves_less() -> None:
    """What may be the time of the answer's way is not told as a difference."""
    assert [finding.state for finding in judged([HOST, Reading(BROKER, 6.0, 0.1)])] == ["warn"]
    assert [finding.state for finding in judged([HOST, Reading(BROKER, 6.0, 1.5)])] == ["ok"]
    assert [finding.state for finding in judged([HOST, Reading(BROKER, -4.9, 0.0)])] == ["ok"]
