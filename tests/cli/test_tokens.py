"""`atlhyper tokens`, and how the command line keeps and shows the one it has."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from services.cli.client import Client
from services.cli.config import Context
from services.cli.context import Running, resolve
from services.cli.main import cli
from services.persistence.database.engine import Database
from services.persistence.tokens import Tokens
from services.runtime.errors import UserError
from tests.cli.command import run
from tests.cli.conftest import Run

TOKEN = "atlhyper_" + "t" * 43


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder, without a database."""
    monkeypatch.setenv("ATLHYPER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path


@pytest.fixture
def database(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same with one that has tables."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


def told(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin)


# --- the commands ------------------------------------------------------------------------------------


def test_a_token_from_its_making_to_its_end(database: str) -> None:
    """Printed once and alone on standard output; listed without itself; revoked by id or by name."""
    made = [told("tokens", "create", "--name", name) for name in ("alice", "bob", "bob")]
    assert {(result.exit_code, result.stdout.count("\n")) for result in made} == {(0, 1)}
    assert len({result.stdout for result in made}) == 3
    assert "valid until it is revoked" in made[0].stderr
    listed = told("tokens", "list")
    header, *rows = [line.split() for line in listed.stdout.splitlines()]
    assert header == ["NAME", "ID", "CREATED", "EXPIRES", "LAST-USED"]
    assert [row[0] for row in rows] == ["tests", "alice", "bob", "bob"]
    assert all(result.stdout.strip() not in listed.output for result in made)
    assert told("tokens", "revoke", rows[2][1]).exit_code == 0
    assert [line.split()[0] for line in told("tokens", "list").stdout.splitlines()[1:]] == [
        "tests",
        "alice",
        "bob",
    ]
    assert told("tokens", "revoke", "bob").exit_code == 0
    gone = told("tokens", "revoke", "bob")
    assert (gone.exit_code, "tokens list" in gone.stderr) == (3, True)


def test_a_token_that_ends_by_itself(database: str) -> None:
    """In as long as was asked for, which is told."""
    made = told("tokens", "create", "--name", "ci", "--expires", "30d")
    expires = told("tokens", "list").stdout.splitlines()[-1].split()[3]
    assert f"valid until {expires}" in made.stderr
    days = (time.mktime(time.strptime(expires, "%Y-%m-%dT%H:%MZ")) - time.mktime(time.gmtime())) / 86400
    assert 29.9 < days < 30.1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--name", "Alice"), "is no name for a token"),
        (("--name", "a/b"), "is no name for a token"),
        ((), "--name"),
        (("--name", "a", "--expires", "soon"), "is not a duration"),
        (("--name", "a", "--expires", "0s"), "longer than nothing"),
        (("--name", "a", "--expires", "9999999d"), "--expires"),
    ],
)
def test_wrong_options(database: str, arguments: tuple[str, ...], text: str) -> None:
    """Usage, told with the option; no token is made."""
    result = told("tokens", "create", *arguments)
    assert (result.exit_code, text in " ".join(result.stderr.split())) == (2, True), result.output
    assert len(told("tokens", "list").stdout.splitlines()) == 2


def test_without_tables_it_says_which_command_makes_them(home: Path) -> None:
    """As every service does."""
    (home / "home").mkdir()
    result = told("tokens", "create", "--name", "a")
    assert result.exit_code != 0
    assert "atlhyper db upgrade" in result.stderr


def test_a_token_in_a_file(database: str, tmp_path: Path) -> None:
    """For its owner alone; made once, and again when the database does not know it any more."""
    path = tmp_path / "deep" / "token"
    create = ("tokens", "create", "--name", "robot", "--file", str(path))
    made = told(*create)
    assert (made.exit_code, made.stdout) == (0, "")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]
    first = path.read_text()
    assert first.strip() not in made.output
    again = told(*create)
    assert (again.exit_code, "already" in again.stderr, path.read_text()) == (0, True, first)
    assert told("tokens", "revoke", "robot").exit_code == 0
    assert told(*create).exit_code == 0
    assert (path.read_text() != first, path.stat().st_mode & 0o777) == (True, 0o600)
    path.chmod(0o640)
    open_to_others = told(*create)
    assert (open_to_others.exit_code, f"chmod 600 {path}" in open_to_others.stderr) == (4, True)


