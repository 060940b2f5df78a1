"""The import contracts of pyproject.toml: they hold, and each would notice its violation."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from schemas.kubernetes import KINDS

ROOT = Path(__file__).parents[2]

# One violation of each contract: module to spoil, import to add.
VIOLATIONS = {
    "no service imports another": ("services/api/app.py", "services.master.settings"),
    "the contract knows no service": ("schemas/errors.py", "services.runtime.errors"),
    "inside the contract": ("schemas/ids.py", "schemas.registry"),
    "the contract does no I/O": ("schemas/frames.py", "socket"),
    "the agent's layers": ("services/agent/gateway/interfaces.py", "services.agent.scheduler"),
    "inside a kind of agent": (
        "services/agent/kubernetes/repository/interfaces.py",
        "services.agent.kubernetes.service.reflector",
    ),
    "only app and factory see implementations": (
        "services/agent/scheduler/snapshots.py",
        "services.agent.gateway.bus",
    ),
    "kinds know neither the bus nor the store": (
        "services/agent/kubernetes/service/reflector.py",
        "services.runtime.bus.client",
    ),
    "scheduler, gateway and store know no kind": (
        "services/agent/scheduler/heartbeats.py",
        "schemas.kubernetes",
    ),
    "no agent reaches the database": ("services/agent/app.py", "services.persistence.database.engine"),
    "nats-py has one home": ("services/agent/gateway/bus.py", "nats"),
    "kubernetes-asyncio has one home": ("services/cli/main.py", "kubernetes_asyncio"),
    "Litestar has one home": ("services/runtime/health.py", "litestar"),
    "SQL has one home": ("services/api/http/guards.py", "sqlalchemy"),
    "settings load no library that takes a second to import": ("services/api/settings.py", "sqlalchemy"),
    "cloudevents has one home": ("schemas/envelope.py", "cloudevents"),
}


def _lint(folder: Path) -> dict[str, str]:
    """KEPT or BROKEN by contract."""
    answer = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", folder / "pyproject.toml", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", answer.stdout, re.MULTILINE))
    assert found, answer.stdout + answer.stderr
    return found


def _contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def test_the_contracts_hold() -> None:
    """Nobody imports what is not theirs to import."""
    assert _lint(ROOT) == dict.fromkeys(_contracts(), "KEPT")


def test_each_contract_notices_a_violation(tmp_path: Path) -> None:
    """With one wrong import planted for each contract, every contract is broken."""
    for package in ("services", "schemas"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, module in VIOLATIONS.values():
        path = tmp_path / file
        path.write_text(f"import {module}\n{path.read_text()}")
    assert _lint(tmp_path) == dict.fromkeys(VIOLATIONS, "BROKEN")


def test_every_contract_has_its_violation() -> None:
    """A contract added to pyproject.toml is proven here as well."""
    assert sorted(VIOLATIONS) == sorted(_contracts())


@pytest.mark.parametrize("package", ["services", "schemas"])
def test_the_packages_are_ours(package: str) -> None:
    """No installed distribution shadows our two common names."""
    module = __import__(package)
    assert Path(str(module.__file__)).parent == ROOT / package


WALL_CLOCK = re.compile(
    r"datetime\.(now|utcnow|today)\(|\btime\.(time|time_ns)\(|func\.now\(|CURRENT_TIMESTAMP", re.IGNORECASE
)
ASKS_IT = {
    "services/master/heartbeats.py": "when the process began, for people",
    "services/persistence/database/clock.py": "SQLite serves one host, whose clock is the database's",
}


def test_no_verdict_asks_the_clock_of_this_machine() -> None:
    """Master and API judge by the broker's clock and the database's: their own may be an hour off."""
    asking = {
        str(path.relative_to(ROOT)): len(WALL_CLOCK.findall(path.read_text()))
        for package in ("master", "api", "persistence")
        for path in (ROOT / "services" / package).rglob("*.py")
    }
    assert {path: count for path, count in asking.items() if count} == dict.fromkeys(ASKS_IT, 1)


OF_KUBERNETES = re.compile(
    "|".join(
        {kind.kind.lower() for kind in KINDS.values()} - {"event", "job", "secret", "service"}  # everybody's
        | {"kube", "k8s", "kwok", "container", "replica", "rollout", "cordon", "drain", "evict", "manifest"}
        | {"apiserver", "api server", "resourceversion", "finalizer", "helm"}
    )
)
SAYS_NAMESPACE = {
    "services/agent/store/rows.py": "Events have capability.Key, which is empty there for what has none",
    "services/agent/scheduler/commands/work.py": "the object of a command, as the contract spells it",
}


def test_what_keeps_commands_knows_no_kubernetes() -> None:
    """Not a word of it, names, texts and comments alike: agents of other kinds are to use it unchanged."""
    found = {
        str(path.relative_to(ROOT)): set(OF_KUBERNETES.findall(path.read_text().lower().replace("_", "")))
        for folder in ("store", "scheduler/commands")
        for path in (ROOT / "services" / "agent" / folder).rglob("*.py")
    }
    assert {path: words for path, words in found.items() if words} == {
        path: {"namespace"} for path in SAYS_NAMESPACE
    }
