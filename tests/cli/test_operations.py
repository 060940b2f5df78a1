"""Operations on the command line, against a real API; a stand-in takes the master's steps."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from schemas.commands import Command, CommandError
from services.cli.acting import turns
from services.persistence.commands import operations
from tests.api.commanding import announce
from tests.api.fixtures import NOW, Fleet
from tests.cli.command import run
from tests.cli.conftest import Run, words
from tests.cli.pseudoterminal import on_a_terminal
from tests.cli.standin import Agents, Answer
from tests.cli.test_completion import offered_by
from tests.cli.test_follow import started
from tests.tokens import TOKEN
from tests.waiting import until

RESTART = ("restart", "deploy/web", "-n", "shop")
ALL = ("--cluster-selector", "", "-y")
NOTHING = "019a9b5e-7a00-7000-8000-000000000001"
MISSING = CommandError(code="not_found", message='deployments.apps "web" not found')


@pytest.fixture(autouse=True)
async def clusters(fleet: Fleet) -> None:
    """Four clusters; three of them are labelled."""
    await announce(fleet, "eu-1", labels={"env": "prod", "region": "eu"})
    await announce(fleet, "eu-2", labels={"env": "test", "region": "eu"})
    await announce(fleet, "us-1", labels={"env": "prod", "region": "us"})
    await announce(fleet, "bare")
    await fleet.beats()


@pytest.fixture
async def steps(fleet: Fleet, agents: Agents) -> AsyncIterator[Agents]:
    """The steps are taken too; with `agents` alone nothing goes on."""

    async def stepping() -> None:
        while True:
            for each in await operations.running(fleet.database):
                await operations.step(fleet.database, each)
            await asyncio.sleep(0.02)

    running = asyncio.create_task(stepping())
    yield agents
    running.cancel()
    await asyncio.wait([running])


def only(answer: Answer, *names: str) -> Answer:
    """For `act`: that answer in these clusters; in the others it succeeds."""

    def act(command: Command) -> Answer:
        return answer if command.target.id in names else {}

    return act  # type: ignore[return-value]


async def asked(atlhyper: Run, *more: str) -> str:
    """A restart in all clusters that nobody waits for; its id."""
    result = await atlhyper(*RESTART, *ALL, "--no-wait", "-o", "name", *more)
    assert result.exit_code == 0, result.output
    return str(result.stdout.strip())


async def kept(served: httpx.AsyncClient, id_: str) -> dict[str, object]:
    """As the API tells it."""
    found: dict[str, object] = (await served.get(f"/api/v1/operations/{id_}")).json()
    return found


# --- asking for one ----------------------------------------------------------------------------------


async def test_to_its_end(atlhyper: Run, steps: Agents) -> None:
    """One after the other; what comes is told as it comes, the table last, exit code 0."""
    result = await atlhyper(*RESTART, "--cluster-selector", "env=prod", "-y")
    assert result.exit_code == 0, result.output
    header, *rows = words(result.stdout)
    assert header == ["CLUSTER", "STATE", "COMMAND", "SINCE", "ERROR"]
    assert [row[:2] for row in rows] == [["eu-1", "succeeded"], ["us-1", "succeeded"]]
    assert "eu-1: succeeded (1/2)" in result.stderr
    assert result.stderr.splitlines()[-1] == "us-1: succeeded (2/2)"
    assert [command.target.id for command in steps.asked] == ["eu-1", "us-1"]
    assert {(command.action, command.object.name) for command in steps.asked} == {("restart", "web")}


@pytest.mark.parametrize(
    ("options", "taken", "strategy"),
    [
        (("--max-unavailable", "2", "--cluster", "us-1,bare"), ["us-1", "bare"], (2, 0, 600.0)),
        (("--max-failures=1", "--cluster=us-1", "--cluster=eu-1"), ["us-1", "eu-1"], (1, 1, 600.0)),
        (("--cluster-selector", "!env"), ["bare"], (1, 0, 600.0)),
        (("--cluster-selector", "env=prod", "--cluster", "us-1,eu-2,eu-1"), ["us-1", "eu-1"], (1, 0, 600.0)),
        (
            ("--cluster-selector=", "--max-unavailable=30%", "--max-failures=30%", "--timeout", "90s"),
            ["bare", "eu-1", "eu-2", "us-1"],
            (2, 1, 90.0),
        ),
    ],
    ids=str,
)
async def test_which_clusters_and_how_fast(
    served: httpx.AsyncClient,
    atlhyper: Run,
    options: tuple[str, ...],
    taken: list[str],
    strategy: tuple[int, int, float],
) -> None:
    """Named ones in their order, selected ones by name; one operation is asked for, and no command."""
    result = await atlhyper(*RESTART, *options, "-y", "--no-wait", "-o", "json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert [turn["target"]["id"] for turn in made["targets"]] == taken
    found = made["strategy"]
    assert (found["max_unavailable"], found["max_failures"], found["timeout"]) == strategy
    assert f"`atlhyper operations cancel {made['id']}`" in result.stderr
    listed = (await served.get("/api/v1/operations")).json()["items"]
    assert [item["id"] for item in listed] == [made["id"]]
    assert (await served.get("/api/v1/commands")).json()["items"] == []


@pytest.mark.parametrize(
    ("arguments", "action", "params"),
    [
        (("scale", "deploy/web", "--replicas=3"), "scale", {"replicas": 3, "current_replicas": None}),
        (("set-image", "deploy/web", "app=b:2"), "update_image", {"images": {"app": "b:2"}}),
        (("rollback", "deploy/web"), "rollback", {"to_revision": 0}),
        (("delete", "pod/web-0", "--evict"), "delete_pod", {"evict": True, "grace_period": None}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_what_is_asked_for(
    atlhyper: Run, arguments: tuple[str, ...], action: str, params: dict[str, object]
) -> None:
    """The same as of one cluster."""
    result = await atlhyper(*arguments, *ALL, "--no-wait", "-o", "json", "-n", "shop")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert (made["action"], made["params"], made["object"]["namespace"]) == (action, params, "shop")


async def test_a_manifest(atlhyper: Run, steps: Agents, tmp_path: Path) -> None:
    """One goes everywhere; two are not one operation."""
    file = tmp_path / "settings.yaml"
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"
    file.write_text(one)
    result = await atlhyper("apply", "-f", str(file), "-n", "shop", "--max-unavailable=100%", *ALL)
    assert result.exit_code == 0, result.output
    assert {command.params["manifest"]["metadata"]["name"] for command in steps.asked} == {"settings"}
    assert len(steps.asked) == 4
    file.write_text(f"{one}---\n{one}")
    result = await atlhyper("apply", "-f", str(file), *ALL)
    assert result.exit_code == 2
    assert "the files hold 2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((*RESTART, "--max-unavailable", "2"), 2, "which cluster is meant?"),
        ((*RESTART, "--cluster-selector", "env=dev", "-y"), 3, "selects none of 4 clusters"),
        ((*RESTART, "--cluster-selector", "env in", "-y"), 2, "--cluster-selector"),
        ((*RESTART, "--max-failures=1", "--cluster", "eu-1,eu-9", "-y"), 3, "nothing was ever heard: eu-9"),
        (("restart", "deploy/web", "ds/log", *ALL), 2, "not for 2"),
        (("restart", "deploy", "-l", "app=web", *ALL), 2, "one object that is named"),
        (("restart", "deploy", "--all", *ALL), 2, "one object that is named"),
        ((*RESTART, *ALL, "--start-within", "1h"), 2, "--start-within is not for operations"),
        (("restart", "pod/web-0", *ALL), 2, "restart works on"),
        (
            (*RESTART, "--cluster-selector", "env", "--max-unavailable=2"),
            2,
            "restart deployment.apps/web -n shop in 3 clusters, 2 at a time, first eu-1, eu-2",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_what_cannot_be_meant(
    served: httpx.AsyncClient, atlhyper: Run, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """It is told with a next step, and nothing is stored."""
    result = await atlhyper(*arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert "  next: " in result.stderr
    assert (await served.get("/api/v1/operations")).json()["items"] == []


async def test_one_that_would_refuse_stops_all(fleet: Fleet, atlhyper: Run) -> None:
    """Denied before anything is begun."""
    await announce(fleet, "bare", read_only=True, time=NOW + timedelta(seconds=1))
    result = await atlhyper(*RESTART, *ALL)
    assert result.exit_code == 4, result.output
    assert "1 of 4 would refuse (bare)" in result.stderr


async def test_a_dry_run_asks_nobody(atlhyper: Run, steps: Agents) -> None:
    """It has no effect, so it needs no -y."""
    result = await atlhyper(*RESTART, "--cluster-selector", "env=prod", "--dry-run")
    assert result.exit_code == 0, result.output
    assert [command.dry_run for command in steps.asked] == [True, True]


@pytest.mark.parametrize(("answer", "code", "made"), [("y\n", 0, 1), ("\n", 1, 0)])
async def test_on_a_terminal_one_is_asked(
    served: httpx.AsyncClient, steps: Agents, tmp_path: Path, answer: str, code: int, made: int
) -> None:
    """How many clusters, how many at a time, and all of them in their order."""
    variables = {"ATLHYPER_URL": str(served.base_url), "ATLHYPER_TOKEN": TOKEN}
    arguments = (*RESTART, "--max-unavailable=1", "--cluster", "us-1,eu-1")
    ended, told = await asyncio.to_thread(
        on_a_terminal, *arguments, folder=tmp_path, variables=variables, typed=answer
    )
    assert ended == code, told
    assert "web -n shop in 2 clusters, 1 at a time, first us-1:" in told
    assert told.index("  us-1") < told.index("  eu-1")
    assert len((await served.get("/api/v1/operations")).json()["items"]) == made


# --- its end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failing", "failures", "code", "advice"),
    [
        (("us-1",), "1", 5, "--cluster us-1"),
        (("bare", "eu-1", "eu-2", "us-1"), "4", 1, "--cluster bare,eu-1,eu-2,us-1"),
        (("bare",), "0", 1, "atlhyper operations resume"),
    ],
    ids=["partly", "nowhere", "paused"],
)
async def test_failures(
    atlhyper: Run, steps: Agents, failing: tuple[str, ...], failures: str, code: int, advice: str
) -> None:
    """Each in its cluster's own words; 5 when some have succeeded, 1 when none has, or it is paused."""
    steps.act = only(MISSING, *failing)  # type: ignore[assignment]
    result = await atlhyper(*RESTART, *ALL, "--max-failures", failures)
    assert result.exit_code == code, result.output
    table = {row[0]: row for row in words(result.stdout)[1:]}
    for cluster in failing:
        assert (table[cluster][1], " ".join(table[cluster][4:])) == ("failed", MISSING.message)
        assert f"{cluster}: failed (" in result.stderr
    [step] = [line for line in result.stderr.splitlines() if line.startswith("  next: ")]
    assert advice in step
    if failures == "0":
        assert [row[1] for row in table.values()] == ["failed", "waiting", "waiting", "waiting"]


