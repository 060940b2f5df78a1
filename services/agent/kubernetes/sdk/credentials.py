"""Where the API server is and who we are there: read at the start, and again when it may have changed.

The library reads a kubeconfig once: it never looks again at a token file, nor runs a plug-in a second time,
and a plug-in that hangs would hang us with it.
"""

import asyncio
import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config
from kubernetes_asyncio.config.exec_provider import ExecProvider
from kubernetes_asyncio.config.kube_config import (
    KUBE_CONFIG_DEFAULT_LOCATION,
    FileOrData,
    KubeConfigLoader,
    KubeConfigMerger,
)

from schemas.kubernetes.redaction import redact_text
from services.runtime.errors import UserError

PLUGIN_TIMEOUT = 15.0
"""Seconds that a credential plug-in may take: it may be waiting for a login that nobody will make."""
LOAD_TIMEOUT = 30.0
"""Seconds for the whole: a plug-in, or an identity provider that is asked for a new token."""
REREAD = 60.0
"""Seconds after which a token file is read again, as client-go does: who writes it changes it in time."""
EXPIRY_MARGIN = 30.0
"""Seconds before a plug-in's token ends at which the next one is fetched."""

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_HEADER = "BearerToken"


@dataclass(frozen=True, slots=True)
class Credential:
    """The configuration as it was read at one moment."""

    configuration: Configuration
    token: str
    """The value of the header `Authorization`; empty with a client certificate."""
    transport: tuple[str, ...]
    """What a connection is made with: the address first, then authority, certificate and key."""
    good_for: float
    """Seconds until it is to be read again; infinite for what changes only when it is refused."""


class Credentials:
    """A kubeconfig file; with an empty path the pod's service account, else the default kubeconfig."""

    def __init__(self, kubeconfig: str) -> None:
        self._named = kubeconfig
        self._path = _existing(kubeconfig)

    async def load(self) -> Credential:
        """Read it now. Raises UserError naming what is wrong with it."""
        configuration = Configuration()
        try:
            async with asyncio.timeout(LOAD_TIMEOUT):
                if self._path or _IN_CLUSTER not in os.environ:
                    good_for = await _load_kubeconfig(self._path, configuration)
                else:
                    load_incluster_config(client_configuration=configuration, try_refresh_token=False)  # type: ignore[no-untyped-call]
                    good_for = REREAD
            transport = _transport(configuration)
        except TimeoutError:
            raise UserError(
                f"the kubeconfig's credential was not renewed within {LOAD_TIMEOUT:.0f} s",
                next_step="check it with `kubectl get ns`: it may be waiting for a login",
            ) from None
        except _Plugin.Failed as error:
            raise UserError(
                str(error), "run the plug-in's command by hand: it may be waiting for a login"
            ) from error
        except (ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            cause = " ".join(str(error).split())
            raise UserError(
                f"kubeconfig {self._named or 'of this machine'} can't be used: {cause}",
                "check it with `kubectl config view` and `kubectl get ns`, or set AGENT_KUBECONFIG",
            ) from error
        token = str(configuration.api_key.get(_HEADER, ""))
        return Credential(configuration, token, transport, good_for)


def _transport(configuration: Configuration) -> tuple[str, ...]:
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    return (str(configuration.host), *(Path(name).read_text() if name else "" for name in files))


def _existing(kubeconfig: str) -> str | None:
    """The path of a kubeconfig that was named; None for none. Raises UserError when it is not there."""
    if not kubeconfig:
        return None
    path = Path(kubeconfig).expanduser()
    if not path.is_file():
        raise UserError(f"kubeconfig {kubeconfig} does not exist", "correct AGENT_KUBECONFIG")
    return str(path)


async def _load_kubeconfig(path: str | None, configuration: Configuration) -> float:
    """Fill in the configuration; seconds for which it is good."""
    merged = KubeConfigMerger(path or KUBE_CONFIG_DEFAULT_LOCATION)
    loader = _Loader(merged.config, config_base_path=None, config_persister=merged.save_changes)
    await loader.load_and_set(configuration)
    return loader.good_for


class _Loader(KubeConfigLoader):
    """The library's loader with a plug-in that has a time limit and an expiry that we see."""

    good_for = float("inf")
    cert_file: str | None
    key_file: str | None

    def _load_user_token(self) -> bool:
        if self._user and "tokenFile" in self._user and "token" not in self._user:
            self.good_for = REREAD
        return bool(super()._load_user_token())

    async def load_from_exec_plugin(self) -> bool:
        assert self._user
        status = await _Plugin(self._user["exec"]).run()
        if expiry := status.get("expirationTimestamp"):
            left = (datetime.fromisoformat(expiry) - datetime.now(UTC)).total_seconds()
            self.good_for = max(left - EXPIRY_MARGIN, left / 2, 1.0)
        if token := status.get("token"):
            self.token = f"Bearer {token}"
        elif "clientCertificateData" in status and "clientKeyData" in status:
            self.cert_file = _as_file(status, "clientCertificateData")
            self.key_file = _as_file(status, "clientKeyData")
        else:
            raise ConfigException("exec: the plug-in gave neither a token nor a certificate and its key")
        return True


def _as_file(status: dict[str, Any], key: str) -> str | None:
    return FileOrData(status, None, data_key_name=key, base64_file_content=False).as_file()


class _Plugin:
    """A credential plug-in of a kubeconfig (client.authentication.k8s.io ExecCredential)."""

    class Failed(Exception):
        """It gave no credential; the message names its command."""

    def __init__(self, config: Any) -> None:
        self._provider = ExecProvider(config)
        self._name = Path(self._provider.args[0]).name

    async def run(self) -> dict[str, Any]:
        """Its answer's `status`. It can't ask anybody anything, and is killed when it takes too long."""
        request = {
            "apiVersion": self._provider.api_version,
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *self._provider.args,
                env=self._provider.env | {"KUBERNETES_EXEC_INFO": json.dumps(request)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # so that what it has started itself ends with it
            )
        except OSError as error:
            raise self.Failed(f"the credential plug-in {self._name} can't be started: {error}") from error
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT):
                output, complaint = await process.communicate()
        except TimeoutError:
            raise self.Failed(
                f"the credential plug-in {self._name} gave nothing within {PLUGIN_TIMEOUT:.0f} s"
            ) from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            words = redact_text(" ".join(complaint[-500:].decode(errors="replace").split()))
            raise self.Failed(f"the credential plug-in {self._name} ended with {process.returncode}: {words}")
        return self._status(output)

    def _status(self, output: bytes) -> dict[str, Any]:
        try:
            status = json.loads(output)["status"]
        except (ValueError, KeyError, TypeError):
            status = None
        if not isinstance(status, dict):
            raise self.Failed(f"the credential plug-in {self._name} gave no ExecCredential with a status")
        return status
