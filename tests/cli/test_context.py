"""Where the command line finds the API, and which cluster `up` attaches."""

import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from services.cli import attach
from services.cli.attach import id_of
from services.cli.client import Client
from services.cli.config import config_file
from services.cli.context import DEFAULT_URL, Running, forget, resolve
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


def written(text: str) -> Path:
    """The config file, which only its owner can read."""
    config_file().parent.mkdir(parents=True)
    config_file().write_text(text)
    config_file().chmod(0o600)
    return config_file()


_GOOD = "good: {url: 'http://127.0.0.1:1', token: fine}"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("{url: 'https://x', token: 'hunter2 hunter2'}", "context 'bad': `token` does not hold a token"),
        ("{url: 'https://x', token: 'hunter2é'}", "does not hold a token"),
        ("{url: 'https://x', token: 4711}", "context 'bad' is not a list of names and texts"),
        ("{url: 'http://x', token: hunter2}", "speaks plain HTTP"),
        ("{url: 'ftp://x'}", "only http:// and https:// are known"),
        ("{url: 'http://x:port'}", "is no address"),
        ("{url: 'http://['}", "is no address"),
        ("{url: 'http://x y'}", "is no address"),
        (f"{{url: 'http://{'x' * 100}'}}", "is no address"),
        ("{url: 'http://'}", "is no address"),
        ("{url: [x]}", "is not a list of names and texts"),
        ("{token: hunter2}", "context 'bad' has no `url`"),
        ("{url: 'https://x', password: hunter2}", "unknown name 'password'"),
        ("https://x", "is not a list of names and texts"),
        ("", "is not a list of names and texts"),
    ],
)
def test_a_context_that_cannot_be_used(broken: str, why: str) -> None:
    """It keeps nobody from using another one; the list says what is wrong; it can be deleted or set anew."""
    config = written(f"contexts:\n  bad: {broken}\n  {_GOOD}\ncurrent: good\n")
    assert (resolve().url, resolve("good").token) == ("http://127.0.0.1:1", "fine")
    with pytest.raises(UserError) as caught, Client(resolve("bad")):
        pass
    assert why in caught.value.message
    assert "hunter2" not in caught.value.render()
    assert caught.value.next_step
    listed = told("list")
    assert listed.exit_code == 0, listed.output
    assert "hunter2" not in listed.output
    bad, good = listed.stdout.splitlines()[1:]
    assert bad.split()[0] == "bad"
    assert why in bad
    assert good.split() == ["*", "good", "http://127.0.0.1:1", "yes", "<none>"]
    before = yaml.safe_load(config.read_text())["contexts"]["bad"]
    assert told("use", "bad").exit_code == 0
    assert told("list").exit_code == 0
    assert "nothing can be asked" in told("list").stderr
    assert told("use", "good").exit_code == 0
    assert yaml.safe_load(config.read_text())["contexts"]["bad"] == before
    token = config.with_name("token")
    token.write_text("another\n")
    assert told("set", "bad", "--url", "https://y", "--token-file", str(token)).exit_code == 0
    assert (resolve("bad").url, resolve("bad").token) == ("https://y", "another")
    assert "PROBLEM" not in told("list").stdout
    assert told("delete", "bad").exit_code == 0
    assert list(yaml.safe_load(config.read_text())["contexts"]) == ["good"]


def test_what_a_broken_context_has_is_kept_where_it_can_be() -> None:
    """A token that can be used stays when the address is mended; one that cannot is not dropped unsaid."""
    written("contexts: {a: {token: fine}, b: {url: 'https://b', token: 4711}}\n")
    assert told("set", "a", "--url", "https://a").exit_code == 0
    assert (resolve("a").url, resolve("a").token) == ("https://a", "fine")
    refused = told("set", "b", "--url", "https://c")
    assert (refused.exit_code, "--token-file" in refused.stderr) == (2, True), refused.output
    assert told("delete", "b").exit_code == 0
    assert told("list").exit_code == 0


def test_a_current_context_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only calls that name no other fail, and what they advise mends it."""
    written(f"contexts:\n  {_GOOD}\ncurrent: gone\n")
    with pytest.raises(UserError, match="`current` is 'gone'") as caught:
        resolve()
    assert "atlhyper context use" in caught.value.next_step
    assert resolve("good").token == "fine"
    assert "`current` is 'gone'" in told("list").stderr
    monkeypatch.setenv("ATLHYPER_URL", "http://127.0.0.1:2")
    assert resolve().url == "http://127.0.0.1:2"
    monkeypatch.delenv("ATLHYPER_URL")
    assert told("use", "good").exit_code == 0
    assert resolve().token == "fine"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("token: [hunter2]", "is not a list of names and texts"),
        ("url: 8080", "is not a list of names and texts"),
        ("token: 'hunter2 hunter2'", "does not hold a token"),
        ("url: 'https://x'\ntoken: 'hunter2 hunter2'", "does not hold a token"),
    ],
)
def test_what_is_beside_the_contexts(text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for calls that name no context, which do not go elsewhere in silence; others do not mind it."""
    config = written(f"{text}\ncontexts:\n  {_GOOD}\n")
    with pytest.raises(UserError, match=why) as caught:
        resolve()
    assert "hunter2" not in caught.value.render()
    assert resolve("good").token == "fine"
    before = yaml.safe_load(config.read_text())
    assert told("use", "good").exit_code == 0
    assert yaml.safe_load(config.read_text()) == before | {"current": "good"}
    assert resolve().token == "fine"
    monkeypatch.setenv("ATLHYPER_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("ATLHYPER_TOKEN", "mine")
    assert resolve().token == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("use", "nowhere"), 3, "no context 'nowhere'"),
        (("delete", "nowhere"), 3, "known contexts: none"),
        (("set", "new"), 2, "needs an address"),
        (("set", "new", "--url", "staging:8080"), 2, "--url http://"),
        (("set", "new", "--url", "http://staging:port"), 2, "--url http://"),
    ],
)
def test_wrong_contexts(arguments: tuple[str, ...], code: int, text: str) -> None:
    """Told with the next step; nothing is written."""
    result = told(*arguments)
    assert (result.exit_code, text in result.stderr) == (code, True), result.output
    assert not config_file().exists()


def told(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ("context", *arguments))
