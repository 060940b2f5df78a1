"""The local control plane: what `up` starts is real, survives being used and broken, and ends with `down`."""

import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from services.cli.cluster import build
from services.cli.cluster.build import TOOLS, ensure_binaries, find_binary
from services.cli.cluster.components import COMPONENTS
from services.cli.cluster.control_plane import ControlPlane, ControlPlaneError, ensure_up
from services.cli.cluster.processes import Processes, command_line
from services.cli.cluster.toolchain import BuildError

pytestmark = pytest.mark.timeout(300)


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.cluster", *arguments],
        env={**os.environ, "ATLHYPER_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def eventually(fact: Callable[[], object], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not fact():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.2)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home with a space"
    yield folder
    ControlPlane(folder / "cluster").stop()


@pytest.mark.cluster
def test_up_status_and_down(home: Path) -> None:
    """`up` leaves five healthy components, a second `up` changes nothing, `down` leaves no process."""
    assert run(home, "status").returncode == 1

    first = run(home, "up", "--nodes", "2")
    assert first.returncode == 0, first.stderr
    kubeconfig = Path(first.stdout.strip())
    assert kubeconfig == home / "cluster" / "kubeconfig"
    control_plane = ControlPlane(home / "cluster")
    pids = {name: control_plane.pid(name) for name in COMPONENTS}
    assert None not in pids.values()

    assert run(home, "up", "--nodes", "2").stdout == first.stdout
    assert {name: control_plane.pid(name) for name in COMPONENTS} == pids

    status = run(home, "status")
    assert status.returncode == 0, status.stdout
    assert status.stdout.count("healthy") == len(COMPONENTS)
    assert "v1.36.3" in status.stdout
    server = json.loads(control_plane.kubectl("version", "-o", "json"))["serverVersion"]
    assert server["gitVersion"] == "v1.36.3"
    assert control_plane.kubectl("get", "nodes", "-o", "name").split() == ["node/node-1", "node/node-2"]
    assert control_plane.kubectl("config", "current-context").strip() == "local"

    assert run(home, "down").returncode == 0
    assert [pid for pid in pids.values() if pid and command_line(pid)] == []
    assert run(home, "status").returncode == 1
    assert run(home, "down").returncode == 0


@pytest.mark.cluster
def test_data_and_address_outlive_down(home: Path) -> None:
    """After `down` and `up` the objects, the address and the token are those from before."""
    with ControlPlane(home / "cluster") as control_plane:
        control_plane.kubectl("create", "configmap", "kept")
        before = control_plane.kubeconfig.read_text()
    with ControlPlane(home / "cluster") as control_plane:
        assert control_plane.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"
        assert control_plane.kubeconfig.read_text() == before


@pytest.mark.cluster
async def test_ensure_up_brings_the_demo(home: Path) -> None:
    """`ensure_up` returns a kubeconfig that works, with an object of each kind we show behind it."""
    said: list[str] = []
    kubeconfig = await ensure_up(home, said.append)
    assert said == []  # nothing was built, and what to do next is for the caller to say
    control_plane = ControlPlane(home / "cluster")
    assert kubeconfig == control_plane.kubeconfig
    kinds = (
        "pod,deployment,statefulset,daemonset,replicaset,service,ingress,configmap,secret,event,job,cronjob,"
        "persistentvolumeclaim,horizontalpodautoscaler"
    )

    def kinds_in_demo() -> set[str]:
        names = control_plane.kubectl("-n", "demo", "get", kinds, "-o", "name").split()
        return {name.split("/")[0].split(".")[0] for name in names}

    eventually(lambda: kinds_in_demo() == set(kinds.split(",")))
    for kind in ("node", "namespace", "persistentvolume"):
        assert control_plane.kubectl("get", kind, "-o", "name")
    control_plane.kubectl("-n", "demo", "wait", "--for=condition=Complete", "--timeout=60s", "job/migrate")
    control_plane.kubectl("-n", "demo", "rollout", "status", "--timeout=60s", "statefulset/database")
    restarts = "-o=jsonpath={.items[0].status.containerStatuses[0].restartCount}"
    eventually(lambda: int(control_plane.kubectl("-n", "demo", "get", "pod", "-l=app=payments", restarts)))
    for workload, line in (
        ("deployment/shop", "POST path=/checkout"),
        ("statefulset/database", "checkpoint"),
    ):
        assert line in control_plane.kubectl("-n", "demo", "logs", workload)


async def test_ensure_up_raises_the_helpers_own_error(home: Path) -> None:
    """The cause is in the exception, what was said before it goes to `report`."""
    home.mkdir()
    (home / "cluster").write_text("in the way")
    said: list[str] = []
    with pytest.raises(ControlPlaneError, match="File exists"):
        await ensure_up(home, said.append)
    assert said == []


def test_a_cancelled_ensure_up_leaves_no_process(home: Path) -> None:
    """SIGTERM while it starts ends `up` itself and takes down what it had begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli.cluster", "up"],
        env={**os.environ, "ATLHYPER_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    control_plane = ControlPlane(home / "cluster")
    eventually(lambda: control_plane.pid("kube-apiserver"))
    process.terminate()
    assert process.wait(60) == 143
    assert [name for name in COMPONENTS if control_plane.pid(name)] == []


def test_pods_run(control_plane: ControlPlane, namespace: str) -> None:
    """A Deployment's pods are created, scheduled and Ready, and gone after it is deleted."""
    control_plane.kubectl(
        "-n", namespace, "create", "deployment", "web", "--image=example.com/web:1", "--replicas=4"
    )
    control_plane.kubectl("-n", namespace, "rollout", "status", "--timeout=60s", "deployment/web")
    pods = json.loads(control_plane.kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 4
    assert {pod["spec"]["nodeName"] for pod in pods} <= {"node-1", "node-2", "node-3"}
    control_plane.kubectl("-n", namespace, "delete", "deployment", "web")
    eventually(lambda: not control_plane.kubectl("-n", namespace, "get", "pods", "-o", "name"))


@pytest.mark.parametrize(
    ("label", "path", "value"),
    [
        ("pod-container-running-failed.stage.kwok.x-k8s.io=true", "{.status.phase}", "Failed"),
        (
            "simulate.atlhyper.io/behaviour=crash-loop",
            "{.status.containerStatuses[0].state.waiting.reason}",
            "CrashLoopBackOff",
        ),
    ],
)
def test_pods_fail_when_told_to(
    control_plane: ControlPlane, namespace: str, label: str, path: str, value: str
) -> None:
    """A label makes a pod fail, or crash again and again."""
    control_plane.kubectl("-n", namespace, "run", "bad", "--image=example.com/bad:1", f"--labels={label}")
    control_plane.kubectl(
        "-n", namespace, "wait", f"--for=jsonpath={path}={value}", "--timeout=60s", "pod/bad"
    )


def test_logs(control_plane: ControlPlane, namespace: str) -> None:
    """`kubectl logs` shows what was appended, the previous container's too."""
    control_plane.kubectl("-n", namespace, "run", "talker", "--image=example.com/talker:1")
    control_plane.kubectl("-n", namespace, "wait", "--for=condition=Ready", "--timeout=60s", "pod/talker")
    control_plane.append_pod_log("one", "two")
    assert control_plane.kubectl("-n", namespace, "logs", "talker", "--tail=2") == "one\ntwo\n"
    assert "exiting" in control_plane.kubectl("-n", namespace, "logs", "talker", "--previous")


def test_logs_are_followed(control_plane: ControlPlane, namespace: str) -> None:
    """`kubectl logs -f` shows a line that is written while it looks."""
    control_plane.kubectl("-n", namespace, "run", "talker", "--image=example.com/talker:1")
    control_plane.kubectl("-n", namespace, "wait", "--for=condition=Ready", "--timeout=60s", "pod/talker")
    command = [control_plane.kubectl_program, f"--kubeconfig={control_plane.kubeconfig}", "-n", namespace]
    control_plane.append_pod_log("before")
    with subprocess.Popen(
        [*command, "logs", "-f", "--tail=1", "talker"], stdout=subprocess.PIPE, text=True
    ) as following:
        try:
            assert following.stdout is not None
            assert following.stdout.readline() == "before\n"
            control_plane.append_pod_log("while it looks")
            assert following.stdout.readline() == "while it looks\n"
        finally:
            following.kill()


def test_changes_are_in_the_audit_log(own_control_plane: ControlPlane) -> None:
    """Each change is one line with who, what and how it ended, once its author has the answer; bodies,
    reads and leases are in none.
    """
    own_control_plane.kubectl("create", "secret", "generic", "kept", "--from-literal=password=hush-hush")
    own_control_plane.kubectl("get", "secrets")
    own_control_plane.kubectl("delete", "secret", "kept")
    text = own_control_plane.layout.audit_log.read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    about = [entry for entry in entries if entry["objectRef"].get("name") == "kept"]
    assert [entry["verb"] for entry in about] == ["create", "delete"]
    for entry in about:
        assert entry["user"]["username"] == "admin"
        assert entry["userAgent"].startswith("kubectl/")
        assert entry["objectRef"]["resource"] == "secrets"
        assert entry["responseStatus"]["code"] in (200, 201)
        assert entry["annotations"]["authorization.k8s.io/decision"] == "allow"
        assert entry["auditID"]
    assert "hush-hush" not in text
    assert {"get", "list", "watch"}.isdisjoint(entry["verb"] for entry in entries)
    assert "leases" not in {entry["objectRef"]["resource"] for entry in entries}


def test_who_changes_something_may_name_its_audit_entry(own_control_plane: ControlPlane) -> None:
    """The header `Audit-ID` of a request is the id of its line: that is how commands are found there."""
    layout = own_control_plane.layout
    answer = httpx.post(
        f"{layout.url('kube-apiserver')}/api/v1/namespaces/default/configmaps",
        headers={
            "Authorization": f"Bearer {layout.token_file.read_text().split(',')[0]}",
            "Audit-ID": "0199a000-0000-7000-8000-000000000001",
        },
        json={"metadata": {"name": "named"}},
        verify=ssl.create_default_context(cafile=str(layout.certificate("kube-apiserver"))),
        timeout=30,
    )
    assert answer.status_code == 201
    entries = [json.loads(line) for line in layout.audit_log.read_text().splitlines()]
    named = [entry["auditID"] for entry in entries if entry["objectRef"].get("name") == "named"]
    assert named == ["0199a000-0000-7000-8000-000000000001"]


def test_only_the_owner_reads_credentials(own_control_plane: ControlPlane) -> None:
    """Folder, kubeconfig, token and signing key are closed to others; RBAC is on."""
    layout = own_control_plane.layout
    for path in (layout.kubeconfig, layout.token_file, layout.signing_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.folder.stat().st_mode) == 0o700
    assert own_control_plane.kubectl("auth", "can-i", "*", "*").strip() == "yes"
    with pytest.raises(ControlPlaneError, match="forbidden"):
        own_control_plane.kubectl("get", "pods", "--as=somebody")
    token = layout.token_file.read_text().split(",")[0]
    assert all(token not in log.read_text() for log in (layout.folder / "logs").glob("*.log"))


def test_components_can_be_broken_and_mended(own_control_plane: ControlPlane) -> None:
    """Killed, hung or restarted one by one, a component comes back at its address with its data."""
    own_control_plane.kubectl("create", "configmap", "kept")
    for component in ("kube-apiserver", "etcd"):
        pid = own_control_plane.pid(component)
        own_control_plane.send_signal(component, signal.SIGKILL)
        assert own_control_plane.pid(component) is None
        own_control_plane.start_component(component)
        assert own_control_plane.pid(component) not in (None, pid)
        eventually(lambda: all(found.problem is None for found in own_control_plane.status()))
    own_control_plane.send_signal("kube-apiserver", signal.SIGSTOP)
    with pytest.raises(ControlPlaneError, match="no answer within 1 s"):
        own_control_plane.kubectl("get", "configmaps", timeout=1)
    own_control_plane.send_signal("kube-apiserver", signal.SIGCONT)
    assert own_control_plane.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"


@pytest.mark.cluster
def test_nothing_outlives_an_owner_that_was_killed(home: Path) -> None:
    """SIGKILL of the process that holds a `ControlPlane` open ends the components too."""
    program = (
        "import pathlib, sys, time; from services.cli.cluster.control_plane import ControlPlane\n"
        "with ControlPlane(pathlib.Path(sys.argv[1]), components=['etcd']):\n"
        "    print('up', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(home / "cluster")], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        pid = ControlPlane(home / "cluster").pid("etcd")
        assert pid is not None
        owner.kill()
    eventually(lambda: not command_line(pid))


@pytest.mark.cluster
def test_a_component_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    """The error names the component and carries the reason from its log; what had started is stopped."""
    folder = tmp_path / "cluster"
    (folder / "etcd").mkdir(parents=True)
    (folder / "etcd" / "member").write_text("in the way")
    control_plane = ControlPlane(folder, components=["etcd"])
    with pytest.raises(ControlPlaneError, match=r"(?s)etcd ended while starting.*not a directory"):
        control_plane.start()
    assert control_plane.pid("etcd") is None


def test_a_foreign_process_is_never_signalled(tmp_path: Path) -> None:
    """A recorded pid that belongs to somebody else by now is neither found nor ended."""
    (tmp_path / "logs").mkdir()
    with subprocess.Popen(["sleep", "60"]) as foreign:
        (tmp_path / "logs" / "etcd.pid").write_text(f"{foreign.pid}\n")
        processes = Processes(tmp_path)
        assert processes.pid("etcd") is None
        processes.stop("etcd", grace=1)
        assert foreign.poll() is None
        foreign.kill()


def test_kubebuilder_assets_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in `KUBEBUILDER_ASSETS` is taken; one that is not there is looked for in the cache."""
    cached = tmp_path / "cache"
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert find_binary("etcd") is None
    (assets / "etcd").write_text("#!/bin/sh\n")
    assert find_binary("etcd") is None, "it is not executable"
    (assets / "etcd").chmod(0o755)
    assert ensure_binaries(["etcd"]) == {"etcd": assets / "etcd"}
    assert not cached.exists()


def test_two_processes_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that needs what another one is building waits for it, and uses it without building."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    target = build._cached("etcd")
    target.parent.mkdir(parents=True)
    with build.file_lock(build.cache_folder() / "build.lock", print, "not now"):
        second = subprocess.Popen(
            [sys.executable, "-m", "services.cli.cluster", "build", "etcd"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        assert second.stderr.readline() == "another process is building; waiting for it\n"
        target.write_text("#!/bin/sh\n")
        target.chmod(0o755)
    assert second.communicate(timeout=60) == (f"{target}\n", "")
    assert second.returncode == 0


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "no go on PATH"),
        ("echo go version go1.19.4", "does not tell its version"),
        ("echo go1.22.1", "is go1.22.1, older than 1.26"),
        ("echo broken >&2; exit 3", "broken"),
    ],
)
def test_without_go_the_error_names_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, says: str
) -> None:
    """No Go, an old or a broken one, and no wheel: one line says what was tried and what to do."""
    programs = tmp_path / "bin"
    programs.mkdir()
    if script is not None:
        (programs / "go").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(tmp_path))
    with pytest.raises(BuildError, match=r"Install Go 1\.26 or newer") as raised:
        ensure_binaries(["etcd"])
    assert says in str(raised.value)
    assert "KUBEBUILDER_ASSETS" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_module_set_is_pinned() -> None:
    """Each program has a `go.mod` and a `go.sum` beside the code, and no local replacement in it."""
    for tool in TOOLS.values():
        assert (tool.folder / "go.sum").is_file()
        assert "=> ." not in (tool.folder / "go.mod").read_text()
