"""`atlhyper commands` against a real API: the list, one of them, waiting for it, ending it."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from schemas.commands import CommandError
from tests.cli.conftest import Run, words
from tests.cli.standin import Agents
from tests.cli.test_follow import started
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("two_clusters")


async def asked(atlhyper: Run, agents: Agents, *arguments: str) -> str:
    """Ask for something without waiting; the command's id."""
    before = len(agents.asked)
    result = await atlhyper(*arguments, "--no-wait", "-o", "name")
    assert result.exit_code == 0, result.output
    await until(lambda: len(agents.asked) > before)
    return str(result.stdout.strip())


async def test_the_list(atlhyper: Run, agents: Agents) -> None:
    """The newest first, with what it was about, where it stands, and why it has failed."""
    agents.act = lambda command: (
        CommandError(code="not_found", message="no such thing") if command.action == "cordon" else {}
    )
    scaled = await asked(
        atlhyper, agents, "scale", "deploy/web", "--replicas=2", "--cluster=eu", "-n", "shop"
    )
    cordoned = await asked(atlhyper, agents, "cordon", "n1", "--cluster", "us")
    await atlhyper("commands", "wait", scaled, cordoned)
    header, first, second = words((await atlhyper("commands")).stdout)
    assert header == ["ID", "CLUSTER", "ACTION", "NAMESPACE", "OBJECT", "STATE", "AGE", "DETAIL"]
    assert first[:6] == [cordoned, "us", "cordon", "<none>", "node/n1", "failed"]
    assert first[7:] == ["no", "such", "thing"]
    assert second[:6] == [scaled, "eu", "scale", "shop", "deployment.apps/web", "succeeded"]
    for arguments, expected in (
        (("--cluster", "eu"), [scaled]),
        (("--state", "failed,unknown"), [cordoned]),
        (("--action", "scale"), [scaled]),
        (("--actor", "token/tests"), [cordoned, scaled]),
        (("--limit", "1"), [cordoned]),
    ):
        listed = await atlhyper("commands", *arguments, "-o", "name")
        assert listed.stdout.splitlines() == expected, arguments
    wide = words((await atlhyper("commands", "-o", "wide", "--action", "scale")).stdout)
    assert wide[1][wide[0].index("ACTOR")] == "token/tests"


