"""The command line, health address and credentials of each component of the local control plane."""

import base64
import http.client
import os
import secrets
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import yaml

CONTEXT = "local"
STORE = ("etcd", "kube-apiserver")
"""What answers the API. Objects are kept and watched, but nothing acts on them."""
COMPONENTS = (*STORE, "kube-controller-manager", "kube-scheduler", "kwok")
"""In the order of starting; each needs those before it."""

_MANIFESTS = Path(__file__).parent / "manifests"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Layout:
    """Where everything is: the files of one state folder, and the ports by component."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def token_file(self) -> Path:
        return self.folder / "token.csv"

    @property
    def signing_key(self) -> Path:
        return self.folder / "service-account.key"

    @property
    def kwok_config(self) -> Path:
        return self.folder / "kwok.yaml"

    @property
    def pod_log(self) -> Path:
        """What every container of every pod has as its log; append to it and `logs --follow` shows it."""
        return self.folder / "pod.log"

    @property
    def previous_pod_log(self) -> Path:
        return self.folder / "pod-previous.log"

    def demo_log(self, container: str) -> Path:
        """The log of that container, in each pod of the namespace `demo` that has one."""
        return self.folder / "demo-logs" / f"{container}.log"

    @property
    def audit_log(self) -> Path:
        """The API server's: one JSON object (audit.k8s.io/v1 Event) per change and line.

        When it is full it is renamed, to a name that begins like its own, and begun anew.
        """
        return self.folder / "audit" / "audit.log"

    def certificates(self, component: str) -> Path:
        return self.folder / "certificates" / component

    def certificate(self, component: str) -> Path:
        """Self-signed, written by the component itself at its first start."""
        name = "apiserver" if component == "kube-apiserver" else component
        return self.certificates(component) / f"{name}.crt"

    def url(self, component: str) -> str:
        scheme = "http" if component in ("etcd", "kwok") else "https"
        return f"{scheme}://127.0.0.1:{self.ports[component]}"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first byte on, in one step for its readers."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    unfinished.replace(path)


def write_credentials(layout: Layout) -> None:
    """Token, signing key and kubeconfig. What exists is kept, or running clients would be locked out."""
    if not layout.token_file.exists():
        write_private(layout.token_file, f"{secrets.token_urlsafe(32)},admin,admin,system:masters\n")
    if not layout.signing_key.exists():
        write_private(layout.signing_key, _ec_private_key())
    cluster = {
        "server": layout.url("kube-apiserver"),
        "certificate-authority": str(layout.certificate("kube-apiserver")),
    }
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{"name": CONTEXT, "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": _token(layout)}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": "admin"}}],
    }
    write_private(layout.kubeconfig, yaml.safe_dump(kubeconfig, sort_keys=False))


def command(component: str, program: Path, layout: Layout, *, controllers: bool, stages: Path) -> list[str]:
    """The command line of a component. `controllers`: whether a controller-manager will run beside it."""
    folder, ports = layout.folder, layout.ports
    match component:
        case "etcd":
            client, peer = layout.url("etcd"), f"http://127.0.0.1:{ports['etcd-peer']}"
            options = [
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                "--name=local",
                f"--initial-cluster=local={peer}",
                # A killed process loses nothing by this, only a power cut may; it is a cluster to try.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ]
        case "kube-apiserver":
            options = [
                f"--etcd-servers={layout.url('etcd')}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={ports[component]}",
                f"--cert-dir={layout.certificates(component)}",
                f"--token-auth-file={layout.token_file}",
                "--authorization-mode=Node,RBAC",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-signing-key-file={layout.signing_key}",
                f"--service-account-key-file={layout.signing_key}",
                "--service-cluster-ip-range=10.96.0.0/16",
                # Endpoints must not name a loopback address, and nothing in the cluster would dial them.
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=InternalIP",
                f"--audit-policy-file={_MANIFESTS / 'audit-policy.yaml'}",
                f"--audit-log-path={layout.audit_log}",
                # In the request's own time, so that whoever has its answer finds it in the file.
                "--audit-log-mode=blocking",
                "--audit-log-maxsize=20",  # MiB
                "--audit-log-maxbackup=3",
                "--profiling=false",
            ]
            if not controllers:
                # Nobody makes the ServiceAccount `default`, without which no pod would be admitted.
                options.append("--disable-admission-plugins=ServiceAccount")
        case "kube-controller-manager":
            options = [
                *_kubernetes_client(component, layout),
                f"--service-account-private-key-file={layout.signing_key}",
                f"--root-ca-file={layout.certificate('kube-apiserver')}",
                "--concurrent-gc-syncs=5",
            ]
        case "kube-scheduler":
            options = _kubernetes_client(component, layout)
        case "kwok":
            own_stages = _MANIFESTS / "crash-loop.yaml"
            configs = [layout.kwok_config, own_stages, *sorted(stages.glob("*.yaml"))]
            options = [
                f"--kubeconfig={layout.kubeconfig}",
                *(f"--config={path}" for path in configs),
                "--manage-all-nodes=true",
                "--cidr=10.244.0.0/16",
                "--node-ip=127.0.0.1",
                f"--node-port={ports[component]}",
                f"--server-address=127.0.0.1:{ports[component]}",
                "--node-lease-duration-seconds=40",
                "--v=WARN",
            ]
        case _:
            raise ValueError(f"no component is called {component}; there are {', '.join(COMPONENTS)}")
    return [str(program), *options]


def problem_with(component: str, layout: Layout, timeout: float = 2.0) -> str | None:
    """Ask a component for its health: None when it is ready, else what it answered."""
    path = {"etcd": "/health", "kube-apiserver": "/readyz", "kwok": "/readyz"}.get(component, "/healthz")
    headers = {"Authorization": f"Bearer {_token(layout)}"} if component == "kube-apiserver" else {}
    host, port = "127.0.0.1", layout.ports[component]
    try:
        connection: http.client.HTTPConnection
        if layout.url(component).startswith("https"):
            trust = ssl.create_default_context(cafile=str(layout.certificate(component)))
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=trust)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        with closing(connection):
            connection.request("GET", path, headers=headers)
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return None if status == 200 else f"answers {status}"


def _kubernetes_client(component: str, layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports[component]}",
        f"--cert-dir={layout.certificates(component)}",
        "--leader-elect=false",
        # The defaults (20 to 50 requests per second) would make 5,000 pods take minutes.
        "--kube-api-qps=2000",
        "--kube-api-burst=4000",
        "--profiling=false",
    ]


def _token(layout: Layout) -> str:
    return layout.token_file.read_text().split(",", 1)[0]


def _ec_private_key() -> str:
    """A P-256 private key as PEM (RFC 5915). The public part is optional there and is left to the reader."""
    secret = (secrets.randbelow(_P256_ORDER - 1) + 1).to_bytes(32, "big")
    version, curve = bytes.fromhex("020101"), bytes.fromhex("a00a06082a8648ce3d030107")
    body = version + b"\x04\x20" + secret + curve
    text = base64.b64encode(b"\x30" + bytes([len(body)]) + body).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *lines, "-----END EC PRIVATE KEY-----", ""])
