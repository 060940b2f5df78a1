"""What pods have as their logs: no container runs that could write one, so kwok shows files in its place."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import yaml

from services.cli.cluster.components import Layout

_DEMO = Path(__file__).parent / "manifests" / "demo-logs.yaml"
_DEMO_NAMESPACE = "demo"


def write_kwok_config(layout: Layout) -> None:
    """The containers of the demo have logs of their own; all others share one."""
    demo: dict[str, list[str]] = yaml.safe_load(_DEMO.read_text())
    texts = {
        layout.previous_pod_log: ["starting", "cannot reach the database: exiting"],
        layout.pod_log: ["starting", "connected to the database", "listening on :8080"],
        **{layout.demo_log(container): lines for container, lines in demo.items()},
    }
    for path, lines in texts.items():
        if not path.exists():
            append_container_log(path, lines)
    own = [_log(layout.demo_log(name), layout.demo_log(name), containers=[name]) for name in demo]
    shared = _log(layout.pod_log, layout.previous_pod_log)
    # The first one that fits is taken.
    documents = [
        _cluster_logs("demo", own, selector={"matchNamespaces": [_DEMO_NAMESPACE]}),
        _cluster_logs("every-pod", [shared]),
    ]
    layout.kwok_config.write_text(yaml.safe_dump_all(documents, sort_keys=False))


def append_container_log(path: Path, lines: Iterable[str]) -> None:
    """Append lines as a container would write them, in the format of the container runtime interface."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a") as handle:
        for line in lines:
            handle.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z stdout F {line}\n")


def _log(path: Path, previous: Path, **more: list[str]) -> dict[str, object]:
    return {**more, "logsFile": str(path), "previousLogsFile": str(previous), "follow": True}


def _cluster_logs(name: str, logs: list[dict[str, object]], **more: object) -> dict[str, object]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterLogs",
        "metadata": {"name": name},
        "spec": {**more, "logs": logs},
    }
