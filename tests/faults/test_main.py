"""What a long run says in the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import __main__ as faults
from tests.faults import side_by_side
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
    assert 0 < capfd.readouterr().out.count("on SQLite: seed") <= 2


@pytest.mark.timeout(180)
def test_ctrl_c_ends_the_runs_under_way_and_all_others(tmp_path: Path) -> None:
    """As a terminal sends it, to every process: no run begins after it, and nothing is left."""
    arguments = ["--short", "--faults=compaction", "--seeds=9", "--jobs=2", "--commands=0"]
    said = tmp_path / "said"
    (runs := tmp_path / "runs").mkdir()
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.faults", *arguments],
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(runs)},
        )
    try:
        while said.read_text().count(": seed") < 2:
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert said.read_text().count(": seed") == 2
    assert list(runs.iterdir()) == []
    processes = subprocess.run(["ps", "-ww", "-eo", "args"], check=True, capture_output=True, text=True)
    assert str(runs) not in processes.stdout


def test_ctrl_c_between_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the pool that had nothing to end begins nothing."""
    monkeypatch.setattr(side_by_side, "_interrupted", False)
    before = signal.signal(signal.SIGINT, side_by_side._remember)
    try:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            side_by_side._run(Run(1, Plan(faults=("no such fault",)), on_postgres=False), None)
    finally:
        signal.signal(signal.SIGINT, before)
