"""Idempotency keys: what is sent again under one key is done once."""

from typing import Annotated

from litestar.params import HeaderParameter

from services.api.http import problems
from services.api.http.problems import ProblemError
from services.persistence.commands.idempotency import Earlier

Key = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Of your making, such as a UUID. Sent again with the same key, the same content is asked "
        "for once, however often it comes and to whichever replica; other content is refused.",
        min_length=1,
        max_length=255,
    ),
]


def key_text(given: str | None) -> str:
    """The key; empty for none. Raises ProblemError."""
    if given is None:
        return ""
    if not (given.isascii() and given.isprintable() and given.strip()):
        raise problems.invalid("Idempotency-Key", "is no key", "use printable ASCII, such as a UUID")
    return given


def same(known: Earlier, fingerprint: str, what: str) -> str:
    """The id that a key was used for, if for the same content. Raises ProblemError.

    `what`: the word for what it is the id of.
    """
    if known.fingerprint == fingerprint:
        return known.id
    kind = problems.KEY_REUSED
    detail = f"Idempotency-Key: another request was made with this key: {what} {known.id}"
    raise ProblemError(kind, detail, kind.next)
