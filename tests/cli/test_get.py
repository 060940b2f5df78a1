"""`atlhyper get` and `atlhyper agents` against a real API: what stands where, and the exit codes."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from msgspec import Raw

from schemas.frames import Frame, Phase, Put
from schemas.ids import kubernetes
from schemas.kubernetes.pod import Pod
from services.cli import render
from services.cli.resources import plural
from services.persistence import queries
from services.persistence.database.errors import QueryTimeout
from tests.api.commanding import announce
from tests.api.fixtures import NOW, Fleet, meta
from tests.cli.conftest import Run, words


@pytest.mark.usefixtures("two_clusters")
async def test_a_table_as_kubectl_prints_it(atlhyper: Run) -> None:
    """One cluster and the namespace `default`: kubectl's columns and nothing else; nothing on stderr."""
    result = await atlhyper("get", "po", "--cluster", "eu")
    assert result.exit_code == 0
    assert result.stderr == ""
    header, *rows = words(result.stdout)
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[:4] for row in rows] == [["web-0", "0/0", "Running", "0"], ["web-1", "0/0", "Running", "0"]]


@pytest.mark.usefixtures("two_clusters")
async def test_several_clusters_and_all_namespaces_have_their_columns(atlhyper: Run) -> None:
    """Without --cluster it is the whole fleet; each row says where it is from."""
    result = await atlhyper("get", "pods", "-A")
    header, *rows = words(result.stdout)
    assert header[:3] == ["CLUSTER", "NAMESPACE", "NAME"]
    assert [row[:3] for row in rows] == [
        ["eu", "data", "db-0"],
        ["eu", "default", "web-0"],
        ["eu", "default", "web-1"],
        ["us", "default", "web-0"],
    ]


@pytest.mark.usefixtures("two_clusters")
async def test_wide_shows_the_rest(atlhyper: Run) -> None:
    """`-o wide` adds what kubectl adds: IP, node, nominated node, readiness gates."""
    header, first, *_ = words((await atlhyper("get", "pods", "--cluster", "eu", "-o", "wide")).stdout)
    assert {"NODE", "IP", "NOMINATED-NODE", "READINESS-GATES"} <= set(header)
    assert {"n1", "10.0.0.1"} <= set(first)
    assert "UID" not in header


@pytest.mark.usefixtures("two_clusters")
async def test_json_and_yaml_hold_the_whole_objects(atlhyper: Run) -> None:
    """`-o json` and `-o yaml` are the rows with their projections; one object is not wrapped in a list."""
    listed = json.loads((await atlhyper("get", "pods", "--cluster", "eu", "-o", "json")).stdout)
    assert [item["object"]["metadata"]["name"] for item in listed["items"]] == ["web-0", "web-1"]
    one = yaml.safe_load((await atlhyper("get", "pod/web-0", "--cluster", "eu", "-o", "yaml")).stdout)
    assert (one["cluster"], one["object"]["spec"]["nodeName"]) == ("eu", "n1")


@pytest.mark.usefixtures("two_clusters")
async def test_names(atlhyper: Run) -> None:
    """`-o name` is kubectl's `kind[.group]/name`."""
    assert (await atlhyper("get", "po", "--cluster", "us", "-o", "name")).stdout == "pod/web-0\n"
    assert (
        await atlhyper("get", "deploy", "--cluster", "eu", "-o", "name")
    ).stdout == "deployment.apps/web\n"


@pytest.mark.usefixtures("two_clusters")
async def test_several_resources(atlhyper: Run) -> None:
    """As kubectl: a table each, a blank line between, names with their kind; empty ones are left out."""
    result = await atlhyper("get", "deploy,po,no", "--cluster", "eu")
    assert (result.exit_code, result.stderr) == (0, "")
    blocks = [words(block) for block in result.stdout.split("\n\n")]
    assert [block[0][0] for block in blocks] == ["NAME"] * 3
    names = [row[0] for block in blocks for row in block[1:]]
    assert names == ["deployment.apps/web", "pod/web-0", "pod/web-1", "node/n1"]
    named = (await atlhyper("get", "deploy,po,no", "--cluster", "eu", "-o", "name")).stdout
    assert named.splitlines() == names
    whole = json.loads((await atlhyper("get", "deploy,po,no", "--cluster", "eu", "-o", "json")).stdout)
    assert [item["object"]["metadata"]["name"] for item in whole["items"]] == ["web", "web-0", "web-1", "n1"]
    partly = (await atlhyper("get", "deploy,po,no", "-n", "data", "--cluster", "eu", "-o", "name")).stdout
    assert partly.splitlines() == ["pod/db-0", "node/n1"]
    none = await atlhyper("get", "deploy,po", "-n", "empty", "--cluster", "eu")
    assert (none.exit_code, none.stdout) == (0, "")
    assert none.stderr.count("No resources found in empty namespace.") == 1


