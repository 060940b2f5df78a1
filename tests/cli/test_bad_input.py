"""Whatever a person gets wrong is told in a line that names the cause and one that says what to do."""

import asyncio
import base64
import fcntl
import json
import secrets
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import nats
import pytest

from schemas.topology import EVENTS
from services.cli.cluster.control_plane import ControlPlane
from services.runtime.bus.config import stream_config
from tests.bus.fixtures import RunningBroker
from tests.cli.command import ATLHYPER, environment, run
from tests.cli.mistakes import broker as brokers
from tests.cli.mistakes import starting, typed
from tests.cli.mistakes.broker import WITH_A_BROKER, WITH_A_CLUSTER, WITH_THE_SYSTEM
from tests.cli.mistakes.sent import MESSAGES, REQUESTS, Message, Request
from tests.cli.mistakes.world import Row, World
from tests.e2e.system import System

ROWS = [*typed.ROWS, *starting.ROWS, *brokers.ROWS]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield World(tmp_path, taken=f"127.0.0.1:{taken.getsockname()[1]}")


def meet(world: World, broker: RunningBroker) -> None:
    """The broker, and the credential with which it knows the agent `a`."""
    world.broker = broker.url
    world.credential = broker.home / "nats" / "credentials" / "kubernetes_a.nk"


def check(row: Row, world: World) -> None:
    row.prepare(world)
    env = {name: world.fill(value) for name, value in row.env.items()}
    if row.command == "up":
        env.setdefault("KUBECONFIG", str(world.folder / "kubeconfig"))
        for name in ("API_LISTEN", "MASTER_METRICS_LISTEN", "AGENT_METRICS_LISTEN", "NATS_LISTEN"):
            env.setdefault(name, "127.0.0.1:0")
    done = run(*row.command.split(), folder=world.folder, variables=env)
    told = done.stderr
    assert done.returncode == row.code, told
    assert "Traceback" not in told
    assert "hunter2" not in told + done.stdout
    if row.code == 2 and "error: " not in told:  # usage errors are the option parser's
        assert row.says in told
        assert row.advises in told
        return
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    advice = [line for line in told.splitlines() if line.startswith("  next: ")]
    assert len(errors) == len(advice) == 1, told
    assert world.fill(row.says) in errors[0]
    assert row.advises in advice[0]
    if row.command == "up":  # refused before anything was started
        assert told.splitlines() == [*errors, *advice]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_mistake_is_told_in_one_line(row: Row, world: World) -> None:
    """One line names the cause, one says what to do next; no trace, no secret, not exit code 0."""
    check(row, world)


@pytest.mark.parametrize("row", WITH_A_BROKER, ids=lambda row: row.name)
def test_with_a_real_broker(row: Row, world: World, broker: RunningBroker) -> None:
    """The same, where a nats-server runs."""
    meet(world, broker)
    check(row, world)


@pytest.mark.parametrize("row", WITH_A_CLUSTER, ids=lambda row: row.name)
def test_with_a_real_api_server(
    row: Row, world: World, broker: RunningBroker, control_plane: ControlPlane
) -> None:
    """The same, where a running kube-apiserver is the one that refuses."""
    meet(world, broker)
    world.kubeconfig = control_plane.kubeconfig
    check(row, world)


