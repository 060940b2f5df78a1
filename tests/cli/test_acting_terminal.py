"""Commands that change something, on a terminal: what a person is asked, and what is shown meanwhile."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from tests.cli.pseudoterminal import on_a_terminal
from tests.cli.standin import Agents
from tests.tokens import TOKEN
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("two_clusters")


@pytest.mark.parametrize(
    ("answer", "code", "asked"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0), ("\x04", 1, 0)]
)
async def test_on_a_terminal_one_is_asked(
    served: httpx.AsyncClient, agents: Agents, tmp_path: Path, answer: str, code: int, asked: int
) -> None:
    """What it is about is listed first; only `y` is a yes, and Ctrl-D is a no."""
    variables = {"ATLHYPER_URL": str(served.base_url), "ATLHYPER_TOKEN": TOKEN}
    arguments = ("delete", "pod/web-0", "-n", "shop", "--cluster", "eu")
    ended, told = await asyncio.to_thread(
        on_a_terminal, *arguments, folder=tmp_path, variables=variables, typed=answer
    )
    assert ended == code, told
    assert "eu   pod/web-0 -n shop" in told
    assert "[y/N]" in told
    assert len(agents.asked) == asked
    assert ("nothing was done" in told) == (not asked)


async def test_a_terminal_shows_how_long_one_waits(
    served: httpx.AsyncClient, agents: Agents, tmp_path: Path
) -> None:
    """A line of state that is gone when the table comes."""
    agents.act = lambda _: None
    variables = {"ATLHYPER_URL": str(served.base_url), "ATLHYPER_TOKEN": TOKEN}
    arguments = ("restart", "deploy/web", "--cluster", "eu")
    told = ""

    def seen(shown: str) -> None:
        nonlocal told
        told = shown

    on_it = asyncio.to_thread(on_a_terminal, *arguments, folder=tmp_path, variables=variables, seen=seen)
    waiting = asyncio.create_task(on_it)
    await until(lambda: re.search(r"eu restart deployment\.apps/web: accepted \([1-9][0-9]*s\)", told))
    await agents.end(agents.asked[0].id, {})
    ended, told = await waiting
    assert ended == 0, told
    assert told.rindex("\x1b[2K") < told.index("CLUSTER")


async def test_a_narrow_terminal_has_one_line_of_state(
    served: httpx.AsyncClient, agents: Agents, tmp_path: Path
) -> None:
    """It is cut: of a line that the terminal wraps only the last part would go again."""
    agents.act = lambda _: None
    variables = {"ATLHYPER_URL": str(served.base_url), "ATLHYPER_TOKEN": TOKEN}
    arguments = ("restart", "deploy/web", "--cluster", "eu", "--timeout", "3s")
    ended, told = await asyncio.to_thread(
        on_a_terminal, *arguments, folder=tmp_path, variables=variables, columns=40
    )
    assert ended == 124, told
    states = re.findall(r"\x1b\[2K(eu restart [^\r]*)", told)
    assert states
    assert all(len(state) < 40 and re.search(r"… \([0-9]+s\)$", state) for state in states), states