async def test_none(atlhyper: Run) -> None:
    """An empty list is no failure."""
    result = await atlhyper("commands")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No commands found.\n")
    assert json.loads((await atlhyper("commands", "-o", "json")).stdout) == {"items": []}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--state", "bogus"), 2, "bogus"),
        (("--cluster", "nowhere"), 3, "nowhere"),
        (("show", "019a9b5e-7a00-7000-8000-000000000001"), 3, "no command '019a9b5e"),
        (("wait", "019a9b5e-7a00-7000-8000-000000000001"), 3, "no command '019a9b5e"),
        (("cancel", "019a9b5e-7a00-7000-8000-000000000001"), 3, "no command '019a9b5e"),
        (("show",), 2, "ID"),
    ],
    ids=str,
)
async def test_failures(atlhyper: Run, arguments: tuple[str, ...], code: int, text: str) -> None:
    """What cannot be found is told as everywhere."""
    result = await atlhyper("commands", *arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr


async def test_one_with_all_that_is_known(atlhyper: Run, agents: Agents) -> None:
    """In words, or whole as a document."""
    agents.act = lambda _: {"replicas": 2}
    made = await asked(atlhyper, agents, "scale", "deploy/web", "--replicas=2", "--cluster=eu", "-n", "shop")
    await atlhyper("commands", "wait", made)
    told = (await atlhyper("commands", "show", made)).stdout
    for name, value in (
        ("ID", made),
        ("Agent", "kubernetes/eu"),
        ("Object", "deployment.apps/web"),
        ("State", "succeeded"),
        ("Actor", "token/tests"),
    ):
        assert f"{name + ':':<16} {value}\n" in told
    assert told.endswith("Data:\n  replicas: 2\n")
    whole = json.loads((await atlhyper("commands", "show", made, "-o", "json")).stdout)
    assert (whole["id"], whole["data"]) == (made, {"replicas": 2})


async def test_waiting_for_what_was_asked_for_before(atlhyper: Run, agents: Agents) -> None:
    """Its exit code is the one that waiting at once would have had."""
    agents.act = lambda _: None
    first = await asked(atlhyper, agents, "restart", "deploy/web", "--cluster=eu")
    second = await asked(atlhyper, agents, "restart", "deploy/web", "--cluster=us")
    late = await atlhyper("commands", "wait", first, "--timeout", "300ms")
    assert late.exit_code == 124
    assert "the command goes on" in late.stderr
    waiting = asyncio.create_task(atlhyper("commands", "wait", first, second))
    await agents.end(first, {})
    await agents.end(second, CommandError(code="forbidden", message="may not patch"))
    result = await waiting
    assert result.exit_code == 5
    assert [row[2] for row in words(result.stdout)[1:]] == ["succeeded", "failed"]
    assert (await atlhyper("commands", "wait", second)).exit_code == 4


async def test_cancelling(atlhyper: Run, agents: Agents) -> None:
    """It is waited for until it has ended, and the reason is kept; one that has ended stays as it is."""
    agents.act = lambda _: None
    made = await asked(atlhyper, agents, "drain", "n1", "-y", "--cluster=eu")
    result = await atlhyper("commands", "cancel", made, "--reason", "wrong node")
    assert result.exit_code == 0, result.output
    assert words(result.stdout)[1][5] == "canceled"
    assert "wrong node" in (await atlhyper("commands", "show", made)).stdout
    assert (await atlhyper("commands", "cancel", made)).exit_code == 0
    agents.act = lambda _: {}
    done = await asked(atlhyper, agents, "cordon", "n1", "--cluster=eu")
    await atlhyper("commands", "wait", done)
    late = await atlhyper("commands", "cancel", done)
    assert late.exit_code == 1
    assert "has ended as succeeded" in late.stderr


async def test_cancelling_one_of_two(atlhyper: Run, agents: Agents) -> None:
    """What can be ended is; the other one is told, and the exit code is 5."""
    agents.act = lambda command: None if command.action == "drain" else {}
    open_one = await asked(atlhyper, agents, "drain", "n1", "-y", "--cluster=eu")
    ended = await asked(atlhyper, agents, "cordon", "n1", "--cluster=eu")
    await atlhyper("commands", "wait", ended)
    result = await atlhyper("commands", "cancel", open_one, ended, "-o", "name")
    assert result.exit_code == 5
    assert result.stdout.split() == [open_one]


async def test_following(served: httpx.AsyncClient, atlhyper: Run, agents: Agents, tmp_path: Path) -> None:
    """First the list, then a line for each command that is new or has changed."""
    agents.act = lambda _: None
    first = await asked(atlhyper, agents, "restart", "deploy/web", "--cluster=eu")
    async with started(str(served.base_url), tmp_path, "commands", "-w") as running:
        await running.shows(first, "accepted")
        await agents.end(first, {})
        await running.shows(first, "succeeded")
        second = await asked(atlhyper, agents, "cordon", "n1", "--cluster=us")
        await running.shows(second, "cordon", "accepted")
    assert sum("CLUSTER" in line for line in running.lines) == 1


@pytest.mark.parametrize("noun", ["commands", "operations"])
@pytest.mark.parametrize("verb", ["show", "wait", "cancel"])
async def test_an_unknown_id(atlhyper: Run, noun: str, verb: str) -> None:
    """What is advised is a command of ours, not a path of the API."""
    result = await atlhyper(noun, verb, "019a9b5e-7a00-7000-8000-000000000001")
    assert result.exit_code == 3, result.output
    assert result.stderr.splitlines()[1] == f"  next: see what there is: `atlhyper {noun}`"
