"""The whole system as a person starts it: `atlhyper up`, in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from tests.ports import free_port

START = 120.0
STOP = 90.0
LISTENS = ("NATS_LISTEN", "API_LISTEN", "MASTER_METRICS_LISTEN", "AGENT_METRICS_LISTEN")


class System:
    """`with System(home, kubeconfig, cluster_id) as system:` → its REST API and its log."""

    def __init__(self, home: Path, kubeconfig: Path, cluster_id: str, **variables: str) -> None:
        self.home = home
        self.cluster_id = cluster_id
        self._log = home / "up.log"
        self.environment = {
            **os.environ,
            "ATLHYPER_HOME": str(home),
            "HOME": str(home),
            "AGENT_KUBECONFIG": str(kubeconfig),
            "AGENT_CLUSTER_ID": cluster_id,
            **{name: f"127.0.0.1:{free_port()}" for name in LISTENS},
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(timeout=90)
        """With the token that `up` has made."""

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services", "up"],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self.until(lambda: "curl " in self.output(), START)
            self.http.headers["Authorization"] = f"Bearer {(self.home / 'token').read_text().strip()}"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.stop()

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise

    def output(self) -> str:
        """What `up` has printed."""
        return self._log.read_text()

    @property
    def state(self) -> dict[str, Any]:
        """up.json: where everything listens, and the pids."""
        found: dict[str, Any] = json.loads((self.home / "up.json").read_text())
        return found

    def get(self, path: str, **parameters: Any) -> Any:
        """GET under /api/v1."""
        response = self.http.get(f"{self.api_url}/api/v1{path}", params=parameters)
        response.raise_for_status()
        return response.json()

    @property
    def api_url(self) -> str:
        """Address of the REST API."""
        return str(self.state["api"])

    def rows(self, resource: str, **parameters: Any) -> list[dict[str, Any]]:
        """Every row of one resource of the cluster, page by page."""
        rows: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            extra = {"continue": token} if token else {}
            page = self.get(f"/clusters/{self.cluster_id}/{resource}", limit=10_000, **parameters, **extra)
            rows += page["items"]
            token = page["continue"]
            if not token:
                return rows

    def until(self, condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        """Wait for something; what `condition` returned."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if self._process and self._process.poll() is not None:
                raise AssertionError(f"`atlhyper up` ended with {self._process.returncode}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s:\n{self.output()[-3000:]}")
            time.sleep(0.05)
        return found
