"""The API server's own troubles: stopped, killed, hanging, its history compacted, its tokens exchanged."""

import asyncio
import base64
import json
import secrets
import signal
from pathlib import Path
from typing import Any

import httpx
import yaml

from services.cli.cluster.control_plane import ControlPlane
from services.runtime.tasks import to_its_end

SERVER = "kube-apiserver"
GRACE = 3.0
"""Seconds from SIGTERM to SIGKILL; it would wait for the last of its watches."""
_ACCOUNT = "agent"
_NAMESPACE = "kube-system"


class ApiServer:
    """Breaks and mends the API server of a control plane that has nothing else on its mind."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    async def stop(self) -> None:
        """SIGTERM: it ends its watches in good order, as far as it gets in a few seconds."""
        await asyncio.to_thread(self.plane.stop_component, SERVER, GRACE)

    async def kill(self) -> None:
        """SIGKILL"""
        await asyncio.to_thread(self.plane.send_signal, SERVER, signal.SIGKILL)

    async def start(self) -> None:
        """Until it is ready, also when cancelled: the thread goes on, and would start it after its end."""
        await to_its_end(asyncio.to_thread(self.plane.start_component, SERVER))

    def pause(self) -> None:
        """It hangs: connections stay open and say nothing."""
        self.plane.send_signal(SERVER, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT"""
        self.plane.send_signal(SERVER, signal.SIGCONT)

    async def compact(self) -> int:
        """Have etcd forget every version but the current one of each key; the revision of now."""
        async with httpx.AsyncClient(base_url=self.plane.layout.url("etcd"), timeout=60) as etcd:
            head = await etcd.post("/v3/kv/range", json={"key": base64.b64encode(b"none").decode()})
            revision = head.raise_for_status().json()["header"]["revision"]
            answer = await etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True})
            answer.raise_for_status()
        return int(revision)


class RotatedToken:
    """A ServiceAccount's token in a file, as a kubeconfig may name one; `rotate` makes the old one void.

    A token is bound to a Secret, so that deleting the Secret ends the token before its time.
    """

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane = plane
        self._file = folder / "agent.token"
        self._bound = ""

    def prepare(self) -> None:
        """The account, with every right to read, and its first token."""
        account = {"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": _NAMESPACE}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        self._create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": self._named(_ACCOUNT)})
        self._create(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": _ACCOUNT},
                "roleRef": role,
                "subjects": [account],
            }
        )
        self.rotate()

    def rotate(self) -> None:
        """A new token in the file; the old one ends."""
        before, self._bound = self._bound, f"agent-token-{secrets.token_hex(4)}"
        self._create({"apiVersion": "v1", "kind": "Secret", "metadata": self._named(self._bound)})
        bound = ["--bound-object-kind=Secret", f"--bound-object-name={self._bound}"]
        token = self._plane.kubectl("create", "token", _ACCOUNT, "-n", _NAMESPACE, "--duration=1h", *bound)
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(token.strip())
        unfinished.replace(self._file)
        if before:
            self._plane.kubectl("delete", "secret", "-n", _NAMESPACE, before)

    @property
    def user(self) -> dict[str, str]:
        """The user of a kubeconfig."""
        return {"tokenFile": str(self._file)}

    def _named(self, name: str) -> dict[str, str]:
        return {"name": name, "namespace": _NAMESPACE}

    def _create(self, manifest: dict[str, Any]) -> None:
        self._plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest))


def kubeconfig_through(
    plane: ControlPlane, port: int, path: Path, user: dict[str, str] | None = None
) -> Path:
    """The control plane's kubeconfig with the server behind a proxy's port, maybe with another user."""
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    if user is not None:
        config["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path