@pytest.fixture(scope="module")
def system(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything, as the agent `mistakes`."""
    with System(
        tmp_path_factory.mktemp("mistakes") / "home", control_plane.kubeconfig, "mistakes"
    ) as running:
        yield running


def as_user(system: System, user: str, do: Callable[[nats.NATS], Awaitable[object]]) -> None:
    """Do something on the system's broker as one of its users."""

    async def connected() -> None:
        seed = str(system.home / "nats" / "credentials" / f"{user}.nk")
        inbox = f"_INBOX_{user}".encode()
        client = await nats.connect(system.state["nats"], nkeys_seed=seed, inbox_prefix=inbox)
        await do(client)
        await client.close()

    asyncio.run(connected())


_EVENT = """
apiVersion: v1
kind: Event
metadata: {{name: {name}, namespace: {namespace}}}
involvedObject: {{kind: Pod, namespace: {namespace}, name: none}}
reason: {reason}
type: Normal
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("row", WITH_THE_SYSTEM, ids=lambda row: row.name)
def test_with_the_whole_system(
    row: Row, system: System, tmp_path: Path, control_plane: ControlPlane, namespace: str
) -> None:
    """The same, where everything runs; what happens meanwhile is not lost, and what is advised mends it."""

    def reported(reason: str) -> list[object]:
        """Have an Event of this reason happen in the cluster; its rows in the API, once there are any."""
        event = _EVENT.format(reason=reason, name=reason.lower(), namespace=namespace)
        control_plane.kubectl("create", "-f", "-", stdin=event)
        return system.until(lambda: system.get("/events", namespace=namespace, reason=reason)["items"])

    async def shorten(client: nats.NATS) -> None:
        config = stream_config(EVENTS) | {"max_age": 3600 * 10**9}
        answer = await client.request(f"$JS.API.STREAM.UPDATE.{EVENTS.name}", json.dumps(config).encode())
        assert b"error" not in answer.data

    as_user(system, "operator", shorten)
    variables = {"ATLHYPER_HOME": str(system.home)}  # where the broker is, they know from the running `up`
    assert EVENTS.name in run("bus", "show", folder=tmp_path, variables=variables).stdout
    meanwhile = reported("Meanwhile")
    done = run(*row.command.split(), folder=tmp_path, variables=variables)
    lines = done.stdout.splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith("fail") and row.says in line]
    assert (done.returncode, len(found)) == (row.code, 1), done.stdout
    assert row.advises in lines[found[0] + 1]
    assert run("bus", "apply", "--dry-run", folder=tmp_path, variables=variables).returncode == 1
    assert run("bus", "apply", folder=tmp_path, variables=variables).returncode == 0
    assert run("bus", "apply", "--dry-run", folder=tmp_path, variables=variables).returncode == 0
    assert len(reported("Afterwards")) == 1
    assert system.get("/events", namespace=namespace, reason="Meanwhile")["items"] == meanwhile


@pytest.mark.timeout(180)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_a_message_nobody_can_read(message: Message, system: System) -> None:
    """It is kept whole with its reason, and what comes after it is read all the same."""
    subject = f"atlhyper.up.kubernetes.mistakes.{message.channel}"
    mark = secrets.token_hex(6)

    async def publish(client: nats.NATS) -> None:
        await client.request(subject, message.payload, headers=message.headers | {"Mark": mark})

    as_user(system, "kubernetes_mistakes", publish)

    def kept() -> list[dict[str, object]]:
        letters = system.get("/dead-letters")["items"]
        return [letter for letter in letters if letter["headers"].get("Mark") == mark]

    [letter] = system.until(kept)
    assert message.reason in str(letter["reason"])
    assert letter["subject"] == subject
    whole = system.get(f"/dead-letters/{letter['id']}")
    assert base64.b64decode(whole["body"]) == message.payload
    system.until(lambda: system.get("/clusters/mistakes")["state"] == "live")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.name)
def test_a_request_that_cannot_be_answered(request_: Request, system: System) -> None:
    """A problem (RFC 9457) whose detail names the cause and whose `next` says what to do."""
    response = system.http.get(f"{system.api_url}/api/v1{request_.path}")
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, problem["status"]) == (request_.status, request_.status)
    assert request_.says in problem["detail"]
    assert request_.advises in problem["next"]


def test_a_second_up_in_one_home(world: World) -> None:
    """Two supervisors would share a database and a store: the second one is told of the first."""
    world.home.mkdir()
    with (world.home / "up.lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run("up", folder=world.folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: another `atlhyper up` (pid 4711) runs in {world.home}\n  next: ")


def test_a_broken_pipe_is_no_mistake(world: World) -> None:
    """`atlhyper … | head -1` ends without a word."""
    done = subprocess.run(
        ["bash", "-c", f"{ATLHYPER} --help | head -1"],
        env=environment(world.folder),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stderr == ""
