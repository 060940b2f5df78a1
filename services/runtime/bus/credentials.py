"""Credentials: an nkey per user. The seed stays in a 0600 file, the broker knows the public key only.

`nats/users.json` under ATLHYPER_HOME lists every user with its public key; the broker's accounts file is
generated from it. A seed file may therefore be moved to the machine where it is used.
"""

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nkeys  # type: ignore[import-untyped]

from schemas import topology
from schemas.errors import ContractError
from schemas.ids import Target
from schemas.topology import User
from services.runtime.errors import UserError


def folder(home: Path) -> Path:
    """Where everything of the embedded broker is: `nats` under ATLHYPER_HOME."""
    return home / "nats"


def seed_file(home: Path, user: str) -> Path:
    """`nats/credentials/<user>.nk`"""
    return folder(home) / "credentials" / f"{user}.nk"


def users(home: Path) -> dict[str, str]:
    """Public key of each user that was issued a credential. Raises UserError for a damaged list."""
    path = folder(home) / "users.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path}: {error}", "restore it from a backup, or remove it to start anew"
        ) from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path} is not a list of users", "restore it from a backup, or remove it to start anew"
        )
    return {str(name): str(key) for name, key in found.items()}


def definition(name: str) -> User:
    """What the user of that name may do: a core user, or the agent `<kind>_<id>`. Raises ContractError."""
    for user in topology.CORE_USERS:
        if user.name == name:
            return user
    kind, separator, agent_id = name.partition("_")
    if not separator:
        raise ContractError(f"user {name!r} is neither a service nor <kind>_<id>")
    return topology.agent(Target.parse(kind, agent_id))


def issue(home: Path, user: str, *, rotate: bool = False) -> Path:
    """The seed file of a user, made when there is none; `rotate` replaces the key, and the old one ends.

    The broker takes the change when it is reloaded (`broker.reload`). Raises UserError when the credential
    was issued but its seed file is no longer here, ContractError for a name that cannot be a user.
    """
    definition(user)
    path = seed_file(home, user)
    with _locked(home):
        known = users(home)
        if not rotate and user in known:
            if not path.exists():
                raise UserError(
                    f"the credential of {user} was issued, and its seed file {path} was moved away",
                    "use it where it is, or issue a new one with --rotate (the old one ends)",
                )
            check_seed(path)
            return path
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        # The list first: a crash in between leaves a user nobody can be, not a seed nobody knows.
        known[user] = nkeys.from_seed(bytearray(seed)).public_key.decode()
        write_private(folder(home) / "users.json", json.dumps(known, indent=2, sort_keys=True) + "\n")
        write_private(path, seed.decode() + "\n")
    return path


def check_seed(path: Path) -> None:
    """Raises UserError for a seed file that is missing, malformed, or open to other users of the machine.

    What root gave us to read may be open to one group: Kubernetes mounts a secret so for the pod's `fsGroup`,
    and the access list of a systemd credential shows as that.
    """
    try:
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise UserError(
            f"no credential at {path}",
            "`atlhyper up` makes those of the services, `atlhyper bus credentials KIND ID` an agent's; "
            "NATS_CREDENTIALS names another file",
            exit_code=4,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not an nkey seed"
        raise UserError(f"cannot read the credential {path}: {why}", "correct NATS_CREDENTIALS", 4) from error
    given = status.st_uid == 0 and os.geteuid() != 0
    if mode & (0o037 if given else 0o077):
        raise UserError(
            f"the credential {path} can be read by others (mode {mode:04o})",
            f"chmod 600 {path}; if others may have read it, issue a new one with --rotate",
            exit_code=4,
        )
    try:
        nkeys.from_seed(bytearray(text.encode()))
    except Exception as error:  # nkeys raises its own, binascii's and nacl's
        raise UserError(f"{path} holds no nkey seed", "correct NATS_CREDENTIALS", 4) from error


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, readable by its owner only, in folders of the same kind."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 by mkstemp
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time changes the list of users."""
    folder(home).mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder(home) / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
