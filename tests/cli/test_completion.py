"""Completion: the scripts of three shells, and what they are told."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.cli.command import ATLHYPER, environment, run
from tests.cli.conftest import Run
from tests.cli.standin import Agents
from tests.tokens import TOKEN


def completed(shell: str, line: str, folder: Path, variables: dict[str, str] | None = None) -> list[str]:
    """What is offered for the last word of `line`, as a shell's script asks for it."""
    words = line.split(" ")
    asked = {"_ATLHYPER_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        asked |= {"COMP_WORDS": " ".join(words[:-1]), "COMP_CWORD": words[-1]}
    told = run(folder=folder, variables=asked | (variables or {}))
    assert told.returncode == 0, told.stderr
    if shell == "zsh":
        return told.stdout.splitlines()[1::3]
    return [entry.partition(",")[2].partition("\t")[0] for entry in told.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_and_resources(shell: str, tmp_path: Path) -> None:
    """Subcommands are imported for their own options; resources are kubectl's, also behind a comma."""
    assert completed(shell, "atlhyper desc", tmp_path) == ["describe"]
    assert "--sort-by" in completed(shell, "atlhyper get --so", tmp_path)
    assert completed(shell, "atlhyper get deploym", tmp_path) == ["deployments"]
    assert completed(shell, "atlhyper get pods,deploym", tmp_path) == ["pods,deployments"]
    assert completed(shell, "atlhyper context us", tmp_path) == ["use"]
    assert completed(shell, "atlhyper commands canc", tmp_path) == ["cancel"]
    assert completed(shell, "atlhyper restart deploym", tmp_path) == ["deployment/"]
    assert "--to-revision" in completed(shell, "atlhyper rollback deploy/web --to", tmp_path)


def test_without_an_api_nothing_is_offered(tmp_path: Path) -> None:
    """And nothing is said: somebody is typing."""
    told = run(
        folder=tmp_path,
        variables={
            "_ATLHYPER_COMPLETE": "bash_complete",
            "COMP_WORDS": "atlhyper get pods --cluster e",
            "COMP_CWORD": "4",
            "ATLHYPER_URL": "http://127.0.0.1:1",
        },
    )
    assert (told.returncode, told.stdout.strip(), told.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_that_shell(shell: str, tmp_path: Path) -> None:
    """Where the shell is installed, it can read it."""
    script = run("completion", shell, folder=tmp_path)
    assert script.returncode == 0
    assert f"_ATLHYPER_COMPLETE={shell}_complete" in script.stdout
    if program := shutil.which(shell):
        check = ["--no-execute"] if shell == "fish" else ["-n"]
        subprocess.run([program, *check], input=script.stdout, text=True, check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes(tmp_path: Path) -> None:
    """The whole way through a real shell."""
    steps = """
        source <(atlhyper completion bash)
        COMP_WORDS=(atlhyper get deploym) COMP_CWORD=2
        "$(complete -p atlhyper | sed 's/.*-F \\([^ ]*\\).*/\\1/')" atlhyper deploym get
        echo "${COMPREPLY[@]}"
    """
    variables = environment(tmp_path)
    variables["PATH"] = f"{ATLHYPER.parent}:{variables['PATH']}"
    told = subprocess.run(
        ["bash", "-c", steps], env=variables, capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout.split() == ["deployments"], told.stderr


@pytest.mark.usefixtures("two_clusters")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("atlhyper restart deployment/w", ["deployment/web"]),
        ("atlhyper restart deploy w", ["web"]),
        ("atlhyper delete -n data po/", ["po/db-0"]),
        ("atlhyper drain n", ["n1"]),
        ("atlhyper cordon --cluster u", ["us"]),
    ],
)
async def test_what_there_is(
    served: httpx.AsyncClient, tmp_path: Path, line: str, offered: list[str]
) -> None:
    """Names of objects and nodes come from the API."""
    assert await offered_by(served, line, tmp_path) == offered


async def offered_by(served: httpx.AsyncClient, line: str, folder: Path) -> list[str]:
    """What an API makes be offered: asked again, since nobody who types waits for a second or longer."""
    variables = {"ATLHYPER_URL": str(served.base_url), "ATLHYPER_TOKEN": TOKEN}
    offered: list[str] = []
    for _ in range(30):
        offered = offered or await asyncio.to_thread(completed, "bash", line, folder, variables)
    return offered


@pytest.mark.usefixtures("two_clusters")
async def test_ids_of_commands(
    atlhyper: Run, agents: Agents, served: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Those that may be meant."""
    assert (await atlhyper("cordon", "n1", "--cluster", "eu")).exit_code == 0
    assert await offered_by(served, "atlhyper commands show 0", tmp_path) == [agents.asked[0].id]
