"""What the pages tell people to type is typed, and shows what they say it shows."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.cluster.build import ensure_binaries
from services.cli.cluster.control_plane import ControlPlane
from tests.docs.desk import Desk
from tests.docs.snippets import PAGES, ROOT, Command, NotRun, blocks, missing, steps
from tests.postgres.server import Postgres

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

README = ROOT / "README.md"
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorials" / "first-fleet.md"
POSTGRESQL = DOCS / "how-to" / "run-on-postgresql.md"
BACKUP = DOCS / "how-to" / "back-up-and-restore.md"
BESIDE_A_RUNNING_SYSTEM = [
    DOCS / "how-to" / f"{name}.md"
    for name in (
        "monitor",
        "give-access",
        "find-things",
        "act-on-a-cluster",
        "inspect-with-nats",
        "read-logs",
        "follow-the-changes",
        "attach-a-cluster",
        "upgrade",
        "when-something-is-wrong",
        "move-from-a-polling-agent",
    )
]
NOT_RUN = {
    "docs/faults.md": 2,
    "docs/how-to/attach-a-cluster.md": 3,
    "docs/how-to/deploy-the-agent.md": 2,
    "docs/how-to/deploy-with-compose.md": 7,
    "docs/how-to/run-as-systemd-units.md": 5,
    "docs/how-to/back-up-and-restore.md": 2,
    "docs/how-to/inspect-with-nats.md": 1,
    "docs/how-to/run-a-three-node-broker.md": 3,
    "examples/README.md": 1,
}
"""How many blocks of each page nobody runs here; each says why."""

needs = {
    name: pytest.mark.skipif(shutil.which(name) is None, reason=f"the page needs {name}")
    for name in ("curl", "jq", "sqlite3")
}


def test_every_block_is_run_or_says_why_not() -> None:
    """Each page with something to type is one of those below; what is not run is counted, with a reason."""
    told = {README, TUTORIAL, POSTGRESQL, BACKUP, *BESIDE_A_RUNNING_SYSTEM}
    typed = {page for page in PAGES if any(isinstance(step, Command) for step in steps(page))}
    assert typed == told
    not_run = {
        str(page.relative_to(ROOT)): [step for step in steps(page) if isinstance(step, NotRun)]
        for page in PAGES
    }
    assert {page: len(found) for page, found in not_run.items() if found} == NOT_RUN
    assert all(len(step.reason) > 10 for found in not_run.values() for step in found)


def test_nothing_to_type_hides_in_another_block() -> None:
    """A block that looks like a terminal is one: `console`, `sh`, or marked."""
    for page in PAGES:
        for line, language, _, text in blocks(page.read_text(encoding="utf-8")):
            if language not in ("sh", "console", "-"):
                assert not text.startswith("$ "), f"{page}:{line}"


def test_what_is_not_shown_is_noticed() -> None:
    """Times, ages, ids and numbers may differ; words, order and columns may not."""
    pod, time = "shop-6bd8f595f9-hkp2d   1/1   35s", "as of 2026-11-21T08:31:57.046001Z"
    shown = ("NAME   READY   AGE", "…", pod, time)
    real = "NAME  READY  AGE\nother\nshop-7c9d8f6b5d-x2x2x   3/3   2m10s\nas of 2027-01-01T00:00:00Z\n"
    assert missing(shown, real) == ""
    assert missing(("NAME   STATUS   AGE",), real) == "NAME   STATUS   AGE"
    assert missing(tuple(reversed(shown)), real) == pod
    assert missing(("shop-6bd8f595f9-hkp2d   1/1   never",), real)


@needs["curl"]
def test_the_tutorial(tmp_path: Path) -> None:
    """Word by word, from a clean clone on a machine without a kubeconfig, to the end."""
    with at_a_desk(tmp_path) as desk:
        desk.follow(steps(TUTORIAL))
        assert not (desk.home / ".local/share/atlhyper/up.json").exists()
        assert not (desk.home / "second").exists()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The system that the README starts; it runs on for the other pages."""
    if shutil.which("curl") is None:
        pytest.skip("the README needs curl")
    with at_a_desk(tmp_path_factory.mktemp("desk")) as desk:
        desk.provide("nats", ensure_binaries(["nats"])["nats"])
        desk.follow(steps(README))
        yield desk


def at_a_desk(folder: Path, variables: dict[str, str] | None = None) -> Desk:
    """Somebody with an empty home."""
    return Desk(folder, variables)


def test_the_readme(running: Desk) -> None:
    """What it shows is what one sees; that it was followed to its end is the fixture's doing."""
    assert running.is_up


@needs["jq"]
@pytest.mark.parametrize("page", BESIDE_A_RUNNING_SYSTEM, ids=lambda page: page.stem)
def test_beside_a_running_system(running: Desk, page: Path) -> None:
    """Every command of the page does what it says, one after the other, in a terminal of its own."""
    running.follow(steps(page), activated=True)


@needs["sqlite3"]
def test_backed_up_and_restored(running: Desk) -> None:
    """A copy of a running SQLite, put back without the broker's streams: rows are current again."""
    running.follow(steps(BACKUP), activated=True)


@needs["curl"]
def test_on_postgresql(tmp_path: Path, own_postgres: Postgres, control_plane: ControlPlane) -> None:
    """Two masters share the work, two APIs answer; then the database is saved, dropped and put back."""
    programs = own_postgres._bin
    for name in ("psql", "pg_dump", "pg_restore", "createdb", "dropdb"):
        if shutil.which(name) is None and not (programs / name).exists():
            pytest.skip(f"the page needs {name}")
    address = f"127.0.0.1:{own_postgres.port}"
    variables = {
        "KUBECONFIG": str(control_plane.kubeconfig),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(own_postgres.port),
        "PGUSER": "postgres",
        "PATH": f"{os.environ['PATH']}:{programs}",
    }
    with at_a_desk(tmp_path, variables) as desk:
        passwords = desk.home / ".pgpass"
        passwords.write_text(f"*:*:*:atlhyper:change-me\n*:*:*:postgres:{own_postgres.password}\n")
        passwords.chmod(0o600)
        desk.addresses |= {"127.0.0.1:5432": address, "db.example": address}
        desk.follow(steps(POSTGRESQL), activated=True)
        agents = own_postgres.execute("SELECT count(*) FROM agent", "atlhyper")
        save, restore = (
            Command(text, line)
            for line, _, directive, text in blocks(BACKUP.read_text(encoding="utf-8"))
            if "test_on_postgresql" in directive
        )
        drop = Command("dropdb atlhyper", restore.line)
        url = Command("export DATABASE_URL=postgresql+asyncpg://atlhyper:change-me@db.example/atlhyper", 0)
        desk.follow([save, drop, url, restore], activated=True)
        assert own_postgres.execute("SELECT count(*) FROM agent", "atlhyper") == agents
