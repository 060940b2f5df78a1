"""Running `atlhyper` as a person does: a process of its own, in an environment of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ATLHYPER = Path(sys.executable).with_name("atlhyper")


def environment(folder: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of the caller's but the PATH; HOME and ATLHYPER_HOME below `folder`."""
    home = folder / "person"
    home.mkdir(parents=True, exist_ok=True)
    base = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ATLHYPER_HOME": str(folder / "home"),
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "error",
    }
    # Where the control plane's programs are; the folder above is empty.
    kept = {name: os.environ[name] for name in ("KUBEBUILDER_ASSETS", "XDG_CACHE_HOME") if name in os.environ}
    kept.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return {**base, **kept, **(variables or {})}


def run(
    *arguments: str, folder: Path, variables: Mapping[str, str] | None = None, timeout: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """The finished command; `folder` becomes its working directory."""
    return subprocess.run(
        [ATLHYPER, *arguments],
        cwd=folder,
        env=environment(folder, variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
