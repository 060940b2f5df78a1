"""The program of docs/how-to/follow-the-changes.md does what the page says."""

import asyncio
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.api.fixtures import Fleet
from tests.api.watch.changing import Cluster
from tests.api.watch.following import replica
from tests.tokens import TOKEN
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "follow-the-changes.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's program needs curl")
async def test_the_program_keeps_its_position(fleet: Fleet, database_url: str, tmp_path: Path) -> None:
    """Its replica goes, changes pass, and from another one under the same address it is sent just these."""
    [program] = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "follow.sh").write_text(program)
    (tmp_path / "token").write_text(TOKEN)
    cluster = await Cluster(fleet, "prod-eu").start("web-0", "web-1")
    first_out, second_out = tmp_path / "first", tmp_path / "second"
    await run(database_url, tmp_path, first_out, "web-1")
    await cluster.put("web-0", status="Late")
    await cluster.delete("web-1")
    await run(database_url, tmp_path, second_out, "web-1")
    assert [json.loads(line).get("name") for line in second_out.read_text().splitlines()][:2] == [
        "web-0",
        "web-1",
    ]
    assert '"status":"Late"' in second_out.read_text().splitlines()[0]


async def run(database_url: str, folder: Path, out: Path, wanted: str) -> None:
    """Run the program in its folder until it has printed that and noted a position behind `synced`."""
    async with replica(database_url) as one:
        with out.open("wb") as sink:
            running = await asyncio.create_subprocess_exec(
                *("sh", "follow.sh", one.url),
                cwd=folder,
                env=os.environ | {"ATLHYPER_TOKEN_FILE": str(folder / "token")},
                stdout=sink,
                start_new_session=True,
            )
        try:
            await until(lambda: wanted in out.read_text() and '"as_of"' in out.read_text())
            await until(lambda: re.fullmatch(r"[^~]+\n", (folder / "position").read_text()))
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            await running.wait()
