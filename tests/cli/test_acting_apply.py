"""`atlhyper apply` and `get --live` against a real API: what files hold, in which order and namespace."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.commands import Command, CommandError
from schemas.kubernetes.workload import Deployment
from tests.api.fixtures import Fleet, meta
from tests.cli.conftest import Run, words
from tests.cli.standin import Agents, Answer


@pytest.fixture(autouse=True)
async def one_cluster(fleet: Fleet) -> None:
    """`eu`, whose agent does what it is asked."""
    await fleet.beats()
    epoch = await fleet.state("eu", {"deployments": [Deployment(metadata=meta("web", "default"))]})
    await fleet.heartbeat("eu", {"deployments": ("synced", "")}, epoch=epoch, journal="journal-eu")


def manifest(kind: str, name: str, namespace: str = "", **more: object) -> dict[str, object]:
    """A small one."""
    version = "apps/v1" if kind == "Deployment" else "v1"
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where}, **more}


def manifests(agents: Agents) -> list[dict[str, Any]]:
    """What was asked to be applied, in this order."""
    return [body["params"]["manifest"] for body in agents.bodies()]


async def test_the_only_cluster_need_not_be_named(atlhyper: Run, agents: Agents) -> None:
    """Where there is one, it is meant; changing things there asks nobody."""
    result = await atlhyper("restart", "deploy/web")
    assert result.exit_code == 0, result.output
    assert [command.target.id for command in agents.asked] == ["eu"]


async def test_documents_are_applied_in_their_order(atlhyper: Run, agents: Agents, tmp_path: Path) -> None:
    """Each after the end of the one before it: a namespace is there before what is in it."""
    objects = [
        manifest("Namespace", "shop"),
        manifest("ConfigMap", "a", "shop"),
        manifest("Deployment", "web"),
    ]
    (tmp_path / "all.yaml").write_text("---\n" + yaml.safe_dump_all(objects) + "---\n# nothing\n")
    agents.act = lambda _: None
    applying = asyncio.create_task(atlhyper("apply", "-f", str(tmp_path / "all.yaml")))
    for number in range(3):
        while len(agents.asked) <= number:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert len(agents.asked) == number + 1
        await agents.end(agents.asked[number].id, {"operation": "created"})
    result = await applying
    assert result.exit_code == 0, result.output
    assert [row[2:4] for row in words(result.stdout)[1:]] == [
        ["namespace/shop", "succeeded"],
        ["configmap/a", "succeeded"],
        ["deployment.apps/web", "succeeded"],
    ]
    assert [body["params"]["namespace"] for body in agents.bodies()] == ["default"] * 3
    listed = words((await atlhyper("commands")).stdout)
    assert [row[3:5] for row in listed[:0:-1]] == [
        ["<none>", "namespace/shop"],
        ["shop", "configmap/a"],
        ["default", "deployment.apps/web"],
    ]


async def test_a_large_one_in_the_list(atlhyper: Run, agents: Agents, tmp_path: Path) -> None:
    """A list is without parameters that are large: a dash, and where the object can be seen."""
    large = manifest("ConfigMap", "large", "shop", data={"text": "x" * 5000})
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(large))
    applied = await atlhyper("apply", "-f", str(tmp_path / "a.yaml"))
    assert words(applied.stdout)[1][1] == "configmap/large"
    images = [f"c{number}={'i' * 100}" for number in range(60)]
    assert (await atlhyper("set-image", "deploy/web", *images, "-n", "shop")).exit_code == 0
    for arguments in ((), ("-o", "wide")):
        listed = await atlhyper("commands", *arguments)
        assert [row[2:5] for row in words(listed.stdout)[1:]] == [
            ["update_image", "shop", "deployment.apps/web"],
            ["apply", "-", "-"],
        ]
        [note] = listed.stderr.splitlines()
        assert note.endswith(f"`atlhyper commands show {agents.asked[0].id}` has them")
    shown = (await atlhyper("commands", "show", agents.asked[0].id)).stdout
    assert "Object:          configmap/large" in shown
    assert "Namespace:       shop" in shown
    assert (await atlhyper("commands", "-o", "name")).stderr == ""


async def test_one_that_fails_does_not_keep_back_the_others(
    atlhyper: Run, agents: Agents, tmp_path: Path
) -> None:
    """As with kubectl; a conflict names the option that solves it."""

    def act(command: Command) -> Answer:
        if command.params["manifest"]["metadata"]["name"] == "a":
            return CommandError(code="conflict", message='conflict with "kubectl": .data.x', status=409)
        return {}

    agents.act = act
    (tmp_path / "a.yaml").write_text(
        yaml.safe_dump_all([manifest("ConfigMap", "a"), manifest("ConfigMap", "b")])
    )
    result = await atlhyper("apply", "-f", str(tmp_path / "a.yaml"), "-n", "shop")
    assert result.exit_code == 5
    assert "error: eu: apply configmap/a in shop failed: conflict with" in result.stderr
    assert "--force-conflicts" in result.stderr
    result = await atlhyper("apply", "-f", str(tmp_path / "a.yaml"), "--force-conflicts", "--dry-run")
    assert [body["params"]["force"] for body in agents.bodies()] == [False, False, True, True]
    assert [body["dry_run"] for body in agents.bodies()] == [False, False, True, True]


async def test_files_folders_and_standard_input(atlhyper: Run, agents: Agents, tmp_path: Path) -> None:
    """A folder's files by name, those below it with -R; a list is its items; JSON is YAML."""
    folder = tmp_path / "manifests"
    (folder / "below").mkdir(parents=True)
    (folder / "b.yml").write_text(yaml.safe_dump(manifest("ConfigMap", "b")))
    (folder / "a.json").write_text('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}')
    (folder / "notes.txt").write_text("not a manifest: [")
    (folder / "below" / "c.yaml").write_text(
        yaml.safe_dump(
            {"apiVersion": "v1", "kind": "List", "items": [manifest("ConfigMap", n) for n in "cd"]}
        )
    )
    for arguments, stdin, names in (
        ((str(folder),), "", "ab"),
        ((str(folder), "-R"), "", "abcd"),
        ((str(folder / "b.yml"), "-f", str(folder / "a.json")), "", "ba"),
        (("-",), yaml.safe_dump(manifest("ConfigMap", "s")), "s"),
    ):
        agents.asked.clear()
        result = await atlhyper("apply", "-f", *arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        assert "".join(each["metadata"]["name"] for each in manifests(agents)) == names


async def test_an_address(atlhyper: Run, agents: Agents) -> None:
    """What is served there is applied; what cannot be had is told."""
    async with serving(yaml.safe_dump(manifest("ConfigMap", "served")).encode()) as url:
        assert (await atlhyper("apply", "-f", f"{url}/a.yaml")).exit_code == 0
        missing = await atlhyper("apply", "-f", f"{url}/missing.yaml")
    assert [each["metadata"]["name"] for each in manifests(agents)] == ["served"]
    assert missing.exit_code == 1
    assert "404" in missing.stderr


async def test_values_are_read_as_kubectl_reads_them(atlhyper: Run, agents: Agents) -> None:
    """A date and `22:22` are texts, an octal mode and `1e3` are numbers."""
    text = """{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {date: 2026-11-21, time: 22:22,
        mode: 0644, other: 0o644, number: 1e3, float: 0.5, negative: -7, truth: yes}}"""
    assert (await atlhyper("apply", "-f", "-", stdin=text)).exit_code == 0
    assert manifests(agents)[0]["data"] == {
        "date": "2026-11-21",
        "time": "22:22",
        "mode": 420,
        "other": 420,
        "number": 1000.0,
        "float": 0.5,
        "negative": -7,
        "truth": True,
    }


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("a: [", (), "standard input is not YAML"),
        ("just words", (), "is no object"),
        ("kind: ConfigMap\nmetadata: {name: a}", (), "has no apiVersion"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}", (), "has no metadata.name"),
        (yaml.safe_dump(manifest("ConfigMap", "a", "shop")), ("-n", "other"), "its namespace is shop"),
        ("", (), "no object in standard input"),
        ("---\n{}\n", (), "has no apiVersion and no kind and no metadata.name"),
        (yaml.safe_dump_all([manifest("ConfigMap", "a"), "oops"]), (), "document 2 is no object"),
    ],
)
async def test_what_cannot_be_applied(
    atlhyper: Run, agents: Agents, text: str, arguments: tuple[str, ...], says: str
) -> None:
    """Nothing is applied unless all of it can be read."""
    result = await atlhyper("apply", "-f", "-", *arguments, stdin=text)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert agents.asked == []


