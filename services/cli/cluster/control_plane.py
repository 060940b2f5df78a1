"""`ControlPlane`: start, break, mend, ask and stop a local Kubernetes control plane."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from services.cli.cluster.build import (
    KWOK_STAGES,
    ensure_binaries,
    file_lock,
    report_on_stderr,
)
from services.cli.cluster.components import (
    COMPONENTS,
    Layout,
    command,
    problem_with,
    write_credentials,
)
from services.cli.cluster.nodes import node_manifest, schedulable_nodes
from services.cli.cluster.pod_logs import append_container_log, write_kwok_config
from services.cli.cluster.ports import choose_ports, recorded_ports
from services.cli.cluster.processes import Processes
from services.cli.cluster.status import ComponentStatus, component_status
from services.cli.cluster.toolchain import Report, last_line

_READY_TIMEOUT = 120.0  # s; about 4 on an idle machine
_STOP_GRACE = 10.0  # s between SIGTERM and SIGKILL
_CERTIFICATE_AGE = 300 * 86400.0  # s; kube-apiserver signs its own for a year and never renews it
_MANIFESTS = Path(__file__).parent / "manifests"


class ControlPlaneError(RuntimeError):
    """The control plane or kubectl failed. The message says what, and shows the end of the log."""


class ControlPlane:
    """A control plane that lives in one folder: its data, credentials, logs and pids.

    `start()` leaves it running after this process, until somebody calls `stop()` on the same folder. As a
    context manager it ends with the block, and also when this process is killed. The methods block; from a
    coroutine call them through `asyncio.to_thread`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        components: Sequence[str] = COMPONENTS,
        report: Report = report_on_stderr,
    ) -> None:
        self.folder = folder.expanduser().resolve()  # processes are known by it: one name for one folder
        self.components = tuple(name for name in COMPONENTS if name in components)
        self._report = report
        self._processes = Processes(self.folder)
        self._programs: dict[str, Path] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    # -- as a whole ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start what does not run, and wait until all of it is ready. Harmless when it runs already."""
        programs = ensure_binaries([*self.components, "kubectl", KWOK_STAGES], self._report)
        self._programs = programs
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            if not any(self.pid(component) for component in COMPONENTS):
                choose_ports(self.folder, [*COMPONENTS, "etcd-peer"])
            self._discard_old_certificates()
            write_credentials(self.layout)
            write_kwok_config(self.layout)
            started: list[str] = []
            try:
                for component in self.components:
                    if self._processes.pid(component) is None:
                        started.append(component)
                        self._spawn(component)
                    if component in ("etcd", "kube-apiserver"):  # the others would start by failing
                        self._wait_ready(component)
                for component in self.components:
                    self._wait_ready(component)
                self._wait_admitting()
            except BaseException:
                for component in reversed(started):
                    self._processes.stop(component, grace=1)
                raise

    def stop(self) -> None:
        """Stop every component, the last started first. Data and credentials stay."""
        if not self.folder.is_dir():
            return
        with self._lock():
            for component in reversed(COMPONENTS):
                self._processes.stop(component, _STOP_GRACE)

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The guard stops the folder's processes when the pipe closes, whatever becomes of this process.
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "services.cli.cluster.guard", str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            if self._guard is not None:
                self._guard.communicate(timeout=30)
                self._guard = None

    def status(self) -> list[ComponentStatus]:
        """Each component as it is now, running or not; starts and builds nothing."""
        return [component_status(name, self._processes, self.layout) for name in self.components]

    # -- one component, for those who break it ------------------------------------------------------------

    def pid(self, component: str) -> int | None:
        return self._processes.pid(component)

    def send_signal(self, component: str, number: signal.Signals) -> None:
        """Send a signal; after SIGKILL returns when the process is gone. SIGSTOP makes it hang."""
        if not self._processes.send_signal(component, number):
            raise ControlPlaneError(f"{component} does not run")
        if number == signal.SIGKILL:
            self._processes.wait_gone(component, _STOP_GRACE)

    def stop_component(self, component: str, grace: float = _STOP_GRACE) -> None:
        self._processes.stop(component, grace)

    def start_component(self, component: str) -> None:
        """Start one component again, on the port it had, and wait until it is ready."""
        if self._processes.pid(component) is None:
            self._spawn(component)
        self._wait_ready(component)

    def log(self, component: str) -> Path:
        return self._processes.log(component)

    # -- what tests and the demo need ---------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        return Layout(self.folder, recorded_ports(self.folder))

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def kubectl_program(self) -> Path:
        return self._program("kubectl")

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """What kubectl prints, as the administrator. Raises `ControlPlaneError` with what it complains of."""
        words = [
            str(self.kubectl_program),
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.folder / 'kubectl'}",
        ]
        try:
            answer = subprocess.run(
                [*words, *arguments],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                check=False,
                capture_output=True,
                text=True,
                timeout=timeout,
                env={**os.environ, "KUBERC": "off"},  # aliases and defaults of the user are not ours
            )
        except subprocess.TimeoutExpired:
            raise ControlPlaneError(
                f"kubectl {' '.join(arguments)}: no answer within {timeout:g} s"
            ) from None
        if answer.returncode != 0:
            raise ControlPlaneError(f"kubectl {' '.join(arguments)}: {answer.stderr.strip()[-2000:]}")
        return answer.stdout

    def add_nodes(self, count: int) -> None:
        """See to it that `node-1` to `node-<count>` exist and, where kwok runs, take pods."""
        present = set(self.kubectl("get", "nodes", "-o", "name").split())
        wanted = [f"node-{number}" for number in range(1, count + 1)]
        missing = [node_manifest(name) for name in wanted if f"node/{name}" not in present]
        if missing:
            nodes = {"apiVersion": "v1", "kind": "List", "items": missing}
            # Not validated: kwok fills in what `nodeInfo` lacks.
            self.kubectl("create", "--validate=ignore", "-f", "-", stdin=json.dumps(nodes))
        if "kwok" not in self.components:
            return
        deadline = time.monotonic() + _READY_TIMEOUT
        # One list for all of them: `kubectl wait` takes 0.1 s for each.
        while not set(wanted) <= schedulable_nodes(self.kubectl("get", "nodes", "-o", "json")):
            if time.monotonic() > deadline:
                self._fail("kwok", f"has not made all {count} nodes Ready after {_READY_TIMEOUT:.0f} s")
            time.sleep(0.1)

    def append_pod_log(self, *lines: str) -> None:
        """Write to the log that every container of every pod shows."""
        append_container_log(self.layout.pod_log, lines)

    def run_demo_workload(self) -> None:
        """Create the namespace `demo` with something of every kind, unless it is there already.

        It needs a few nodes. A Deployment runs, one crash-loops, one cannot be scheduled, a pod has failed.
        """
        if self.kubectl("get", "namespace", "demo", "--ignore-not-found", "-o", "name"):
            return
        # It belongs to no namespace, so it outlives one that somebody deleted, bound to a claim of the past.
        self.kubectl("delete", "persistentvolume", "demo-backup", "--ignore-not-found")
        manifest = (_MANIFESTS / "demo.yaml").read_text()
        self.kubectl("create", "-f", "-", stdin=manifest.replace("${PASSWORD}", secrets.token_urlsafe(12)))
        self.kubectl(
            "-n", "demo", "wait", "--for=condition=Available", "--timeout=60s", "deployment/shop", timeout=70
        )

    # -- inside -------------------------------------------------------------------------------------------

    def _lock(self) -> AbstractContextManager[None]:
        waiting = f"another process starts or stops {self.folder}; waiting for it"
        return file_lock(self.folder / "lock", self._report, waiting)

    def _program(self, name: str) -> Path:
        if name not in self._programs:
            self._programs |= ensure_binaries([name], self._report)
        return self._programs[name]

    def _spawn(self, component: str) -> None:
        words = command(
            component,
            self._program(component),
            self.layout,
            controllers="kube-controller-manager" in self.components,
            stages=self._program(KWOK_STAGES),
        )
        self._processes.start(component, words)

    def _wait_ready(self, component: str) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT
        while (problem := problem_with(component, self.layout)) is not None:
            if self._processes.pid(component) is None:
                self._fail(component, "ended while starting")
            if time.monotonic() > deadline:
                self._fail(component, f"is not ready after {_READY_TIMEOUT:.0f} s ({problem})")
            time.sleep(0.05)

    def _wait_admitting(self) -> None:
        """Pods are refused until the controller-manager has made the ServiceAccount they run as."""
        if "kube-controller-manager" not in self.components:
            return
        deadline = time.monotonic() + _READY_TIMEOUT
        while not self.kubectl("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"):
            if time.monotonic() > deadline:
                self._fail("kube-controller-manager", "makes no ServiceAccounts")
            time.sleep(0.05)

    def _fail(self, component: str, what: str) -> None:
        raise ControlPlaneError(
            f"{component} {what}; the end of {self.log(component)}:\n{self._processes.tail(component)}"
        )

    def _discard_old_certificates(self) -> None:
        for component in filter(lambda name: self.pid(name) is None, self.components):
            certificate = self.layout.certificate(component)
            if certificate.exists() and time.time() - certificate.stat().st_mtime > _CERTIFICATE_AGE:
                certificate.unlink()


async def ensure_up(home: Path, report: Report = report_on_stderr) -> Path:
    """Start the local control plane of `home` with three nodes and the demo workload; its kubeconfig.

    A process of its own does it, as a first build takes minutes; what it says goes to `report`. Cancelling
    this ends that one, which takes down what it had begun. Raises `ControlPlaneError` with its error.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "services.cli.cluster", "up", "--demo", "--quiet"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "ATLHYPER_HOME": str(home)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    reason = "the local control plane did not start"
    try:
        async for line in process.stderr:
            text = line.decode(errors="replace").rstrip()
            if text.startswith("error: "):
                reason = text.removeprefix("error: ").rstrip(":")  # what follows one is a log
            else:
                report(text)
        output = await process.stdout.read()
        await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode != 0:
        raise ControlPlaneError(reason)
    return Path(last_line(output.decode()))
