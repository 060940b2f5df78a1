"""Commands that change something, against a real API: what is asked for, what is shown, the exit codes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml

from schemas.commands import CommandError, CommandState
from services.cli.acting.running import Progress
from services.runtime.tasks import cancelled
from tests.api.fixtures import Fleet
from tests.cli.conftest import Run, words
from tests.cli.standin import Agents
from tests.cli.test_follow import started
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("two_clusters")

EU = ("--cluster", "eu")
BOTH = ("--cluster", "eu,us", "-y")


async def test_scale(atlhyper: Run, agents: Agents) -> None:
    """What is typed becomes one command with its parameters; the table says where it has ended."""
    agents.act = lambda _: {"previous_replicas": 2, "replicas": 3, "changed": True}
    result = await atlhyper("scale", "deploy/web", "--replicas", "3", "-n", "shop", *EU)
    assert (result.exit_code, result.stderr) == (0, "")
    header, row = words(result.stdout)
    assert header == ["CLUSTER", "OBJECT", "STATE", "DETAIL"]
    assert row == ["eu", "deployment.apps/web", "succeeded", "replicas", "2", "→", "3"]
    [asked] = agents.bodies()
    assert (asked["target"], asked["action"]) == ({"kind": "kubernetes", "id": "eu"}, "scale")
    assert asked["object"] == {"resource": "deployments", "namespace": "shop", "name": "web", "uid": ""}
    assert asked["params"]["replicas"] == 3
    assert asked["dry_run"] is False


@pytest.mark.parametrize(
    ("arguments", "action", "object_", "params"),
    [
        (("restart", "deployment", "web"), "restart", ("deployments", "default", "web"), {}),
        (("restart", "sts/db", "-n", "data"), "restart", ("statefulsets", "data", "db"), {}),
        (("rollback", "ds/log"), "rollback", ("daemonsets", "default", "log"), {"to_revision": 0}),
        (
            ("rollback", "deploy/web", "--to-revision=3"),
            "rollback",
            ("deployments", "default", "web"),
            {"to_revision": 3},
        ),
        (
            ("set-image", "deploy/web", "app=r.example.com:5000/a:1", "b=c@sha256:0"),
            "update_image",
            ("deployments", "default", "web"),
            {"images": {"app": "r.example.com:5000/a:1", "b": "c@sha256:0"}},
        ),
        (
            ("scale", "rs/web", "--replicas=0", "--current-replicas=2"),
            "scale",
            ("replicasets", "default", "web"),
            {"replicas": 0, "current_replicas": 2},
        ),
        (
            ("delete", "pod/web-0", "--now", "-y"),
            "delete_pod",
            ("pods", "default", "web-0"),
            {"evict": False, "grace_period": 1},
        ),
        (
            ("delete", "po", "web-0", "--grace-period=0", "--force=true", "-y"),
            "delete_pod",
            ("pods", "default", "web-0"),
            {"evict": False, "grace_period": 0},
        ),
        (
            ("delete", "pod/web-0", "--evict", "-y"),
            "delete_pod",
            ("pods", "default", "web-0"),
            {"evict": True, "grace_period": None},
        ),
        (
            ("delete", "job/import", "--cascade=orphan", "-y"),
            "delete",
            ("jobs", "default", "import"),
            {"propagation": "Orphan", "grace_period": None},
        ),
        (
            ("delete", "widgets.v1.example.com/a", "-n", "default", "-y"),
            "delete",
            ("widgets.v1.example.com", "default", "a"),
            {"propagation": "Background", "grace_period": None},
        ),
        (
            ("delete", "clusterroles.v1.rbac.authorization.k8s.io/a", "-y"),
            "delete",
            ("clusterroles.v1.rbac.authorization.k8s.io", "", "a"),
            {"propagation": "Background", "grace_period": None},
        ),
        (("delete", "node/n1", "-y"), "delete", ("nodes", "", "n1"), None),
        (("cordon", "n1"), "cordon", ("nodes", "", "n1"), {}),
        (("uncordon", "node/n1"), "uncordon", ("nodes", "", "n1"), {}),
        (
            ("drain", "n1", "-y", "--ignore-daemonsets", "--delete-emptydir-data=true", "--grace-period=5"),
            "drain",
            ("nodes", "", "n1"),
            {
                "ignore_daemon_sets": True,
                "delete_empty_dir_data": True,
                "force": False,
                "disable_eviction": False,
                "pod_selector": "",
                "grace_period": 5,
            },
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and "/" in str(value) else None,
)
async def test_what_is_asked_for(
    atlhyper: Run,
    agents: Agents,
    arguments: tuple[str, ...],
    action: str,
    object_: tuple[str, str, str],
    params: dict[str, object] | None,
) -> None:
    """kubectl's words and options, as the action and the parameters that they mean."""
    result = await atlhyper(*arguments, *EU)
    assert result.exit_code == 0, result.output
    [asked] = agents.bodies()
    about = asked["object"]
    assert (asked["action"], about["resource"], about["namespace"], about["name"]) == (action, *object_)
    if params is not None:
        assert asked["params"] == params


