"""Whatever a person gets wrong is told in a line that names the cause and one that says what to do."""

import fcntl
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.cluster.control_plane import ControlPlane
from tests.bus.fixtures import RunningBroker
from tests.cli.command import ATLHYPER, environment, run
from tests.cli.mistakes import ROWS, WITH_A_BROKER, WITH_A_CLUSTER, Row, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield World(tmp_path, taken=f"127.0.0.1:{taken.getsockname()[1]}")


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


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_mistake_is_told_in_one_line(row: Row, world: World) -> None:
    """One line names the cause, one says what to do next; no trace, no secret, not exit code 0."""
    check(row, world)


@pytest.mark.parametrize("row", WITH_A_BROKER, ids=lambda row: row.name)
def test_with_a_real_broker(row: Row, world: World, broker: RunningBroker) -> None:
    """The same, where a running nats-server is the one that refuses."""
    world.broker = broker.url
    check(row, world)


@pytest.mark.parametrize("row", WITH_A_CLUSTER, ids=lambda row: row.name)
def test_with_a_real_api_server(row: Row, world: World, control_plane: ControlPlane) -> None:
    """The same, where a running kube-apiserver is the one that refuses."""
    world.kubeconfig = control_plane.kubeconfig
    check(row, world)


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
