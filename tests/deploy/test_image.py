"""The Dockerfile without a container engine: linted, and its steps run in a folder."""

import fnmatch
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.deploy import composition, manifests
from tests.deploy.composition import IMAGE_ENVIRONMENT, PROGRAMS, ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LINES = DOCKERFILE.replace("\\\n", " ").splitlines()
LAST_STAGE = LINES[max(index for index, line in enumerate(LINES) if line.startswith("FROM ")) :]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_linter_finds_nothing() -> None:
    """hadolint, which also reads the shell in it, has no complaint and is told to ignore none."""
    done = subprocess.run(
        [PROGRAMS / "hadolint", "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=99
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE


def test_it_runs_as_nobody_in_particular() -> None:
    """The last stage has a numeric user other than root, and starts the command without a shell."""
    assert "USER 65532:65532" in LAST_STAGE
    assert 'ENTRYPOINT ["atlhyper"]' in LAST_STAGE
    assert "STOPSIGNAL SIGTERM" in LAST_STAGE
    variables = dict(re.findall(r"(\w+)=(\S+)", next(line for line in LAST_STAGE if line.startswith("ENV "))))
    assert {name: variables[name] for name in IMAGE_ENVIRONMENT} == IMAGE_ENVIRONMENT
    (made,) = [line for line in LAST_STAGE if line.startswith("RUN mkdir")]
    mounted = {
        volume.split(":")[1]
        for service in composition.load()["services"].values()
        if service["image"].startswith("atlhyper:")
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    }
    assert mounted <= set(made.split()), "a new volume is writable only where the image has its folder"


def test_versions_agree() -> None:
    """Image, composition and kustomization are of this version; uv is the one that the Makefile has."""
    assert f'image.version="{VERSION}"' in DOCKERFILE
    images = {service["image"] for service in composition.load()["services"].values()}
    assert {name for name in images if name.startswith("atlhyper")} == {f"atlhyper:{VERSION}"}
    kustomization = yaml.safe_load((manifests.AGENT / "kustomization.yaml").read_text())
    assert kustomization["images"] == [{"name": "atlhyper", "newTag": VERSION}]
    (uv,) = re.findall(r"uv==(\S+)", DOCKERFILE)
    assert f"UV_VERSION := {uv}\n" in (ROOT / "Makefile").read_text()


def copied() -> list[str]:
    """What the first stage takes from the context."""
    found: list[str] = []
    for line in LINES:
        if line.startswith("COPY ") and "--from" not in line:
            found += [word for word in line.split()[1:-1] if not word.startswith("--")]
    return found


def let_through(path: str) -> bool:
    """Whether .dockerignore leaves a path in the context: the last pattern that fits it decides."""
    verdict = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if (
                pattern == "*"
                or path == pattern
                or path.startswith(pattern + "/")
                or fnmatch.fnmatch(path, pattern)
            ):
                verdict = line.startswith("!")
    return verdict


def test_the_context_has_what_is_copied_and_no_secret() -> None:
    """Everything that is copied is let through; what a person keeps beside it is not."""
    for source in copied():
        assert (ROOT / source).exists(), source
        assert let_through(source), source
    for private in (".env", ".git", "secrets/ca.key", ".venv", "compose.yaml", "tests"):
        assert not let_through(private), private


@pytest.mark.timeout(900)
def test_its_steps_install_the_whole_product(tmp_path: Path) -> None:
    """Run on the context alone, the two `uv sync` make an environment with every file of ours and without the
    tools of developers; it holds all programs that the composition names."""
    context, target = tmp_path / "context", tmp_path / "environment"
    context.mkdir()
    for source in copied():
        (context / source).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, context / source)
    variables = {
        **os.environ,
        "UV_PROJECT_ENVIRONMENT": str(target),
        "UV_PYTHON": str(PROGRAMS / "python"),
        "UV_OFFLINE": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    steps = re.findall(r"^RUN uv (sync .*)$", DOCKERFILE, re.MULTILINE)
    assert len(steps) == 2
    for step in steps:
        done = subprocess.run(
            [PROGRAMS / "uv", *step.split()],
            cwd=context,
            env=variables,
            capture_output=True,
            text=True,
            timeout=400,
        )
        if "network connectivity is disabled" in done.stderr:
            pytest.skip("the cache of uv has not all packages, and this test downloads none")
        assert done.returncode == 0, done.stderr
    (packages,) = target.glob("lib/python3*/site-packages")
    for package in ("services", "schemas"):
        ours, installed = (
            {
                str(p.relative_to(base))
                for p in (base / package).rglob("*")
                if p.is_file() and p.suffix != ".pyc"
            }
            for base in (ROOT, packages)
        )
        assert installed == ours
    assert not (packages / "pytest").exists()
    for program in ("atlhyper", "nats-server"):
        shown = subprocess.run(
            [target / "bin" / program, "--version"], capture_output=True, timeout=60, cwd=tmp_path
        )
        assert shown.returncode == 0, shown.stderr
