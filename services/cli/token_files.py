"""A token in a file that only its owner can read: made where there is none that the database knows."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

from services.cli.context import read_token
from services.persistence.database.engine import Database
from services.persistence.tokens import ExpiredToken, Token, Tokens, UnknownToken, check_name, create
from services.runtime.errors import UserError


async def ensure(
    database: Database, path: Path, name: str, lifetime: timedelta | None = None
) -> Token | None:
    """The one that was made: none was there, or one that was revoked, has expired or is of another database.

    Raises BadName, DatabaseUnavailable, and UserError when the file cannot be used.
    """
    check_name(name)
    if (token := _kept(path)) is not None:
        try:
            await Tokens(database).verify(token)
        except (UnknownToken, ExpiredToken):
            pass
        else:
            return None
    temporary = _prepared(path)  # a token is made when there is a place for it
    try:
        secret, made = await create(database, name, lifetime)
        temporary.write_text(secret + "\n", encoding="ascii")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return made


def _kept(path: Path) -> str | None:
    if not path.exists():
        return None
    if path.stat().st_mode & 0o077:
        raise UserError(
            f"{path} holds a token and can be read by others",
            f"chmod 600 {path}; if others may have read it, `atlhyper tokens revoke` it and remove the file",
            4,
        )
    return read_token(path)


def _prepared(path: Path) -> Path:
    """An empty file beside it that nobody else can read, and that nobody can have laid there before."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise UserError(message, "name a file in a folder that you may write") from error
    os.close(handle)
    return Path(temporary)