async def test_several_objects_and_clusters_are_one_table(atlhyper: Run, agents: Agents) -> None:
    """A command for each, all under way at a time; the table has a line for each, in the order asked for."""
    result = await atlhyper("restart", "deploy/web", "ds/log", *BOTH)
    assert result.exit_code == 0, result.output
    assert [row[:3] for row in words(result.stdout)[1:]] == [
        ["eu", "deployment.apps/web", "succeeded"],
        ["eu", "daemonset.apps/log", "succeeded"],
        ["us", "deployment.apps/web", "succeeded"],
        ["us", "daemonset.apps/log", "succeeded"],
    ]
    assert len(agents.asked) == 4


async def test_one_slow_cluster_does_not_hold_up_the_other(atlhyper: Run, agents: Agents) -> None:
    """All are asked for before any is waited for."""
    agents.act = lambda _: {} if len(agents.asked) == 2 else None
    waiting = asyncio.create_task(atlhyper("restart", "deploy/web", *BOTH))
    await until(lambda: len(agents.asked) == 2)
    await agents.end(agents.asked[0].id, {})
    assert (await waiting).exit_code == 0


async def test_partly_is_exit_code_5(atlhyper: Run, agents: Agents) -> None:
    """What has failed in one cluster is told with the API server's own words, beside what has succeeded."""
    said = 'deployments.apps "web" not found'
    missing = CommandError(code="not_found", message=said, status=404, reason="NotFound")
    agents.act = lambda command: missing if command.target.id == "us" else {}
    result = await atlhyper("restart", "deploy/web", *BOTH)
    assert result.exit_code == 5
    assert [row[2] for row in words(result.stdout)[1:]] == ["succeeded", "failed"]
    assert f"error: us: restart deployment.apps/web in default failed: {said}" in result.stderr
    assert "next: see what there is: `atlhyper get deployments -n default --cluster us`" in result.stderr