async def test_what_takes_too_long_goes_on(atlhyper: Run, steps: Agents) -> None:
    """Exit code 124, and how to look at it, to hold it and to end it."""
    steps.act = lambda _: None
    made = await asked(atlhyper)
    await until(lambda: steps.asked)
    result = await atlhyper("operations", "wait", made, "--timeout", "1s")
    assert result.exit_code == 124, result.output
    for decision in ("wait", "pause", "cancel"):
        assert f"`atlhyper operations {decision} {made}`" in result.stderr
    assert words(result.stdout)[1][1] == "accepted"


async def test_ctrl_c_says_that_it_goes_on(served: httpx.AsyncClient, steps: Agents, tmp_path: Path) -> None:
    """A real process: it ends at once with 130, the operation does not."""
    steps.act = lambda _: None
    async with started(str(served.base_url), tmp_path, *RESTART, *ALL) as running:
        await running.notes_have("bare: begun")
    told = "\n".join(running.notes)
    [made] = (await served.get("/api/v1/operations")).json()["items"]
    assert f"interrupted; the operation goes on: look with `atlhyper operations wait {made['id']}`" in told
    assert f"`atlhyper operations pause {made['id']}`" in told
    assert made["state"] == "running"


# --- looking at it, and deciding of it -----------------------------------------------------------------


