"""`atlhyper up` as a person runs it: real processes, a real API server, Ctrl-C."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from services.cli import system
from services.cli.attach import Attachment
from services.cli.cluster.control_plane import ControlPlane
from services.cli.plan import Plan
from services.cli.supervisor import Child
from services.runtime.bus.broker import BrokerSettings
from services.runtime.errors import UserError
from services.runtime.settings import EXIT_CONFIG
from tests.cli.command import ATLHYPER, environment, run
from tests.cli.mistakes.world import World, kubeconfig, wrong_token

pytestmark = pytest.mark.timeout(600)

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

    def until(self, what: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)

    def ready(self) -> None:
        self.until(lambda: "Ctrl-C stops everything" in self.text, 120)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        with suppress(FileNotFoundError):
            for pid in self.pids.values():
                if _alive(pid):
                    os.kill(pid, signal.SIGKILL)

    @property
    def pids(self) -> dict[str, int]:
        """By name, as up.json has them."""
        processes = self.state["processes"]
        assert isinstance(processes, dict)
        return processes


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def up(tmp_path: Path, control_plane: ControlPlane) -> Iterator[Up]:
    """Attached to the shared control plane, as an administrator's kubeconfig would, in a folder for all."""
    (tmp_path / "home").mkdir(mode=0o755)
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

    # It was made while `up` was starting, so it may come after what that had listed.
    up.until(lambda: f"namespace/{namespace}\n" in _get(up, "namespaces", "-o", "name"))
    database = {path.name: path.stat().st_mode & 0o777 for path in (up.folder / "home").glob("atlhyper.db*")}
    assert database == dict.fromkeys((f"atlhyper.db{end}" for end in ("", "-shm", "-wal", ".master")), 0o600)
    doctor = run("doctor", folder=up.folder, variables=up.variables)
    assert doctor.returncode == 0, doctor.stdout
    assert [line.split()[:2] for line in doctor.stdout.splitlines()] == [
        ["ok", check]
        for check in ("broker", "streams", "database", "clocks", "cluster", "access", "api", "token")
    ]

    path = up.folder / "home" / "token"
    assert (path.stat().st_mode & 0o777, path.stat().st_size > 40) == (0o600, True)
    assert path.read_text().strip() not in up.text + "".join(
        log.read_text() for log in (up.folder / "home" / "logs").iterdir()
    )
    [curl] = [line.strip() for line in up.text.splitlines() if line.strip().startswith("curl ")]
    asked = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60)
    assert json.loads(asked.stdout)["items"], asked

    processes = up.pids
    assert set(processes) == {"broker", "master", "api", "agent"}
    os.kill(processes["api"], signal.SIGKILL)
    os.kill(processes["broker"], signal.SIGKILL)
    up.until(lambda: "(signal SIGKILL), starts again" in up.text)
    up.until(lambda: "nats-server was ended by SIGKILL; starts again" in up.text)
    up.until(lambda: " again\n" in up.text and _answers(up))
    old = processes
    up.until(lambda: {name for name, pid in up.pids.items() if pid != old[name]} == {"api", "broker"})
    processes = up.pids
    assert [name for name in old if not _alive(processes[name])] == []
    control_plane.kubectl("create", "configmap", "after", "--namespace", namespace)
    up.until(lambda: "configmap/after" in _get(up, "configmaps", "-n", namespace, "-o", "name"))

    assert up.stop() == 0, up.text
    stopped = [line.split()[1] for line in up.text.splitlines() if line.endswith(" stopped")]
    assert stopped == ["agent", "api", "master", "broker"]
    assert not (up.folder / "home" / "up.json").exists()
    assert not any(_alive(pid) for pid in processes.values())

    before = path.read_text()
    again = Up(up.folder, up.variables)
    try:
        again.ready()
        assert "created" not in again.text
        assert "made a token" not in again.text
        assert path.read_text() == before
        assert again.stop() == 0
    finally:
        again.kill()