@pytest.mark.parametrize(
    ("answer", "code", "advice"),
    [
        (CommandError(code="not_found", message="no such thing"), 3, "atlhyper get deployments -n default"),
        (CommandError(code="forbidden", message="may not patch", status=403), 4, "atlhyper doctor"),
        (CommandError(code="not_allowed", message="it is read-only"), 4, "AGENT_READ_ONLY"),
        (CommandError(code="conflict", message="has been modified", status=409), 1, "look at it"),
        (CommandError(code="throttled", message="disruption budget", status=429), 1, "disruption budget"),
        (CommandError(code="timeout", message="no answer within 60s"), 124, "--timeout"),
        (CommandError(code="something-newer", message="as it says"), 1, "atlhyper commands show"),
        (CommandState.EXPIRED, 124, "--start-within"),
        (CommandState.UNKNOWN, 1, "look at the object"),
        (CommandState.CANCELED, 1, "atlhyper commands show"),
    ],
    ids=str,
)
async def test_failures(
    atlhyper: Run, agents: Agents, answer: CommandError | CommandState, code: int, advice: str
) -> None:
    """Each kind of failure has its exit code, and says what to do next; the cause is told as it came."""
    agents.act = lambda _: answer
    result = await atlhyper("restart", "deploy/web", *EU)
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    [step] = [line for line in result.stderr.splitlines() if line.startswith("  next: ")]
    assert len(errors) == 1
    if isinstance(answer, CommandError):
        assert errors[0].endswith(f"failed: {answer.message}")
    assert advice in step


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("restart", "deploy/web"), 2, "which cluster is meant?"),
        (("restart", "deploy/web", "--cluster", "eu,nowhere", "-y"), 3, "nowhere"),
        (("restart", "deploy/web", "--cluster", "eu,us"), 2, "-y says that it is"),
        (("delete", "pod/web-0", *EU), 2, "delete 1 object in 1 cluster"),
        (("drain", "n1", *EU), 2, "-y says that it is"),
        (("restart", "deploy", *EU), 2, "no object is named, only 'deploy'"),
        (("restart", *EU), 2, "KIND/NAME"),
        (("restart", "pod/web-0", *EU), 2, "restart works on daemonsets, deployments, statefulsets"),
        (("restart", "deploy/web", "-l", "app=web", *EU), 2, "exclude each other"),
        (("restart", "deploy/web", "-A", *EU), 2, "-n instead of -A"),
        (("cordon", *EU), 2, "no node is named"),
        (("scale", "deploy/web", *EU), 2, "--replicas"),
        (("scale", "deploy/web", "--replicas", "-1", *EU), 2, "--replicas"),
        (("scale", "deploy/web", "--replicas", "2000000", *EU), 2, "1000000"),
        (("delete", "svc/web", "--evict", "-y", *EU), 2, "--evict is for pods"),
        (("delete", "pod/web-0", "--grace-period", "0", "-y", *EU), 2, "add --force"),
        (("delete", "pod/web-0", "--grace-period", "3", "--now", "-y", *EU), 2, "--now excludes"),
        (("restart", "deploy/web", "--timeout", "5", *EU), 2, "--timeout"),
        (("restart", "deploy/web", "--timeout", "0s", *EU), 2, "leaves no time"),
        (("restart", "deploy/web", "--start-within", "30d", *EU), 2, "start_within"),
        (("restart", "deploy/web", "--dry-run=client", *EU), 2, "--dry-run"),
        (("set-image", "deploy/web", *EU), 2, "an image for a container"),
        (("set-image", "app=nginx", *EU), 2, "needs an object"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_what_cannot_be_meant(
    atlhyper: Run, agents: Agents, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """It is told with a next step, and nothing is asked of any cluster."""
    result = await atlhyper(*arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert agents.asked == []


async def test_a_dry_run_asks_nobody(atlhyper: Run, agents: Agents) -> None:
    """It has no effect, so it needs no -y; the command says that it is one, and so does the table."""
    for flag in ("--dry-run", "--dry-run=server"):
        result = await atlhyper("delete", "pod/web-0", flag, "--cluster", "eu,us")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("(dry run)") == 2
    assert all(command.dry_run for command in agents.asked)


async def test_what_is_selected_is_meant_as_it_was_seen(atlhyper: Run, agents: Agents) -> None:
    """Each object that matches is one command with its uid: another one of the name is not touched."""
    result = await atlhyper("delete", "pods", "--all", "-A", "-y", *EU)
    assert result.exit_code == 0, result.output
    abouts = sorted((body["object"]["namespace"], body["object"]["uid"]) for body in agents.bodies())
    assert abouts == [
        ("data", "uid-data-db-0"),
        ("default", "uid-default-web-0"),
        ("default", "uid-default-web-1"),
    ]
    assert "NAMESPACE" in result.stdout
    result = await atlhyper("delete", "pods", "--field-selector", "spec.nodeName=n1", "-y", *EU)
    assert len(agents.asked) == 5
    result = await atlhyper("cordon", "-l", "pool=old", *EU)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No resources found" in result.stderr


async def test_without_waiting(atlhyper: Run, agents: Agents) -> None:
    """What is printed are ids, for `atlhyper commands wait`; kubectl's `--wait=false` is the same."""
    agents.act = lambda _: None
    result = await atlhyper("restart", "deploy/web", "--wait=false", *EU)
    assert result.exit_code == 0, result.output
    assert words(result.stdout)[0][:4] == ["ID", "CLUSTER", "OBJECT", "STATE"]
    result = await atlhyper("restart", "deploy/web", "--no-wait", "-o", "name", *BOTH)
    assert result.stderr == ""
    await until(lambda: len(agents.asked) == 3)
    assert result.stdout.splitlines() == [command.id for command in agents.asked[1:]]


async def test_what_takes_too_long_goes_on(atlhyper: Run, agents: Agents) -> None:
    """Exit code 124; the note says how to look at it and how to end it. The agent has as long as we."""
    agents.act = lambda _: None
    result = await atlhyper("restart", "deploy/web", "--timeout", "1500ms", *EU)
    assert result.exit_code == 124
    await until(lambda: agents.asked)
    [command] = agents.asked
    assert "the command goes on" in result.stderr
    assert f"`atlhyper commands wait {command.id}`" in result.stderr
    assert f"`atlhyper commands cancel {command.id}`" in result.stderr
    assert (command.finish_by - command.start_by).total_seconds() == 1.5


async def test_one_too_late_beside_one_in_time(
    atlhyper: Run, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is partly. Here the time is up as soon as the one has been seen to end."""
    ahead, tell = 0.0, Progress.tell

    def heard(self: Progress, item: dict[str, Any]) -> None:
        nonlocal ahead
        tell(self, item)
        ahead = 60.0 if item["state"] == "succeeded" else ahead

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead, sleep=time.sleep)
    monkeypatch.setattr("services.cli.acting.running.time", clock)
    monkeypatch.setattr(Progress, "tell", heard)
    agents.act = lambda command: None if command.target.id == "us" else {}
    result = await atlhyper("restart", "deploy/web", "--timeout", "60s", *BOTH)
    assert result.exit_code == 5
    assert [row[3] for row in words(result.stdout)[1:]] == ["succeeded", "accepted"]


async def test_progress_is_told_as_it_comes(
    atlhyper: Run, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of a long command is one line on standard error, once; the table stays clean."""
    said: list[str] = []
    say = Progress.say

    def heard(self: Progress, text: str) -> None:
        say(self, text)
        said.append(text)

    monkeypatch.setattr(Progress, "say", heard)
    agents.act = lambda _: None
    draining = asyncio.create_task(atlhyper("drain", "n1", "-y", *EU))
    await until(lambda: bool(agents.asked))
    command = agents.asked[0].id
    await agents.progress(command, 1, "evicting pod default/web-0", 0, 2)
    await until(lambda: len(said) == 1)
    await agents.progress(command, 2, "evicting pod default/web-1", 1, 2)
    await until(lambda: len(said) == 2)
    await agents.end(command, {})
    result = await draining
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "eu drain node/n1: evicting pod default/web-0 (0/2)",
        "eu drain node/n1: evicting pod default/web-1 (1/2)",
    ]
    assert len(result.stdout.splitlines()) == 2


async def test_an_agent_that_is_away_is_told(fleet: Fleet, atlhyper: Run, agents: Agents) -> None:
    """Whoever waits knows for what, and until when it will be tried."""
    await fleet.state("new", {"deployments": []})
    agents.act = lambda _: None
    result = await atlhyper("restart", "deploy/web", "--timeout", "1s", "--cluster", "new")
    assert result.exit_code == 124
    assert "nothing was heard of its agent yet; it waits until" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "data", "told"),
    [
        (("scale", "deploy/web", "--replicas=3"), {"replicas": 3, "previous_replicas": 3, "changed": False},
         "3 replicas already"),
        (("scale", "deploy/web", "--replicas=1"), {"replicas": 1, "previous_replicas": 1, "changed": False},
         "1 replica already"),
        (("cordon", "n1"), {"unschedulable": True, "changed": True}, "cordoned"),
        (("uncordon", "n1"), {"unschedulable": False, "changed": False}, "uncordoned already"),
        (("set-image", "deploy/web", "app=b"), {"images": {"app": {"from": "a", "to": "b"}}, "changed": True},
         "app a → b"),
        (("rollback", "deploy/web"), {"revision": 3, "images": {}, "changed": True}, "revision 3"),
        (("drain", "n1", "-y"), {"evicted": [{}], "ignored": {}}, "1 pod evicted"),
        (("delete", "pod/web-0", "-y"), {"gone": False, "finalizers": []}, "ends in its grace period"),
        (("delete", "cm/a", "-y"), {"gone": False, "finalizers": ["x/y"]}, "ends when these let it: x/y"),
        (("delete", "cm/a", "-y"), {"gone": True, "finalizers": []}, "gone"),
        (("scale", "deploy/web", "--replicas=3"), {"of": "another version"}, "<none>"),
        (("rollback", "deploy/web"), [], "<none>"),
    ],
)  # fmt: skip
async def test_what_was_brought_about(
    atlhyper: Run, agents: Agents, arguments: tuple[str, ...], data: object, told: str
) -> None:
    """The result in a few words; what another version of the agent says, in none."""
    agents.act = lambda _: data  # type: ignore[return-value, assignment]
    result = await atlhyper(*arguments, *EU)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].endswith(f"   {told}")