def test_a_file_that_cannot_be_written_makes_no_token(database: str, tmp_path: Path) -> None:
    """Nobody could ever use it."""
    (tmp_path / "file").touch()
    result = told("tokens", "create", "--name", "lost", "--file", str(tmp_path / "file" / "token"))
    assert result.exit_code == 1
    assert "lost" not in told("tokens", "list").stdout


async def test_what_is_printed_is_accepted(
    atlhyper: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the API, and kept as a context of which nobody else can read the file."""
    token = (await atlhyper("tokens", "create", "--name", "me")).stdout
    monkeypatch.delenv("ATLHYPER_TOKEN")
    refused = await atlhyper("agents")
    assert refused.exit_code == 4
    assert "there is none for it" in refused.stderr
    assert "atlhyper tokens create" in refused.stderr
    url = resolve().url
    set_ = await atlhyper("context", "set", "here", "--url", url, "--token-file", "-", stdin=token)
    assert set_.exit_code == 0
    assert (await atlhyper("agents", "--context", "here")).exit_code == 0


async def test_a_wrong_token_is_told_apart(atlhyper: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied, in the API's words; what was sent is not repeated."""
    monkeypatch.setenv("ATLHYPER_TOKEN", TOKEN)
    for command in (("agents",), ("get", "pods", "-A", "-w"), ("events",)):
        refused = await atlhyper(*command)
        assert refused.exit_code == 4, refused.output
        assert (
            "refuses the token: the token is not one of this control plane, or was revoked" in refused.stderr
        )
        assert TOKEN not in refused.output


# --- where it comes from, and where it goes ----------------------------------------------------------


def test_the_order_of_tokens(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATLHYPER_TOKEN, a file's, the context's, that of the running `up`; each for its own address only."""
    up = "http://127.0.0.1:8081"
    (home / "home").mkdir()
    Running(pid=1, api=up, nats="", target="", kubeconfig="", processes={}).write(home / "home")
    (home / "home" / "token").write_text("of-up\n")
    assert (resolve().url, resolve().token) == (up, "of-up")
    monkeypatch.setenv("ATLHYPER_URL", up)
    assert resolve().token == "of-up"
    monkeypatch.setenv("ATLHYPER_URL", "http://127.0.0.1:1")
    assert resolve().token is None
    config = home / "config" / "atlhyper" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("url: https://one\ntoken: of-one\ncontexts: {two: {url: https://two, token: of-two}}\n")
    config.chmod(0o600)
    assert resolve().token is None  # that of the file is for https://one
    monkeypatch.setenv("ATLHYPER_URL", "https://one")
    assert resolve().token == "of-one"
    assert resolve("two").token == "of-two"
    (home / "file").write_text("of-file\n")
    monkeypatch.setenv("ATLHYPER_TOKEN_FILE", str(home / "file"))
    assert resolve().token == "of-file"
    monkeypatch.setenv("ATLHYPER_TOKEN", "of-variable")
    assert resolve().token == "of-variable"
    monkeypatch.delenv("ATLHYPER_TOKEN")
    (home / "file").write_text("\n")
    with pytest.raises(UserError, match="does not hold a token"):
        resolve()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://[::1]:8080", True),
        ("https://atlhyper.example", True),
        ("http://atlhyper.example", False),
        ("http://10.0.0.7:8080", False),
        ("http://localhost.example", False),
        ("http://127.0.0.1@atlhyper.example", False),
        ("HTTP://atlhyper.example", False),
    ],
)
def test_a_token_is_not_shown_to_a_network(url: str, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain HTTP beyond this machine is refused before anything is sent, with the variable that allows it."""
    context = Context(url, TOKEN)
    if shown:
        assert context.headers == {"Authorization": f"Bearer {TOKEN}"}
        return
    with pytest.raises(UserError) as caught:
        Client(context)
    assert (caught.value.exit_code, "ATLHYPER_ALLOW_PLAIN_HTTP=true" in caught.value.next_step) == (4, True)
    assert TOKEN not in str(caught.value)
    assert Context(url).headers == {}
    monkeypatch.setenv("ATLHYPER_ALLOW_PLAIN_HTTP", "true")
    assert context.headers


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", " "])
def test_a_line_break_behind_a_token(home: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`"$(cat token)"$'\\n'`: not part of it, wherever it was read."""
    monkeypatch.setenv("ATLHYPER_TOKEN", TOKEN + end)
    assert resolve().token == TOKEN
    monkeypatch.delenv("ATLHYPER_TOKEN")
    written(home, TOKEN + end)
    assert resolve().token == TOKEN


@pytest.mark.parametrize(
    ("where", "rest"),
    [
        *itertools.product(("variable", "config"), ("\n\nX-Other: 1", "\rX", " and more", "é", "\x7f")),
        ("variable", "\udcff"),
    ],
)
def test_what_is_no_token(home: Path, where: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4 with the place where it was read, and without itself."""
    if where == "config":
        written(home, TOKEN + rest)
    else:
        monkeypatch.setenv("ATLHYPER_TOKEN", TOKEN + rest)
    result = told("agents")
    assert result.exit_code == 4, result.output
    assert "does not hold a token" in result.stderr
    assert ("ATLHYPER_TOKEN" if where == "variable" else "config.yaml: `token`") in result.stderr
    assert TOKEN not in result.output


def test_no_blank_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is empty is none; one of blanks is a mistake."""
    monkeypatch.setenv("ATLHYPER_TOKEN", "")
    assert resolve().token is None
    monkeypatch.setenv("ATLHYPER_TOKEN", " \n")
    with pytest.raises(UserError, match="ATLHYPER_TOKEN does not hold a token"):
        resolve()


def test_a_context_is_not_given_what_is_no_token(home: Path) -> None:
    """Nothing is written."""
    result = told(
        "context", "set", "eu", "--url", "https://eu", "--token-file", "-", stdin=f"{TOKEN} {TOKEN}"
    )
    assert result.exit_code == 4, result.output
    assert TOKEN not in result.output
    assert not (home / "config").exists()


@pytest.mark.parametrize(
    "said",
    [f"Illegal header value b'Bearer {TOKEN}\\n'", f"bad {TOKEN}!", "no way to http://me:t0ps3cret@eu:1"],
)
def test_errors_hold_no_secrets(said: str) -> None:
    """Whatever a library says of what it was given."""
    shown = UserError(said, said, 1).render()
    assert shown.count("***") == 2
    assert TOKEN not in shown
    assert "t0ps3cret" not in shown


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://eu", "localhost:8080", "//eu"])
@pytest.mark.parametrize("token", [TOKEN, None])
def test_only_http_is_known(url: str, token: str | None) -> None:
    """Nobody calls a file plain HTTP."""
    with pytest.raises(UserError, match="only http:// and https:// are known") as caught:
        Client(Context(url, token))
    assert "plain HTTP" not in str(caught.value)


def written(home: Path, token: str) -> None:
    """The config file, with this token."""
    config = home / "config" / "atlhyper" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump({"url": "https://atlhyper.example", "token": token}))
    config.chmod(0o600)


class Elsewhere(BaseHTTPRequestHandler):
    """Sends on to another server, which notes what it is sent."""

    to = ""
    asked: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        self.asked.append((self.headers["Host"], self.headers["Authorization"]))
        self.send_response(307)
        self.send_header("Location", f"{self.to}{self.path}")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    Elsewhere.asked = []
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        Elsewhere.to = f"http://localhost:{server.server_port}"  # another host, as far as HTTP knows
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


def test_a_redirection_does_not_get_it(elsewhere: str) -> None:
    """It is not followed at all; what answers is not the API."""
    with (
        Client(Context(elsewhere, TOKEN)) as client,
        pytest.raises(UserError, match=r"not the AtlHyper API \(status 307\)"),
    ):
        client.get("/clusters")
    assert [token for _, token in Elsewhere.asked] == [f"Bearer {TOKEN}"]


def test_a_proxy_does_not_get_it(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays on this machine is not sent through the proxy of the environment."""
    monkeypatch.setenv("HTTP_PROXY", elsewhere)
    monkeypatch.setenv("NO_PROXY", "")
    with Client(Context("http://127.0.0.1:9", TOKEN)) as client, pytest.raises(UserError, match="no API"):
        client.get("/clusters")
    assert Elsewhere.asked == []


async def test_it_works_on_a_database_of_its_own(home: Path) -> None:
    """As a person does it first: tables, a token, and the API would accept it."""
    variables = {"ATLHYPER_HOME": str(home / "home")}
    await asyncio.to_thread(run, "db", "upgrade", folder=home, variables=variables)
    made = await asyncio.to_thread(run, "tokens", "create", "--name", "me", folder=home, variables=variables)
    assert made.returncode == 0, made.stderr
    async with Database(f"sqlite+aiosqlite:///{home / 'home' / 'atlhyper.db'}") as database:
        assert (await Tokens(database).verify(made.stdout.strip())).actor == "token/me"
