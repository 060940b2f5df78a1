"""Mistakes that people make, as rows: a command, its environment, and what the two lines have to say.

`{folder}`, `{home}`, `{taken}`, `{broker}` and `{credential}` in a text are things of the row's `World`.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from schemas.ids import SHARDS, kubernetes
from services.runtime.bus import credentials
from services.runtime.errors import EXIT_TEMPORARY
from services.runtime.settings import EXIT_CONFIG
from tests.cli.command import run

NOBODY = "127.0.0.1:1"
"""Nobody listens there."""
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


# --- preparations ------------------------------------------------------------------------------------


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


# --- the table ---------------------------------------------------------------------------------------

AGENT = "agent kubernetes"
ROWS = [
    # the command line
    Row("unknown command", "zzz", "No such command 'zzz'", "atlhyper -h", code=2),
    Row("mistyped command", "gte", "No such command 'gte'", "Did you mean 'get'?", code=2),
    Row("unknown option", "get pods --al", "No such option", "-h", code=2),
    Row(
        "no API",
        "get pods",
        f"no API answers at http://{NOBODY}",
        "ATLHYPER_URL",
        env={"ATLHYPER_URL": f"http://{NOBODY}"},
    ),
    Row(
        "an address without scheme",
        "get pods",
        "no API answers at localhost:8080",
        "ATLHYPER_URL",
        env={"ATLHYPER_URL": "localhost:8080"},
    ),
    Row(
        "config file is not YAML",
        "get pods",
        "config.yaml is not YAML",
        "write `url:",
        prepare=lambda world: world.file("person/.config/atlhyper/config.yaml", "url: [\n"),
    ),
    Row(
        "config file with another name",
        "agents",
        "unknown name 'server'",
        "`url`, `token`, `current` and `contexts`",
        prepare=lambda world: world.file("person/.config/atlhyper/config.yaml", {"server": "http://x"}),
    ),
    Row(
        "config file with a token for everybody",
        "agents",
        "can be read by others",
        "chmod 600",
        code=4,
        prepare=lambda world: world.file("person/.config/atlhyper/config.yaml", {"token": "hunter2"}, 0o644),
    ),
    # commands that change something
    Row(
        "nobody to be asked",
        "delete pod/web-0 --cluster eu",
        "no API answers",
        "ATLHYPER_URL",
        env={"ATLHYPER_URL": f"http://{NOBODY}"},
    ),
    Row("replicas that are no number", "scale deploy/web --replicas many", "'many'", "-h", code=2),
    Row("nothing to restart", "restart", "Missing argument 'KIND/NAME...'", "-h", code=2),
    Row(
        "duration without unit, typed",
        "restart deploy/web --timeout 15",
        "'15' is not a duration",
        "90s",
        code=2,
    ),
    Row("part that is none", "restart deploy/web --max-unavailable 0%", "0% is less than 1", "-h", code=2),
    Row(
        "labels of clusters that are none",
        "restart deploy/web --cluster-selector =prod -y",
        "--cluster-selector",
        "env=prod",
        code=2,
    ),
    Row(
        "an operation on what labels select",
        "restart deploy -l app=web --max-failures 1 --cluster eu,us -y",
        "one object that is named",
        "KIND/NAME",
        code=2,
    ),
    Row("operation that is not named", "operations pause", "Missing argument 'ID'", "-h", code=2),
    Row(
        "set-image without an image", "set-image deploy/web", "an image for a container", "app=nginx", code=2
    ),
    Row(
        "no time to end, without force", "delete pod/web-0 --grace-period 0", "at once", "add --force", code=2
    ),
    Row(
        "file that is not there", "apply -f /nowhere.yaml", "cannot read /nowhere.yaml", "name a file", code=2
    ),
    Row(
        "manifest that is not YAML",
        "apply -f web.yaml",
        "web.yaml is not YAML",
        "correct it",
        code=2,
        prepare=lambda world: world.file("web.yaml", "a: [\n"),
    ),
    Row(
        "manifest without a name",
        "apply -f web.yaml",
        "web.yaml has no metadata.name",
        "apply goes by the name",
        code=2,
        prepare=lambda world: world.file("web.yaml", {"apiVersion": "v1", "kind": "ConfigMap"}),
    ),
    Row("folder without manifests", "apply -f person", "no object in person", "hold manifests", code=2),
    # variables
    Row(
        "misspelt variable",
        AGENT,
        "AGENT_READONLY is not a variable of AtlHyper; AGENT_READ_ONLY is",
        "rename it to AGENT_READ_ONLY",
        code=EXIT_CONFIG,
        env={"AGENT_READONLY": "false"},
    ),
    Row(
        "duration without unit",
        AGENT,
        "AGENT_HEARTBEAT_INTERVAL: '15' is not a duration",
        "30s",
        code=EXIT_CONFIG,
        env={"AGENT_HEARTBEAT_INTERVAL": "15"},
    ),
    Row(
        "the master's old address",
        AGENT,
        "AGENT_MASTER_URL: 'http://master:8080' is an HTTP address",
        "nats://",
        code=EXIT_CONFIG,
        env={"AGENT_MASTER_URL": "http://master:8080"},
    ),
    Row(
        "not a cluster id",
        AGENT,
        "AGENT_CLUSTER_ID: 'Prod_1'",
        "AGENT_CLUSTER_ID",
        code=EXIT_CONFIG,
        env={"AGENT_CLUSTER_ID": "Prod_1"},
    ),
    Row(
        "settings file that is not there",
        "master",
        "ATLHYPER_ENV_FILE: cannot read /nowhere.env",
        "correct the path",
        code=EXIT_CONFIG,
        env={"ATLHYPER_ENV_FILE": "/nowhere.env"},
    ),
    Row(
        "not a database URL",
        "api",
        "DATABASE_URL: not a database we know",
        "sqlite+aiosqlite:///",
        code=EXIT_CONFIG,
        env={"DATABASE_URL": "postgres://u:hunter2@h/d"},
    ),
    # addresses
    Row(
        "API port in use",
        "api",
        "API_LISTEN: {taken} is in use",
        "set API_LISTEN",
        code=EXIT_CONFIG,
        env={"API_LISTEN": "{taken}"},
    ),
    Row(
        "API for everybody",
        "api",
        "API_LISTEN: 0.0.0.0:8080 can be reached from other machines, and there is no token yet",
        "atlhyper tokens create",
        code=EXIT_CONFIG,
        env={"API_LISTEN": "0.0.0.0:8080"},
        prepare=tables,
    ),
    Row(
        "metrics port in use",
        "master",
        "MASTER_METRICS_LISTEN: {taken} is in use",
        "set MASTER_METRICS_LISTEN",
        code=EXIT_CONFIG,
        env={"MASTER_METRICS_LISTEN": "{taken}"},
        prepare=tables,
    ),
    Row(
        "metrics for everybody",
        "master",
        "MASTER_METRICS_LISTEN: 0.0.0.0:9464 can be reached",
        "127.0.0.1:9464",
        code=EXIT_CONFIG,
        env={"MASTER_METRICS_LISTEN": "0.0.0.0:9464"},
        prepare=tables,
    ),
    Row(
        "broker port in use",
        "up",
        "NATS_LISTEN: {taken} is in use",
        "NATS_LISTEN",
        env={"NATS_LISTEN": "{taken}"},
        prepare=kubeconfig,
    ),
    Row(
        "broker port in use, where a control plane would be started",
        "up",
        "NATS_LISTEN: {taken} is in use",
        "NATS_LISTEN",
        env={"NATS_LISTEN": "{taken}", "KUBECONFIG": ""},
    ),
    Row(
        "one port for two",
        "up",
        "API_LISTEN: 127.0.0.1:4567 is in use",
        "set API_LISTEN",
        env={"API_LISTEN": "127.0.0.1:4567", "NATS_LISTEN": "127.0.0.1:4567"},
        prepare=kubeconfig,
    ),
    Row(
        "broker for everybody",
        "up",
        "NATS_LISTEN: 0.0.0.0:4222 is open to other machines",
        "127.0.0.1",
        env={"NATS_LISTEN": "0.0.0.0:4222"},
        prepare=kubeconfig,
    ),
    Row(
        "API port in use, all of it",
        "up",
        "API_LISTEN: {taken} is in use",
        "set API_LISTEN",
        env={"API_LISTEN": "{taken}"},
        prepare=kubeconfig,
    ),
    # the broker
    Row(
        "no broker",
        "bus show",
        f"no connection to the broker at nats://{NOBODY}",
        "NATS_URL",
        code=EXIT_TEMPORARY,
        env={"NATS_URL": f"nats://{NOBODY}"},
        prepare=issued("operator", "reader"),
    ),
    Row(
        "no credential",
        "bus apply",
        "no credential at {home}/nats/credentials/operator.nk",
        "NATS_CREDENTIALS",
        code=4,
    ),
    Row(
        "no broker, for the agent",
        AGENT,
        f"no connection to the broker at nats://{NOBODY}",
        "NATS_URL",
        code=EXIT_TEMPORARY,
        env={"AGENT_MASTER_URL": f"nats://{NOBODY}", **A_KUBECONFIG},
        prepare=issued("kubernetes_default-cluster"),
    ),
    Row(
        "no credential, for the agent",
        AGENT,
        "no credential at {home}/nats/credentials/kubernetes_default-cluster.nk",
        "NATS_CREDENTIALS",
        code=4,
        env=A_KUBECONFIG,
        prepare=kubeconfig,
    ),
    Row(
        "credential open to others",
        "bus apply",
        "can be read by others (mode 0644)",
        "chmod 600",
        code=4,
        prepare=credential_open_to_others,
    ),
    # the database
    Row(
        "database without tables",
        "api",
        "has no tables yet",
        "atlhyper db upgrade",
        code=EXIT_CONFIG,
        env={"API_LISTEN": "127.0.0.1:0"},
        prepare=services,
    ),
    Row(
        "database of a newer version",
        "api",
        "revision ffff, which this version does not know",
        "newer",
        code=EXIT_CONFIG,
        env={"API_LISTEN": "127.0.0.1:0"},
        prepare=tables_of_the_future,
    ),
    Row(
        "file is not a database",
        "db upgrade",
        "the file is not a database",
        "restore it",
        code=EXIT_TEMPORARY,
        prepare=not_a_database,
    ),
    Row(
        "database in a folder that cannot be",
        "db upgrade",
        "database /proc/nowhere/a.db",
        "DATABASE_URL",
        code=EXIT_TEMPORARY,
        env={"DATABASE_URL": "sqlite+aiosqlite:////proc/nowhere/a.db"},
    ),
    # the cluster
    Row(
        "kubeconfig is not YAML",
        "up",
        "kubeconfig is not YAML",
        "kubectl config view",
        env={"KUBECONFIG": "{folder}/kubeconfig"},
        prepare=lambda world: world.file("kubeconfig", "a: ["),
    ),
    Row(
        "kubeconfig is a folder",
        "up",
        "cannot read the kubeconfig",
        "ls -l",
        env={"KUBECONFIG": "{folder}/home"},
        prepare=lambda world: world.home.mkdir(),
    ),
    Row(
        "KUBECONFIG names nothing",
        "up",
        "KUBECONFIG: /nowhere does not exist",
        "unset it",
        env={"KUBECONFIG": "/nowhere"},
    ),
    Row(
        "context that is not there",
        "up",
        "the current context 'elsewhere' is not in",
        "there are here",
        env={"KUBECONFIG": "{folder}/kubeconfig"},
        prepare=lambda world: kubeconfig(world, context="elsewhere"),
    ),
    Row(
        "no current context",
        "up",
        "has no current context",
        "kubectl config use-context",
        env={"KUBECONFIG": "{folder}/kubeconfig"},
        prepare=lambda world: kubeconfig(world, context=""),
    ),
]

AS_A = {"NATS_URL": "{broker}", "NATS_CREDENTIALS": "{credential}", "AGENT_CLUSTER_ID": "a"}
"""The environment of an agent that the broker knows."""
WITH_A_BROKER = [
    Row(
        "credential the broker does not know",
        "bus apply",
        "does not know the credential of user 'operator'",
        "NATS_CREDENTIALS",
        code=4,
        env={"NATS_URL": "{broker}"},
        prepare=credential_of_another_broker,
    ),
    Row(
        "credential the broker does not know, for the agent",
        AGENT,
        "does not know the credential of user 'kubernetes_a'",
        "atlhyper bus credentials",
        code=4,
        env={"NATS_URL": "{broker}", "AGENT_CLUSTER_ID": "a", **A_KUBECONFIG},
        prepare=issued("kubernetes_a"),
    ),
    Row(
        "kubeconfig that is not there",
        AGENT,
        "kubeconfig /nowhere does not exist",
        "AGENT_KUBECONFIG",
        code=EXIT_CONFIG,
        env=AS_A | {"AGENT_KUBECONFIG": "/nowhere"},
    ),
    Row(
        "context that is not there, for the agent",
        AGENT,
        "can't be used",
        "AGENT_KUBECONFIG",
        code=EXIT_CONFIG,
        env=AS_A | {"AGENT_KUBECONFIG": "{folder}/kubeconfig"},
        prepare=lambda world: kubeconfig(world, context="elsewhere"),
    ),
    Row(
        "API server that is not there",
        AGENT,
        f"{NOBODY}",
        "kubectl",
        code=EXIT_TEMPORARY,
        env=AS_A | {"AGENT_KUBECONFIG": "{folder}/kubeconfig"},
        prepare=kubeconfig,
    ),
]

WITH_THE_SYSTEM = [
    Row(
        "a stream changed by hand",
        "doctor",
        "ATLHYPER_EVENTS differs in max_age",
        "`atlhyper bus apply` mends it",
    ),
]


@dataclass(frozen=True)
class Message:
    """One message on the bus that nobody can read; it is shown under `/dead-letters`, whole."""

    name: str
    channel: str
    """Of the agent `mistakes`."""
    reason: str
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b"{}"


_WRONG_SHARD = (kubernetes("mistakes").shard + 1) % SHARDS
_SOUND = {
    "ce-specversion": "1.0",
    "ce-id": "019a9d2e-0000-7000-8000-000000000000",
    "ce-source": "/atlhyper/kubernetes/mistakes",
    "ce-type": "io.atlhyper.kubernetes.heartbeat.sent.v1",
}
MESSAGES = [
    Message("no CloudEvent", "heartbeat", "not a CloudEvent: no header ce-id", {"ce-type": "x"}),
    Message(
        "event of unknown type",
        "heartbeat",
        "event type 'io.example.strange.v9' is not known to this version",
        _SOUND | {"ce-type": "io.example.strange.v9"},
    ),
    Message(
        "source is not the subject's",
        "heartbeat",
        "'/atlhyper/kubernetes/another'",
        _SOUND | {"ce-source": "/atlhyper/kubernetes/another"},
    ),
    Message("body that is no heartbeat", "heartbeat", "heartbeat.sent.v1: version: Field required", _SOUND),
    Message("shard of another", f"snapshot.{_WRONG_SHARD}", f"names shard {_WRONG_SHARD}", _SOUND),
]


@dataclass(frozen=True)
class Request:
    """One GET that is answered with a problem."""

    name: str
    path: str
    says: str
    advises: str
    status: int = 400


REQUESTS = [
    Request("bad continue", "/clusters/mistakes/pods?continue=bogus", "continue", "without"),
    Request(
        "continue of another query",
        "/clusters/mistakes/pods?continue=WyI1ZWFhZjNjMjUzZGNmMDBjIiwiIiwibm9kZS0xIl0",
        "continue",
        "without",
    ),
    Request("limit of everything", "/clusters/mistakes/pods?limit=100000000", "10000", "correct it"),
    Request("unknown view", "/clusters/mistakes/pods?view=wide", "full", "correct it"),
    Request("unknown parameter", "/clusters/mistakes/pods?nmaespace=x", "nmaespace", "namespace"),
    Request("unknown cluster", "/clusters/nowhere/pods", "nowhere", "known of that kind: mistakes", 404),
    Request("unknown resource", "/clusters/mistakes/podz", "podz", "pods", 404),
    Request("unknown object", "/clusters/mistakes/pods/default/none", "none", "/pods", 404),
]

WITH_A_CLUSTER = [
    Row(
        "token that is not, or no longer, valid",
        AGENT,
        "401",
        "kubectl get namespaces",
        code=EXIT_CONFIG,
        env=AS_A | {"AGENT_KUBECONFIG": "{folder}/kubeconfig"},
        prepare=wrong_token,
    ),
]
