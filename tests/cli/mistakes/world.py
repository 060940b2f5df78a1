"""Mistakes that people make, as rows: a command, its environment, and what the two lines have to say.

`{folder}`, `{home}`, `{taken}`, `{broker}` and `{credential}` in a text are things of the row's `World`.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from services.runtime.bus import credentials
from tests.cli.command import run

NOBODY = "127.0.0.1:1"
"""Nobody listens there."""
AGENT = "agent kubernetes"
A_KUBECONFIG = {"AGENT_KUBECONFIG": "{folder}/kubeconfig"}
"""What `kubeconfig` below writes."""


@dataclass
class World:
    """What rows may refer to."""

    folder: Path
    """Of the test; its `home` is ATLHYPER_HOME."""
    taken: str
    """An address that another process listens on."""
    broker: str = ""
    credential: Path | None = None
    """With which that broker knows the agent `a`."""
    kubeconfig: Path | None = None
    """Of the real control plane, as its administrator."""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def file(self, name: str, content: object, mode: int = 0o600) -> Path:
        """A file in `folder`; anything but text is written as YAML."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        path.chmod(mode)
        return path

    def fill(self, text: str) -> str:
        return text.format(**vars(self), home=self.home)


Prepare = Callable[[World], object]


@dataclass(frozen=True)
class Row:
    """One mistake."""

    name: str
    command: str
    says: str
    """Part of the line that names the cause."""
    advises: str
    """Part of the line that says what to do."""
    code: int = 1
    env: dict[str, str] = field(default_factory=dict)
    prepare: Prepare = lambda world: None


def kubeconfig(
    world: World, server: str = f"https://{NOBODY}", context: str = "here", token: str = "t"
) -> Path:
    """A kubeconfig `kubeconfig` with one context, `here`, and the given current one."""
    return world.file(
        "kubeconfig",
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "u", "user": {"token": token}}],
        },
    )


def wrong_token(world: World) -> Path:
    """The real API server's address with a token it never issued."""
    assert world.kubeconfig is not None
    cluster = yaml.safe_load(world.kubeconfig.read_text())["clusters"][0]["cluster"]
    return kubeconfig(world, server=cluster["server"], token="expired-or-invented")


def issued(*users: str) -> Prepare:
    """Credentials of these users, in this home, and a kubeconfig that can be read."""

    def prepare(world: World) -> None:
        kubeconfig(world)
        for user in users:
            credentials.issue(world.home, user)

    return prepare


def credential_of_another_broker(world: World) -> None:
    credentials.issue(world.home, "operator")


def credential_open_to_others(world: World) -> None:
    credentials.issue(world.home, "operator").chmod(0o644)


def tables(world: World) -> None:
    """A database and the services' credentials, as `atlhyper up` leaves them."""
    services(world)
    assert run("db", "upgrade", folder=world.folder).returncode == 0


services = issued("master", "api")


def tables_of_the_future(world: World) -> None:
    """A revision this version has never heard of, which demands code it does not have."""
    tables(world)
    with sqlite3.connect(world.home / "atlhyper.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffff'")
        names = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE name LIKE 'compat%'")
        ]
        for name in names:
            database.execute(f"UPDATE {name} SET needs = 'ffff'")
    database.close()


def not_a_database(world: World) -> None:
    world.file("home/atlhyper.db", "this is a letter, not a database\n" * 100)