async def test_documents(atlhyper: Run, agents: Agents) -> None:
    """One command is a document, several are a list; with the result as the agent gave it."""
    agents.act = lambda _: {"replicas": 3}
    one = json.loads((await atlhyper("restart", "deploy/web", "-o", "json", *EU)).stdout)
    assert (one["state"], one["success"], one["data"]) == ("succeeded", True, {"replicas": 3})
    listed = yaml.safe_load((await atlhyper("restart", "deploy/web", "-o", "yaml", *BOTH)).stdout)
    assert [item["target"]["id"] for item in listed["items"]] == ["eu", "us"]


async def test_warnings_of_the_api_server_are_told(atlhyper: Run, agents: Agents, fleet: Fleet) -> None:
    """They are on standard error, with whom they are from."""
    agents.warnings = ["spec.x is deprecated"]
    result = await atlhyper("restart", "deploy/web", *EU)
    assert "note: eu deployment.apps/web: spec.x is deprecated" in result.stderr


# --- connections -------------------------------------------------------------------------------------


@asynccontextmanager
async def cut(url: str, times: int) -> AsyncIterator[str]:
    """A proxy that swallows the first answers to a POST: the API has done it, and nobody hears of it."""
    left, to = times, httpx.URL(url)
    connections: set[asyncio.Task[Any] | None] = set()  # nobody else holds on to them

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        connections.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection(to.host, to.port)
        swallow = False

        async def forth() -> None:
            nonlocal swallow, left
            while data := await reader.read(65536):
                if data.startswith(b"POST") and left:
                    swallow, left = True, left - 1
                inner_writer.write(data)
                await inner_writer.drain()

        sending = asyncio.create_task(forth())
        try:
            while (data := await inner_reader.read(65536)) and not swallow:
                writer.write(data)
                await writer.drain()
        finally:
            await cancelled(sending)
            for each in (writer, inner_writer):
                each.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"
        for each in connections:
            assert each
            await cancelled(each)
    await asyncio.sleep(0.1)  # their sockets are closed in the event loop


