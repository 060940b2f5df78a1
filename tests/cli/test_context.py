"""Where the command line finds the API, and which cluster `up` attaches."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.cli import attach
from services.cli.attach import id_of
from services.cli.context import DEFAULT_URL, Running, config_file, forget, resolve
from services.cli.main import cli
from services.runtime.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATLHYPER_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def _running(api: str, pid: int | None = None) -> Running:
    return Running(pid=pid or os.getpid(), api=api, nats="", target="", kubeconfig="", processes={})


def test_the_order_of_sources(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATLHYPER_URL, then the config file, then a running `up`, then the default."""
    assert resolve().url == DEFAULT_URL
    _running("http://127.0.0.1:8081").write(home)
    assert resolve().url == "http://127.0.0.1:8081"
    config = home / "config" / "atlhyper" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("url: http://file:1\ntoken: t\n")
    config.chmod(0o600)
    assert (resolve().url, resolve().token) == ("http://file:1", "t")
    monkeypatch.setenv("ATLHYPER_URL", "http://variable:1")
    monkeypatch.setenv("ATLHYPER_TOKEN", "u")
    assert (resolve().url, resolve().token) == ("http://variable:1", "u")
    assert "token" not in repr(resolve())


def test_an_up_that_is_gone_is_not_asked(home: Path) -> None:
    """`up.json` of a process that was killed is stale, whatever it says."""
    _running("http://127.0.0.1:8081", pid=2**22 + 12345).write(home)
    assert Running.read(home) is None
    assert resolve().url == DEFAULT_URL
    _running("http://127.0.0.1:8081").write(home)
    assert (home / "up.json").stat().st_mode & 0o777 == 0o600
    forget(home)
    assert Running.read(home) is None


@pytest.mark.parametrize(
    ("context", "cluster_id"),
    [
        ("kind-dev", "kind-dev"),
        (
            "arn:aws:eks:eu-west-1:123456789012:cluster/Prod",
            "arn-aws-eks-eu-west-1-123456789012-cluster-prod",
        ),
        ("admin@Talos_1", "admin-talos-1"),
        ("x" * 80, "x" * 63),
        ("…", "cluster"),
    ],
)
def test_an_id_after_the_context(context: str, cluster_id: str) -> None:
    """Lower case, `-` for every other character, at most 63 of them."""
    assert id_of(context) == cluster_id


def test_without_a_kubeconfig_the_local_one() -> None:
    """Only where there is none at all; its id is `local` unless one was set."""
    assert attach.choose("", None) == attach.Attachment("", "local", "local")
    assert attach.choose("", "mine").cluster_id == "mine"


def test_the_current_context_decides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kubectl reads KUBECONFIG: the first file that names a current context, the contexts of all."""
    first, second = home / "first", home / "second"
    first.write_text("contexts: [{name: a}]\n")
    second.write_text("current-context: a\ncontexts: []\n")
    monkeypatch.setenv("KUBECONFIG", f"{first}{os.pathsep}{second}")
    chosen = attach.choose("", None)
    assert (chosen.context, chosen.cluster_id, chosen.is_local) == ("a", "a", False)
    monkeypatch.setenv("KUBECONFIG", str(first))
    with pytest.raises(UserError, match="no current context"):
        attach.choose("", None)
    second.write_text("current-context: b\ncontexts: [{name: b}]\n")
    assert attach.choose(str(second), "mine") == attach.Attachment(str(second), "b", "mine")


def test_contexts_are_kept_and_chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one set is the current one; `--context` goes before variables, and these before it."""
    token = home / "token"
    token.write_text("s3cret\n")
    assert told("set", "staging", "--url", "https://staging:1", "--token-file", str(token)).exit_code == 0
    assert told("set", "prod", "--url", "https://prod:1").exit_code == 0
    config = home / "config" / "atlhyper" / "config.yaml"
    assert config.stat().st_mode & 0o777 == 0o600
    assert (resolve().url, resolve().token) == ("https://staging:1", "s3cret")
    assert (resolve("prod").url, resolve("prod").token) == ("https://prod:1", None)
    assert told("use", "prod").exit_code == 0
    assert resolve().url == "https://prod:1"
    monkeypatch.setenv("ATLHYPER_URL", "http://variable:1")
    assert resolve().url == "http://variable:1"
    assert resolve("staging").url == "https://staging:1"
    monkeypatch.setenv("ATLHYPER_CONTEXT", "staging")
    assert resolve().url == "https://staging:1"
    listed = told("list")
    assert [line.split()[:3] for line in listed.stdout.splitlines()[1:]] == [
        ["*", "prod", "https://prod:1"],
        ["staging", "https://staging:1", "yes"],
    ]
    assert "s3cret" not in listed.output
    assert told("delete", "staging").exit_code == 0
    assert "s3cret" not in config.read_text()
    monkeypatch.delenv("ATLHYPER_CONTEXT")
    monkeypatch.delenv("ATLHYPER_URL")
    assert resolve().url == "https://prod:1"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("use", "nowhere"), 3, "no context 'nowhere'"),
        (("delete", "nowhere"), 3, "known contexts: none"),
        (("set", "new"), 2, "needs an address"),
        (("set", "new", "--url", "staging:8080"), 2, "--url http://"),
    ],
)
def test_wrong_contexts(arguments: tuple[str, ...], code: int, text: str) -> None:
    """Told with the next step; nothing is written."""
    result = told(*arguments)
    assert (result.exit_code, text in result.stderr) == (code, True), result.output
    assert not config_file().exists()


def told(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ("context", *arguments))