async def test_the_list(atlhyper: Run, steps: Agents) -> None:
    """The newest first, with how far each is and why it stands."""
    first = await asked(atlhyper)
    assert (await atlhyper("operations", "wait", first)).exit_code == 0
    steps.act = only(MISSING, "bare")  # type: ignore[assignment]
    second = await asked(atlhyper)
    assert (await atlhyper("operations", "wait", second)).exit_code == 1
    header, newer, older = words((await atlhyper("operations")).stdout)
    assert header == ["ID", "ACTION", "NAMESPACE", "OBJECT", "STATE", "SUCCEEDED", "AGE", "REASON"]
    assert newer[:6] == [second, "restart", "shop", "deployment.apps/web", "paused", "0/4"]
    assert older[:6] == [first, "restart", "shop", "deployment.apps/web", "succeeded", "4/4"]
    listed = await atlhyper("operations", "--state", "running,paused", "-o", "name")
    assert listed.stdout.split() == [second]
    wide = words((await atlhyper("operations", "-o", "wide", "--limit", "1")).stdout)
    assert wide[1][wide[0].index("ACTOR")] == "token/tests"
    whole = json.loads((await atlhyper("operations", "-o", "json")).stdout)
    assert [item["id"] for item in whole["items"]] == [second, first]


async def test_none(atlhyper: Run) -> None:
    """An empty list is no failure."""
    result = await atlhyper("operations")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No operations found.\n")


