"""What a long run says in the end."""

from collections.abc import Callable

import pytest

from tests.faults import __main__ as faults
from tests.faults.commands.scenario import Result
from tests.faults.scenario import Plan
from tests.faults.side_by_side import Run, run_all

Verdict = Callable[..., tuple[int, str]]


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verdict:
    """Exit code and last line of a run with these arguments; its commands hold, and there is no strace."""
    monkeypatch.setattr(faults, "_run_commands", lambda seed, kills, keep: Result(seed))
    monkeypatch.setattr(faults.logs, "configure", lambda *_, **__: None)
    monkeypatch.setattr(faults.shutil, "which", lambda _: None)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(faults.sys, "argv", ["faults", "--seeds", "0", *arguments])
        return faults.main(), capsys.readouterr().out.splitlines()[-1]

    return run


def test_what_was_not_run_has_not_held(verdict: Verdict) -> None:
    """Without strace the agent is not killed at its writes, and nobody says that all held."""
    code, last = verdict()
    assert code == 1
    assert "NOT RUN: strace is not installed" in last
    assert "held" not in last


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [(("--no-writes",), "the agent's writes"), (("--commands", "0"), "commands, the agent's writes")],
)
def test_what_was_left_out_is_named(verdict: Verdict, arguments: tuple[str, ...], left_out: str) -> None:
    """Whoever does not want it is told so beside the verdict."""
    code, last = verdict(*arguments)
    assert code == 0
    assert last.endswith(f"all held; not run, as asked: {left_out}")


@pytest.mark.timeout(120)
def test_an_error_of_the_harness_ends_all(capfd: pytest.CaptureFixture[str]) -> None:
    """It is raised here, whatever process it was in, and no other run begins."""
    runs = [Run(seed, Plan(faults=("no such fault",)), on_postgres=False) for seed in range(5000)]
    with pytest.raises(KeyError, match="no such fault"):
        list(run_all(runs, keep=None, jobs=2))
    assert 0 < capfd.readouterr().out.count("on SQLite: seed") < len(runs)
