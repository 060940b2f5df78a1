"""Build the programs of the local control plane from their public Go modules, once per machine."""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.cli.cluster.toolchain import BuildError, Report, find_go, go_environment, last_line

KUBERNETES_VERSION = "v1.36.3"
KWOK_STAGES = "kwok-stages"
"""A folder, not a program: the YAML files that tell kwok how nodes and pods live."""

_MODULES = Path(__file__).parent / "go"
_BUILD_TIMEOUT = 3600.0  # s; one program on a slow machine, its downloads included
_STILL_BUILDING = 30.0  # s between two lines of progress
_FLAGS = ("-trimpath", "-buildvcs=false")
_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
_KUBERNETES_LDFLAGS = " ".join(
    f"-X {_VERSION_PACKAGE}.{field}"
    for field in (
        f"gitVersion={KUBERNETES_VERSION}",
        f"gitMajor={_MAJOR}",
        f"gitMinor={_MINOR}",
        "gitTreeState=clean",
    )
)
_STAGE_FOLDERS = ("node/fast", "node/heartbeat-with-lease", "node/chaos", "pod/fast", "pod/chaos")


@dataclass(frozen=True)
class Tool:
    """One thing to build: the pinned module set that holds it, and its package."""

    module_set: str
    package: str
    ldflags: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the `go.mod` and `go.sum` that pin it. Never written to."""
        return _MODULES / self.module_set

    def cache_key(self) -> str:
        """Changes with whatever may change the result; the same for all programs of one module set."""
        parts = [
            (self.folder / "go.mod").read_bytes(),
            (self.folder / "go.sum").read_bytes(),
            repr((self.ldflags, _FLAGS, _STAGE_FOLDERS, sys.platform, platform.machine())).encode(),
        ]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


TOOLS = {
    "etcd": Tool("etcd", "go.etcd.io/etcd/server/v3"),
    **{
        name: Tool("kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_LDFLAGS)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    },
    "kwok": Tool("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    KWOK_STAGES: Tool("kwok", "sigs.k8s.io/kwok"),
    "nats": Tool("natscli", "github.com/nats-io/natscli/nats", "-X main.version=0.3.0"),
}


def cache_folder() -> Path:
    """Where built programs are kept, for every project folder of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "atlhyper"


def report_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def ensure_binaries(names: Iterable[str], report: Report = report_on_stderr) -> dict[str, Path]:
    """The path of each named program of `TOOLS`; what is found nowhere is built (minutes, once).

    Each is looked for in the folder `KUBEBUILDER_ASSETS`, then in the cache folder. Two processes that need
    the same program build it once. Raises `BuildError` with the next step to take.
    """
    wanted = list(dict.fromkeys(names))
    found = {name: path for name in wanted if (path := find_binary(name)) is not None}
    if len(found) < len(wanted):
        cache = cache_folder()
        cache.mkdir(parents=True, exist_ok=True)
        with file_lock(cache / "build.lock", report, "another process is building; waiting for it"):
            missing = [name for name in wanted if name not in found and find_binary(name) is None]
            if missing:
                _build_all(missing, cache, report)
        found = {name: find_binary(name) or _cached(name) for name in wanted}
    return {name: found[name] for name in wanted}


@contextmanager
def file_lock(path: Path, report: Report, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock between processes; the kernel drops it with its holder."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _cached(name: str) -> Path:
    tool = TOOLS[name]
    return cache_folder() / "bin" / f"{tool.module_set}-{tool.cache_key()}" / name


def find_binary(name: str) -> Path | None:
    """Where a program is, without building it."""
    candidates = [_cached(name)]
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        candidates.insert(0, Path(assets).expanduser() / name)
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _build_all(names: list[str], cache: Path, report: Report) -> None:
    go = find_go(cache, report)
    report(f"building {', '.join(names)} from source, once (all: about 5 minutes on 2 cores)")
    begin = time.monotonic()
    for number, name in enumerate(names, start=1):
        report(f"[{number}/{len(names)}] {name}")
        target = _cached(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the rename is atomic: a program is there whole or not at all.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as unfinished:
            result = Path(unfinished) / name
            if name == KWOK_STAGES:
                _copy_stages(go, TOOLS[name], result)
            else:
                _build(go, name, result, report)
            result.rename(target)
    report(f"built {len(names)} in {time.monotonic() - begin:.0f} s, kept in {cache}")


def _build(go: Path, name: str, result: Path, report: Report) -> None:
    tool = TOOLS[name]
    options = [*_FLAGS, "-ldflags", f"-s -w {tool.ldflags}", "-o", str(result)]
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            [go, "build", *options, tool.package],
            cwd=tool.folder,
            env=go_environment(go),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STILL_BUILDING)
                    break
                elapsed = time.monotonic() - begin
                if elapsed > _BUILD_TIMEOUT:
                    raise BuildError(
                        f"{name} was not built within {_BUILD_TIMEOUT:.0f} s; run the same command again, "
                        "it continues where this one stopped"
                    )
                report(f"      still building {name}, {elapsed:.0f} s")
        finally:
            if process.poll() is None:  # Ctrl-C, SIGTERM or the limit above
                process.terminate()
                process.wait(10)
        if process.returncode != 0:
            output.seek(0)
            raise BuildError(
                f"go build of {name} failed: {last_line(output.read())}. Check the network and GOPROXY, then "
                "run the same command again, or set KUBEBUILDER_ASSETS to a folder that holds it"
            )


def _copy_stages(go: Path, tool: Tool, result: Path) -> None:
    answer = subprocess.run(
        [go, "mod", "download", "-json", tool.package],
        cwd=tool.folder,
        env=go_environment(go),
        check=False,
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT,
    )
    if answer.returncode != 0:
        raise BuildError(f"go mod download {tool.package} failed: {last_line(answer.stderr)}")
    source = Path(json.loads(answer.stdout)["Dir"]) / "kustomize" / "stage"
    result.mkdir()
    for folder in _STAGE_FOLDERS:
        for stage in sorted((source / folder).glob("*.yaml")):
            if stage.name != "kustomization.yaml":
                # Contents only: files of the module cache are read-only.
                shutil.copyfile(stage, result / f"{folder.replace('/', '-')}-{stage.name}")