def test_a_token_that_ended_is_replaced(up: Up) -> None:
    """Revoked: the command line is refused with the next step, and the next start makes another."""
    up.ready()
    path = up.folder / "home" / "token"
    before = path.read_text()
    assert run("agents", folder=up.folder, variables=up.variables).returncode == 0
    revoked = run("tokens", "revoke", "local", folder=up.folder, variables=up.variables)
    assert (revoked.returncode, "local" in revoked.stdout) == (0, True), revoked.stderr
    up.until(lambda: run("agents", folder=up.folder, variables=up.variables).returncode)
    refused = run("agents", folder=up.folder, variables=up.variables)
    assert refused.returncode == 4, refused.stderr
    assert "revoked" in refused.stderr
    assert "tokens create" in refused.stderr
    assert up.stop() == 0
    again = Up(up.folder, up.variables)
    try:
        again.ready()
        assert f"made a token for you: {path}" in again.text
        assert (path.stat().st_mode & 0o777, path.read_text() != before) == (0o600, True)
        assert run("agents", folder=up.folder, variables=up.variables).returncode == 0
        assert again.stop() == 0
    finally:
        again.kill()


def test_a_killed_up_takes_its_services_along(up: Up) -> None:
    """After `kill -9` of the supervisor the services end by themselves, and the next start is clean."""
    up.ready()
    processes = up.pids
    up.process.kill()
    up.process.wait(60)
    deadline = time.monotonic() + 60
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
    processes = up.pids
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(90) in (0, 130)
    deadline = time.monotonic() + 60
    while any(_alive(pid) for pid in processes.values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_service_that_cannot_start_ends_it(tmp_path: Path, control_plane: ControlPlane) -> None:
    """A wrong setting of a child is told in the child's words, instead of being tried for ever."""
    kubeconfig = wrong_token(World(tmp_path, taken="", kubeconfig=control_plane.kubeconfig))
    started = Up(tmp_path, {**_ANY_PORT, "KUBECONFIG": str(kubeconfig)})
    try:
        assert started.process.wait(120) == EXIT_CONFIG, started.text
    finally:
        started.kill()
    error = next(line for line in started.text.splitlines() if line.startswith("error: "))
    assert error.startswith("error: agent: ")
    assert "401" in error


async def test_a_service_that_is_denied_something_ends_it(tmp_path: Path) -> None:
    """As final as a wrong setting, with the exit code of its own."""
    kubeconfig(World(tmp_path, taken=""))
    variables = environment(tmp_path, {"AGENT_KUBECONFIG": str(tmp_path / "kubeconfig")})
    child = Child("agent", ["agent", "kubernetes"], variables, tmp_path / "log", print)
    with pytest.raises(UserError, match="agent: no credential at ") as caught:
        await child.keep_running()
    assert (caught.value.exit_code, "NATS_CREDENTIALS" in caught.value.next_step) == (4, True)


def test_an_api_server_that_comes_later(tmp_path: Path, own_control_plane: ControlPlane) -> None:
    """That it is away is told once, in the agent's words; it is tried until it is there."""
    own_control_plane.stop_component("kube-apiserver")
    started = Up(tmp_path, {**_ANY_PORT, "KUBECONFIG": str(own_control_plane.kubeconfig)})
    log = tmp_path / "home" / "logs" / "agent.log"
    try:
        started.until(lambda: "can't be reached" in started.text)
        started.until(lambda: log.read_text().count("\nerror: ") >= 2)
        own_control_plane.start_component("kube-apiserver")
        started.ready()
        assert started.stop() == 0
    finally:
        started.kill()
    assert started.text.count("Connect call failed") == 1
    assert "exit code" not in started.text


async def test_a_stop_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error without words of its own has a reason all the same, and nothing is said to have stopped."""
    monkeypatch.setattr(system, "CLUSTER_STOP_DEADLINE", 0.0)
    plan = Plan(
        home=tmp_path,
        broker=BrokerSettings(home=tmp_path),
        attachment=Attachment("", "local", "local"),
        read_only=True,
        api_listen="",
        master_metrics="",
        agent_metrics="",
    )
    told: list[tuple[str, str]] = []
    whole = system.System(plan, lambda who, what: told.append((who, what)))
    await whole._guard(tmp_path / "cluster")
    whole._on_signal()
    await whole.run()
    assert told[0] == ("up", "stopping; a second Ctrl-C kills")
    failure = "could not be stopped: not ended after 0s; `make cluster-status` shows what runs"
    assert told[1:] == [("cluster", failure)]
    monkeypatch.undo()
    await dict(whole._stops)["cluster"]()  # it does end


def _answers(up: Up) -> bool:
    try:
        return httpx.get(f"{up.state['api']}/readyz", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _get(up: Up, *arguments: str) -> str:
    return run("get", *arguments, folder=up.folder, variables=up.variables).stdout
