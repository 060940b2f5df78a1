"""`atlhyper up` as a person runs it: real processes, a real API server, Ctrl-C."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from services.cli.cluster.control_plane import ControlPlane
from tests.cli.command import ATLHYPER, environment, run

pytestmark = pytest.mark.timeout(180)

_ANY_PORT = dict.fromkeys(("NATS_LISTEN", "MASTER_METRICS_LISTEN", "AGENT_METRICS_LISTEN"), "127.0.0.1:0")


class Up:
    """A running `atlhyper up`, its output in a file."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.variables = variables
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [ATLHYPER, "up"],
                cwd=folder,
                env=environment(folder, variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "home" / "up.json").read_text())
        return found

    def until(self, what: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)

    def ready(self) -> None:
        self.until(lambda: "Ctrl-C stops everything" in self.text)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for pid in self._pids():
            if _alive(pid):
                os.kill(pid, signal.SIGKILL)

    def _pids(self) -> list[int]:
        try:
            processes = self.state["processes"]
        except FileNotFoundError:
            return []
        assert isinstance(processes, dict)
        return list(processes.values())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def up(tmp_path: Path, control_plane: ControlPlane) -> Iterator[Up]:
    """Attached to the shared control plane, as an administrator's kubeconfig would."""
    started = Up(tmp_path, {**_ANY_PORT, "KUBECONFIG": str(control_plane.kubeconfig)})
    yield started
    started.kill()


def test_up_until_ctrl_c(up: Up, namespace: str, control_plane: ControlPlane) -> None:
    """It tells context and UID, is read-only there, answers queries, mends what dies, and leaves nothing.

    Data stays: a second start finds tables and streams as they were.
    """
    up.ready()
    uid = control_plane.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    assert f"(cluster UID {uid})" in up.text
    assert "read-only" in up.text
    assert "stream ATLHYPER_SNAPSHOTS created" in up.text

    listed = run("get", "namespaces", "-o", "name", folder=up.folder, variables=up.variables)
    assert f"namespace/{namespace}" in listed.stdout, listed.stderr
    doctor = run("doctor", folder=up.folder, variables=up.variables)
    assert doctor.returncode == 0, doctor.stdout
    assert [line.split()[:2] for line in doctor.stdout.splitlines()] == [
        ["ok", check] for check in ("broker", "streams", "database", "cluster", "access", "api")
    ]

    processes = up.state["processes"]
    assert isinstance(processes, dict)
    assert set(processes) == {"broker", "master", "api", "agent"}
    os.kill(processes["api"], signal.SIGKILL)
    os.kill(processes["broker"], signal.SIGKILL)
    up.until(lambda: "(signal SIGKILL), starts again" in up.text)
    up.until(lambda: " again\n" in up.text and _answers(up))
    control_plane.kubectl("create", "configmap", "after", "--namespace", namespace)
    up.until(lambda: "configmap/after" in _get(up, "configmaps", "-n", namespace, "-o", "name"))

    assert up.stop() == 0, up.text
    stopped = [line.split()[1] for line in up.text.splitlines() if line.endswith(" stopped")]
    assert stopped == ["agent", "api", "master", "broker"]
    assert not (up.folder / "home" / "up.json").exists()
    assert not any(_alive(pid) for pid in processes.values())

    again = Up(up.folder, up.variables)
    try:
        again.ready()
        assert "created" not in again.text
        assert again.stop() == 0
    finally:
        again.kill()


def test_a_killed_up_takes_its_services_along(up: Up) -> None:
    """After `kill -9` of the supervisor the services end by themselves, and the next start is clean."""
    up.ready()
    processes = up.state["processes"]
    assert isinstance(processes, dict)
    up.process.kill()
    up.process.wait(10)
    deadline = time.monotonic() + 20
    while any(_alive(processes[name]) for name in ("master", "api", "agent")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again = Up(up.folder, up.variables)
    try:
        again.ready()
        assert again.stop() == 0
    finally:
        again.kill()


def test_a_second_ctrl_c_kills(up: Up) -> None:
    """Whoever is in a hurry presses it twice; nothing of ours is left."""
    up.ready()
    processes = up.state["processes"]
    assert isinstance(processes, dict)
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(10) in (0, 130)
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in processes.values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_service_that_cannot_start_ends_it(tmp_path: Path, control_plane: ControlPlane) -> None:
    """A wrong setting of a child is told in the child's words, instead of being tried for ever."""
    kubeconfig = tmp_path / "kubeconfig"
    text = control_plane.kubeconfig.read_text()
    address = text.split("server: ")[1].split()[0] if "server: " in text else ""
    kubeconfig.write_text(text.replace(address, "https://127.0.0.1:1") if address else _point_away(text))
    started = Up(tmp_path, {**_ANY_PORT, "KUBECONFIG": str(kubeconfig)})
    try:
        assert started.process.wait(60) == 78, started.text
    finally:
        started.kill()
    error = next(line for line in started.text.splitlines() if line.startswith("error: "))
    assert error.startswith("error: agent: ")
    assert "127.0.0.1:1" in error


def _point_away(text: str) -> str:
    document = json.loads(text)
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    return json.dumps(document)


def _answers(up: Up) -> bool:
    try:
        return httpx.get(f"{up.state['api']}/readyz", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _get(up: Up, *arguments: str) -> str:
    return run("get", *arguments, folder=up.folder, variables=up.variables).stdout
