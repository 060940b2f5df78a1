"""docs/how-to/when-something-is-wrong.md: whatever the code can say is there, and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from schemas.presence import CollectionState
from services.api.http import problems
from services.cli import checks
from services.cli.main import cli
from services.persistence.presence.liveness import AgentState
from services.persistence.state.epochs import Verdict
from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "how-to" / "when-something-is-wrong.md"
ALL_IS_WELL = {Verdict.APPLIED, Verdict.REPEATED, Verdict.IGNORED}
"""What becomes of a frame without anybody having to know."""
STATUSES = {"standby", "degraded"}
"""Words of an agent's health that are no state of its own."""


def entries(group: str) -> set[str]:
    """The headings `### group: name`."""
    return set(re.findall(rf"^### {group}: (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    """Every call of a function or method of that name in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == name:
                yield node


def constant(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant), ast.dump(node)
    return str(node.value)


def test_states_of_agents() -> None:
    """Each state of an agent, and each word of its health that a person has to know."""
    assert entries("agent") == set(AgentState) | STATUSES


def test_states_of_collections() -> None:
    """Each state of a collection."""
    assert entries("collection") == set(CollectionState)


def test_what_becomes_of_frames() -> None:
    """Each verdict that is not well, and the digest that disagrees."""
    verdicts = {verdict.replace(" ", "-") for verdict in set(Verdict) - ALL_IS_WELL}
    assert entries("frame") == verdicts | {"digest"}


def test_readiness() -> None:
    """Each check of each service's `/readyz`."""
    apps = (ROOT / "services" / name / "app.py" for name in ("agent", "api", "master"))
    named = {constant(call.args[0]) for app in apps for call in calls(app, "check")}
    assert entries("readiness") == named


def test_findings_of_doctor() -> None:
    """Each check of `atlhyper doctor`; each can fail, if only because nobody answers."""
    files = (ROOT / "services" / "cli").glob("*.py")
    named = {
        call.args[1].value
        for path in files
        for call in calls(path, "Finding")
        if isinstance(call.args[1], ast.Constant)
    }
    assert entries("doctor") == named | set(checks.CHECKS)


def test_metrics_worth_an_alarm() -> None:
    """Each metric that how-to pages name is one that a service has; each alarm leads to what to do."""
    known = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in PAGE.parent.glob("*.md")]
    named = set(re.findall(r"`(atlhyper_[a-z_]+)", "\n".join(pages)))
    assert named
    assert {name for name in named if f"`{name}`" not in known} == set()
    _, _, alarms = (PAGE.parent / "monitor.md").read_text(encoding="utf-8").partition("## Worth an alarm")
    rows = [line for line in alarms.splitlines() if line.startswith("| `")]
    assert rows
    assert all("](" in row for row in rows)


def test_problems() -> None:
    """Each type of problem has its anchor in the reference, and its `type` ends with it."""
    text = (ROOT / "docs" / "reference" / "problems.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, problems.Kind)]
    assert set(re.findall(r"^## (.+)$", text, re.MULTILINE)) == {kind.name for kind in kinds}
    assert all(kind.problem("/").type == f"urn:atlhyper:problem:{kind.name}" for kind in kinds)


def test_exit_codes() -> None:
    """Each code that `atlhyper --help` names is in the table, and no other."""
    told = set(re.findall(r"\b(\d+) [a-z]", (cli.help or "").partition("Exit codes:")[2]))
    assert set(re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == told