# --- live ---------------------------------------------------------------------------------------------


async def test_live(atlhyper: Run, agents: Agents) -> None:
    """The object as its agent has read it just now, whole; beside it, how old that is."""
    now = manifest("Deployment", "web", "default", spec={"replicas": 7})
    agents.act = lambda _: {"object": now, "read_at": "2026-11-21T08:00:00Z"}
    result = await atlhyper("get", "deploy/web", "--live", "-o", "yaml")
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(result.stdout) == now
    assert re.search(r"eu: deployments/web as of 2026-11-21T08:00:00Z, [\d.]+s ago, redacted", result.stderr)
    assert agents.asked[0].params["verb"] == "get"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("deploy", "--live", "-o", "yaml"), 2, "objects that are named"),
        (("deploy/web", "--live"), 2, "add -o yaml"),
        (("deploy/web", "--live", "-w"), 2, "exclude each other"),
        (("deploy/web", "--live", "-A", "-o", "yaml"), 2, "needs its namespace"),
        (("deploy/web", "--live", "-l", "a=b", "-o", "yaml"), 2, "exclude each other"),
        (("deploy/none", "--live", "-o", "yaml"), 3, "not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_live_failures(
    atlhyper: Run, agents: Agents, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """What the API server has said is told."""
    said = 'deployments.apps "none" not found'
    agents.act = lambda _: CommandError(code="not_found", message=said, status=404)
    result = await atlhyper("get", *arguments)
    assert result.exit_code == code, result.output
    assert says in result.stderr


@asynccontextmanager
async def serving(content: bytes) -> AsyncIterator[str]:
    """An HTTP server that has `/a.yaml`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        status, body = (b"200 OK", content) if path == b"/a.yaml" else (b"404 Not Found", b"")
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body))
        writer.write(head + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"