@pytest.mark.usefixtures("two_clusters")
async def test_a_cluster_scoped_resource_needs_no_namespace(atlhyper: Run) -> None:
    """Nodes are found without -A and have no namespace column."""
    header, row = words((await atlhyper("get", "no", "--cluster", "eu")).stdout)
    assert (header[0], row[0]) == ("NAME", "n1")
    assert words((await atlhyper("get", "node", "n1", "--cluster", "eu")).stdout)[1][0] == "n1"


@pytest.mark.usefixtures("two_clusters")
async def test_nothing_found_is_no_failure_but_a_remark(atlhyper: Run) -> None:
    """As kubectl: exit code 0, the remark on stderr, and that -A exists."""
    result = await atlhyper("get", "pods", "-n", "empty", "--cluster", "eu")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No resources found in empty namespace." in result.stderr
    assert "-A" in result.stderr
    as_json = await atlhyper("get", "pods", "-n", "empty", "--cluster", "eu", "-o", "json")
    assert json.loads(as_json.stdout) == {"items": []}


async def test_lists_are_whole_whatever_the_size_of_a_page(
    fleet: Fleet, atlhyper: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages are read; --limit cuts, also in the middle of one."""
    monkeypatch.setattr("services.cli.client.PAGE", 3)
    await fleet.state("eu", {"pods": [Pod(metadata=meta(f"web-{n}", "default")) for n in range(8)]})
    assert len(words((await atlhyper("get", "pods")).stdout)) == 1 + 8
    assert len(words((await atlhyper("get", "pods", "--limit", "5")).stdout)) == 1 + 5


@pytest.mark.usefixtures("two_clusters")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("get", "pods", "web-9", "--cluster", "eu"), 3, "has no pods default/web-9"),
        (("get", "pods", "web-9"), 3, "no cluster has pods default/web-9"),
        (("get", "gadgets", "--cluster", "eu"), 3, "known resources: configmaps"),
        (("get", "pods", "--cluster", "nowhere"), 3, "eu, us"),
        (("get", "pods", "--cluster", "eu,nowhere"), 5, "no agent kubernetes/nowhere"),
        (("get", "pods", "web-1", "--cluster", "eu,us"), 5, "kubernetes/us has no pods"),
        (("get", "pods", "web-0", "-A"), 2, "-n instead of -A"),
        (("get", "pods", "-o", "xml"), 2, "xml"),
        (("get",), 2, "RESOURCE"),
        (("get", ","), 2, "RESOURCE"),
        (("get", "pods,gadgets", "--cluster", "eu"), 3, "known resources: configmaps"),
        (("get", "pods", "--cluster", "EU"), 2, "a-z, 0-9"),
        (("get", "cluster", "nowhere"), 3, "known clusters: eu, us"),
        (("agents", "nowhere"), 3, "known agents: eu, us"),
    ],
)
async def test_failures(atlhyper: Run, arguments: tuple[str, ...], code: int, text: str) -> None:
    """Each kind of failure has its exit code, and the cause with a next step is on stderr."""
    result = await atlhyper(*arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr


@pytest.mark.usefixtures("two_clusters")
@pytest.mark.parametrize("command", [("get", "pod"), ("get", "pods", "-n"), ("describe", "pod"), ("agents",)])
async def test_what_was_typed_does_nothing_to_the_terminal(atlhyper: Run, command: tuple[str, ...]) -> None:
    """Escape sequences and marks that turn text around are shown as what they are."""
    result = await atlhyper(*command, "a\x1b[31mb\u202ec", color=True)
    assert "a\\x1b[31mb\\x202ec" in result.stderr
    assert not {"\x1b", "\u202e"} & set(result.stderr)


@pytest.mark.usefixtures("two_clusters")
async def test_a_named_object_need_not_be_in_every_cluster(atlhyper: Run) -> None:
    """Without --cluster, the clusters that have it are shown, and that is no failure."""
    result = await atlhyper("get", "pod", "web-1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [row[0] for row in words(result.stdout)[1:]] == ["eu"]


@pytest.mark.usefixtures("two_clusters")
async def test_partial_answers_are_shown(atlhyper: Run) -> None:
    """Exit code 5 comes with the rows that could be had."""
    result = await atlhyper("get", "pods", "--cluster", "eu,nowhere")
    assert "web-0" in result.stdout


async def test_an_api_that_is_not_there(atlhyper: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the cause and what to do, and no traceback."""
    monkeypatch.setenv("ATLHYPER_URL", "http://127.0.0.1:1")
    for arguments in (("get", "pods"), ("agents",)):
        result = await atlhyper(*arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: no API answers at http://127.0.0.1:1")
        assert "atlhyper up" in result.stderr
        assert len(result.stderr.splitlines()) == 2


async def test_an_api_that_says_nothing(atlhyper: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 124, as of `timeout`; it is there, so nobody is told to start one."""
    monkeypatch.setattr("services.cli.client.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("ATLHYPER_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        result = await atlhyper("get", "pods")
    assert result.exit_code == 124
    assert "did not answer within 0.2s" in result.stderr
    assert "atlhyper up" not in result.stderr


@pytest.mark.usefixtures("two_clusters")
async def test_a_query_that_takes_too_long(atlhyper: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 124, with the API's own next step."""

    async def slow(*_: object, **__: object) -> None:
        raise QueryTimeout("the database had no answer after 10s")

    monkeypatch.setattr(queries, "list_resources", slow)
    result = await atlhyper("get", "pods")
    assert result.exit_code == 124
    assert "after 10s" in result.stderr
    assert "narrow it" in result.stderr


async def test_an_old_or_incomplete_answer_says_so(fleet: Fleet, atlhyper: Run) -> None:
    """A lost cluster's rows and a forbidden kind are shown with a note on stderr; stdout stays clean."""
    old = NOW - timedelta(hours=1)
    await fleet.beats()
    epoch = await fleet.state("eu", {"pods": [Pod(metadata=meta("web-0", "default"))]}, time=old)
    collection = {"pods": ("synced", ""), "secrets": ("forbidden", "secrets is forbidden")}
    await fleet.heartbeat("eu", collection, epoch=epoch, time=old)
    result = await atlhyper("get", "pods")
    assert len(words(result.stdout)) == 2
    assert "note: cluster eu is lost; its rows are as of 2026-11-21T07:00:00Z" in result.stderr
    result = await atlhyper("get", "secrets", "-A")
    assert result.stdout == ""
    assert "secrets of cluster eu may not be complete: forbidden: secrets is forbidden" in result.stderr


async def test_a_row_that_could_not_be_read_is_shown_all_the_same(fleet: Fleet, atlhyper: Run) -> None:
    """Its name is there, its columns are empty; an escape sequence never reaches the terminal."""
    epoch = await fleet.state("eu", {"pods": [Pod(metadata=meta("a", "default"))]})
    hostile = (
        b'{"metadata":{"name":"b","namespace":"default","uid":"u"},"status":{"phase":"\\u001b[31mRed\\n"}}'
    )
    broken = b'{"metadata": 3}'
    items = [
        Put(resource="pods", namespace="default", name=name, uid="u", body=Raw(body))
        for name, body in (("b", hostile), ("c", broken))
    ]
    await fleet.frames(kubernetes("eu"), [Frame(epoch=epoch, sequence=4, phase=Phase.DATA, items=[*items])])
    result = await atlhyper("get", "pods")
    assert result.exit_code == 0
    assert [row[0] for row in words(result.stdout)] == ["NAME", "a", "b", "c"]
    assert "\x1b" not in result.stdout
    assert "\\x1b[31mRed" in result.stdout


async def test_events(fleet: Fleet, atlhyper: Run) -> None:
    """Events have kubectl's columns: when, what kind, why, about what, in which words."""
    await fleet.state("eu", {"events": []})
    await fleet.event("eu", "e1")
    header, row = (await atlhyper("get", "events", "-n", "shop")).stdout.splitlines()
    assert header.split() == ["LAST-SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "BackOff   pod/web-0   Back-off restarting failed container" in row


@pytest.mark.usefixtures("two_clusters")
async def test_agents_show_their_problems(fleet: Fleet, atlhyper: Run) -> None:
    """State, version and freshness of each, and what it cannot collect; the reason with `-o wide`."""
    collection = {"pods": ("synced", ""), "secrets": ("forbidden", "may not list")}
    await fleet.heartbeat("us", collection, time=NOW + timedelta(seconds=1))
    for arguments in (("agents",), ("get", "agents")):
        lines = (await atlhyper(*arguments)).stdout.splitlines()
        assert lines[0].split() == [
            "KIND",
            "ID",
            "STATE",
            "VERSION",
            "AS-OF",
            "AGENT",
            "PLATFORM",
            "PROBLEMS",
        ]
        assert lines[2].split()[:3] == ["kubernetes", "us", "live"]
        assert lines[2].endswith("secrets forbidden")
    assert "secrets forbidden (may not list)" in (await atlhyper("agents", "-o", "wide")).stdout
    assert (await atlhyper("get", "clusters", "-o", "name")).stdout == "kubernetes/eu\nkubernetes/us\n"
    assert json.loads((await atlhyper("agents", "us", "-o", "json")).stdout)["id"] == "us"


@pytest.mark.usefixtures("two_clusters")
async def test_an_agent_shows_what_it_can_do(fleet: Fleet, atlhyper: Run) -> None:
    """Of one agent, the actions that it has announced, with the names of their parameters; whole in JSON."""
    schema = {"properties": {"replicas": {"type": "integer"}, "current_replicas": {}}}
    actions = {"scale": schema, "restart": {}}
    await announce(fleet, "us", actions=actions, time=NOW + timedelta(seconds=1))
    for arguments in (("agents", "us", "-o", "wide"), ("get", "clusters", "us", "-o", "wide")):
        lines = (await atlhyper(*arguments)).stdout.splitlines()
        assert lines[2:] == [
            "",
            "ACTION    PARAMETERS",
            "restart   <none>",
            "scale     replicas, current_replicas",
        ]
    assert json.loads((await atlhyper("agents", "us", "-o", "json")).stdout)["actions"] == actions
    for arguments in (("agents", "us"), ("agents", "-o", "wide"), ("agents", "eu", "-o", "wide")):
        assert "ACTION" not in (await atlhyper(*arguments)).stdout


@pytest.mark.usefixtures("two_clusters")
async def test_who_else_uses_an_id_is_a_problem_of_it(fleet: Fleet, atlhyper: Run) -> None:
    """An agent that stands by is told in the row of the one that serves, with the next step."""
    reason = "another agent serves kubernetes/us; give one of them an id of its own"
    time = NOW + timedelta(seconds=1)
    await fleet.heartbeat("us", epoch="older", status="standby", last_error=reason, time=time)
    row = (await atlhyper("agents", "us")).stdout.splitlines()[1]
    assert row.endswith(f"another agent (version 0.1.0) uses this id: {reason}")


@pytest.mark.usefixtures("two_clusters")
async def test_an_unhealthy_agent_says_why(fleet: Fleet, atlhyper: Run) -> None:
    """What it says of itself is a problem, unless its resources have said it already."""
    collection = {"secrets": ("forbidden", "may not list")}
    for second, error, told in (
        (1, "secrets: may not list", "secrets forbidden"),
        (2, "the API server answers 401", "secrets forbidden; the API server answers 401"),
        (3, "", "secrets forbidden"),
    ):
        time = NOW + timedelta(seconds=second)
        await fleet.heartbeat("us", collection, last_error=error, time=time)
        assert (await atlhyper("agents", "us")).stdout.splitlines()[1].endswith(f"  {told}")


async def test_an_empty_fleet(atlhyper: Run) -> None:
    """Before the first agent every list is empty, and the note says how one appears."""
    for arguments in (("get", "pods"), ("get", "clusters"), ("agents",)):
        result = await atlhyper(*arguments)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "first heartbeat" in result.stderr


@pytest.mark.parametrize(
    ("word", "resource"),
    [
        ("po", "pods"),
        ("pod", "pods"),
        ("Pods", "pods"),
        ("deploy", "deployments"),
        ("deployment.apps", "deployments"),
        ("deployments.apps", "deployments"),
        ("ing", "ingresses"),
        ("ingress", "ingresses"),
        ("svc", "services"),
        ("sts", "statefulsets"),
        ("ds", "daemonsets"),
        ("rs", "replicasets"),
        ("cj", "cronjobs"),
        ("cm", "configmaps"),
        ("ns", "namespaces"),
        ("no", "nodes"),
        ("pv", "persistentvolumes"),
        ("pvc", "persistentvolumeclaims"),
        ("hpa", "horizontalpodautoscalers"),
        ("ev", "events"),
        ("widgets.example.com", "widgets.example.com"),
    ],
)
def test_resources_as_people_write_them(word: str, resource: str) -> None:
    """kubectl's plural, singular, short name and group are all understood."""
    assert plural(word) == resource


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=0), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(seconds=120), "2m"),
        (timedelta(minutes=3, seconds=12), "3m12s"),
        (timedelta(minutes=10, seconds=30), "10m"),
        (timedelta(minutes=179), "179m"),
        (timedelta(hours=3), "3h"),
        (timedelta(hours=7, minutes=59), "7h59m"),
        (timedelta(hours=8, minutes=1), "8h"),
        (timedelta(hours=47), "47h"),
        (timedelta(hours=48), "2d"),
        (timedelta(days=7, hours=23), "7d23h"),
        (timedelta(days=8, hours=3), "8d"),
        (timedelta(days=729), "729d"),
        (timedelta(days=730), "2y"),
        (timedelta(days=800), "2y70d"),
        (timedelta(days=3000), "8y"),
        (timedelta(seconds=-1), "0s"),
        (timedelta(seconds=-60), "<invalid>"),
    ],
)
def test_ages(ago: timedelta, text: str) -> None:
    """Ages read as in kubectl."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert render.age(now - ago, now) == text
