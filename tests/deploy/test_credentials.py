"""A credential that a platform mounts, and the credentials of the services."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas import topology
from services.runtime.bus import credentials
from services.runtime.errors import UserError
from tests.cli.command import run

NOBODY = 65532

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has files of root's and can be somebody else"
)


@contextmanager
def somebody() -> Iterator[None]:
    """As the user of the image."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@as_root
def test_a_mounted_credential_is_accepted(tmp_path: Path) -> None:
    """A seed of root's that one group may read is used, as Kubernetes and systemd give it to a service; one
    that everybody may read is refused, and so is one of the service's own that its group may read."""
    issued = credentials.issue(tmp_path, "master")
    credentials.check_seed(issued)  # it imports a codec late, perhaps from where only root may read
    seed = issued.read_text()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        mounted = Path(folder) / "seed"
        mounted.write_text(seed)
        for owner, mode, accepted in (
            (0, 0o440, True),
            (0, 0o444, False),
            (0, 0o460, False),
            (NOBODY, 0o400, True),
            (NOBODY, 0o440, False),
        ):
            os.chown(mounted, owner, NOBODY)
            mounted.chmod(mode)
            with somebody():
                if accepted:
                    credentials.check_seed(mounted)
                else:
                    with pytest.raises(UserError, match=f"read by others .mode {mode:04o}"):
                        credentials.check_seed(mounted)


def test_the_credentials_of_the_services(tmp_path: Path) -> None:
    """Without KIND and ID those of the services and the reader are issued, once, and the accounts written."""
    first = run("bus", "credentials", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    names = [user.name for user in topology.CORE_USERS]
    assert [Path(line).stem for line in first.stdout.splitlines()] == names
    home = tmp_path / "home"
    accounts = (home / "nats" / "accounts.conf").read_text()
    assert all(key in accounts for key in credentials.users(home).values())
    seeds = [credentials.seed_file(home, name).read_text() for name in names]
    again = run("bus", "credentials", folder=tmp_path)
    assert again.stdout == first.stdout
    assert [credentials.seed_file(home, name).read_text() for name in names] == seeds
    missing = run("bus", "credentials", "kubernetes", folder=tmp_path)
    assert missing.returncode == 2
    assert "Missing argument 'ID'" in missing.stderr