@pytest.mark.parametrize("word", ["show", "wait", "pause", "resume", "cancel"])
async def test_unknown_ones(atlhyper: Run, word: str) -> None:
    """Not found, and where to look."""
    result = await atlhyper("operations", word, NOTHING)
    assert result.exit_code == 3, result.output
    assert f"no operation '{NOTHING}'" in result.stderr


async def test_pausing_and_going_on(served: httpx.AsyncClient, atlhyper: Run, steps: Agents) -> None:
    """Nothing further begins until it is resumed; the reason is kept; who waits is told how it goes on."""
    steps.act = lambda _: None
    made = await asked(atlhyper)
    await until(lambda: len(steps.asked) == 1)
    paused = await atlhyper("operations", "pause", made, "--reason", "a look")
    assert paused.exit_code == 0, paused.output
    assert f"{'State:':<16} paused\n{'Reason:':<16} a look\n" in paused.stdout
    assert f"{'Clusters:':<16} 4: " in paused.stdout
    waited = await atlhyper("operations", "wait", made)
    assert waited.exit_code == 1
    assert f"error: operation {made} is paused: a look" in waited.stderr
    assert f"`atlhyper operations resume {made}` goes on" in waited.stderr
    await steps.end(steps.asked[0].id, {})
    await asyncio.sleep(0.2)
    assert len(steps.asked) == 1
    steps.act = lambda _: {}
    assert (await atlhyper("operations", "resume", made)).exit_code == 0
    assert (await atlhyper("operations", "wait", made)).exit_code == 0
    again = await atlhyper("operations", "resume", made)
    assert again.exit_code == 1
    assert "has ended as succeeded" in again.stderr
    assert (await kept(served, made))["state"] == "succeeded"


async def test_cancelling(atlhyper: Run, steps: Agents) -> None:
    """What is under way is ended too, and waited for; partly when something was done by then."""
    steps.act = only(None, "eu-1")  # type: ignore[assignment]
    made = await asked(atlhyper)
    await until(lambda: len(steps.asked) == 2)
    result = await atlhyper("operations", "cancel", made, "--reason", "the wrong version")
    assert result.exit_code == 0, result.output
    waited = await atlhyper("operations", "wait", made)
    assert waited.exit_code == 5, waited.output
    assert "bare: succeeded" not in waited.stderr
    assert [row[1] for row in words(waited.stdout)[1:]] == ["succeeded", "canceled", "waiting", "waiting"]
    assert f"operation {made} ended as canceled: the wrong version" in waited.stderr


@pytest.mark.parametrize(
    ("state", "turn", "expected"),
    [
        ("running", "succeeded", False),
        ("paused", "running", True),
        ("canceled", "running", False),
        ("canceled", "canceled", True),
        ("canceled", None, True),
        ("succeeded", "succeeded", True),
    ],
)
def test_until_when_one_waits(state: str, turn: str | None, expected: bool) -> None:
    """Until everything that was begun has ended; a pause ends the waiting: only a person ends the pause."""
    assert turns.stands({"state": state, "targets": [{"state": turn}]}) is expected


async def test_ids_are_completed(served: httpx.AsyncClient, atlhyper: Run, tmp_path: Path) -> None:
    """From the API, as far as they are typed."""
    made = await asked(atlhyper)
    assert await offered_by(served, "atlhyper operations show 0", tmp_path) == [made]


async def test_labels_are_shown(atlhyper: Run) -> None:
    """Of agents and of clusters, where there is room: by them they are selected."""
    for arguments in (("agents",), ("get", "clusters")):
        header, *rows = (await atlhyper(*arguments, "-o", "wide")).stdout.splitlines()
        place = header.index("LABELS")
        told = [line[place:].split()[0] for line in rows]
        assert told == ["<none>", "env=prod,region=eu", "env=test,region=eu", "env=prod,region=us"]


async def test_portions(tmp_path: Path) -> None:
    """A number, or percent; what is neither is told before anything is asked."""
    for given, text in (("0", "less than 1"), ("101%", "more than 100%"), ("x", "neither a number")):
        result = await asyncio.to_thread(run, *RESTART, "--max-unavailable", given, folder=tmp_path)
        assert result.returncode == 2
        assert text in result.stderr