async def test_a_request_whose_answer_was_lost_is_not_doubled(
    served: httpx.AsyncClient, atlhyper: Run, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again under its key, and is the same command."""
    async with cut(str(served.base_url), times=2) as url:
        monkeypatch.setenv("ATLHYPER_URL", url)
        result = await atlhyper("restart", "deploy/web", *EU)
    assert result.exit_code == 0, result.output
    assert len((await served.get("/api/v1/commands")).json()["items"]) == len(agents.asked) == 1


async def test_an_api_that_never_answers_may_have_accepted(
    served: httpx.AsyncClient, atlhyper: Run, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then that is what is said."""
    monkeypatch.setattr("services.cli.client._PAUSE", 0.01)
    async with cut(str(served.base_url), times=99) as url:
        monkeypatch.setenv("ATLHYPER_URL", url)
        result = await atlhyper("restart", "deploy/web", *EU)
    assert result.exit_code == 1
    assert "it may have accepted" in result.stderr
    assert "atlhyper commands" in result.stderr
    assert len((await served.get("/api/v1/commands")).json()["items"]) == 1


async def test_ctrl_c_says_that_it_goes_on(served: httpx.AsyncClient, agents: Agents, tmp_path: Path) -> None:
    """A real process: it ends at once with 130, the command does not."""
    agents.act = lambda _: None
    url = str(served.base_url)
    async with started(url, tmp_path, "restart", "deploy/web", "--cluster", "eu") as running:
        await until(lambda: bool(agents.asked))
        await agents.progress(agents.asked[0].id, 1, "half of it", 1, 2)
        await running.notes_have("half of it")  # by then it knows the command's id
    told = "\n".join(running.notes)
    assert "interrupted; the command goes on" in told
    assert f"atlhyper commands cancel {agents.asked[0].id}" in told
