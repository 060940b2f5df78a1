"""Help is quick, teaches, and knows every variable."""

import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from services.cli.main import COMMANDS
from services.cli.services import AGENT, API, MASTER, STORE
from services.runtime.settings import describe
from tests.cli.command import ATLHYPER, environment, run

HEAVY = ("nats", "kubernetes_asyncio", "litestar", "sqlmodel", "sqlalchemy", "alembic", "aiohttp", "httpx")
LEAVES = ["", *COMMANDS, "agent kubernetes", "db upgrade", "bus apply", "bus show", "bus credentials"]
LEAVES += ["commands show", "commands wait", "commands cancel"]

_YARDSTICK = "asyncio, http.server, sqlite3, unittest.mock, xml.dom.minidom"
"""About 100 ms where the help takes 150."""
_PROBE = f"""
import sys
from services.cli.main import cli
try:
    cli(sys.argv[1:], prog_name="atlhyper")
finally:
    print("LOADED", *[name for name in {HEAVY!r} if name in sys.modules])
"""


@pytest.mark.parametrize("command", LEAVES)
def test_help_loads_no_service(command: str, tmp_path: Path) -> None:
    """`--help` of every command answers without the libraries that take a second to import."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *command.split(), "--help"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert "Usage: atlhyper" in done.stdout


@pytest.mark.parametrize("command", [leaf for leaf in LEAVES if leaf not in ("agent", "bus", "db")])
def test_help_has_an_example(command: str, tmp_path: Path) -> None:
    """Whoever reads it can copy a line that works."""
    told = " ".join(run(*command.split(), "--help", folder=tmp_path).stdout.split())
    assert any(word in told for word in ("Example: ", "Examples:", "Try it: ")), told


@pytest.mark.parametrize(
    ("command", "model"),
    [("agent kubernetes", AGENT), ("master", MASTER), ("api", API), ("db upgrade", STORE)],
)
def test_help_has_every_variable(command: str, model: str, tmp_path: Path) -> None:
    """Names and defaults come from the settings model."""
    module, _, name = model.partition(":")
    told = run(*command.split(), "--help", folder=tmp_path, variables={"COLUMNS": "200"}).stdout
    for variable in describe(getattr(import_module(module), name)):
        assert variable.names[0] in told
        assert variable.description, f"{variable.names[0]} is not described"


def test_the_master_promises_no_more_than_it_does(tmp_path: Path) -> None:
    """How many may run depends on the database."""
    told = " ".join(run("master", "--help", folder=tmp_path).stdout.split())
    assert "On PostgreSQL any number run beside each other" in told
    assert "on SQLite a second one stands by" in told


def test_help_is_quick(tmp_path: Path) -> None:
    """150 ms on an idle machine. What is limited is processor time: a busy machine cannot take that; one that
    is slower than others needs as much longer for what Python brings along."""
    best = min(_seconds(tmp_path, ATLHYPER, "--help") for _ in range(5))
    yardstick = min(_seconds(tmp_path, sys.executable, "-c", f"import {_YARDSTICK}") for _ in range(5))
    assert best < max(0.4, 3 * yardstick)


def _seconds(folder: Path, *command: str | Path) -> float:
    """Processor time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment(folder), capture_output=True, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_version(tmp_path: Path) -> None:
    """One line: name and version."""
    from importlib.metadata import version

    assert run("--version", folder=tmp_path).stdout == f"atlhyper {version('atlhyper')}\n"


def test_python_m_services_is_the_same(tmp_path: Path) -> None:
    """The command also runs without its script."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "services", "--version"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == run("--version", folder=tmp_path).stdout
