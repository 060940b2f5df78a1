"""Where a reader stands: what it has seen of each shard. It is the `id` of each message.

`v1.<shard 0>-<shard 1>-…`, each a revision in hexadecimal. A reader that is still being told what was there
when it came stands twice in a shard, `<rows>~<removals>`: it has seen the rows up to the first revision
(none: nothing yet), and needs the removals above the second, when it came.
"""

import re
from dataclasses import dataclass

from schemas.ids import SHARDS
from services.persistence.queries import UNSEEN

VERSION = "v1"
MAX_LENGTH = 1024
"""Characters at most."""
_REV = "[0-9a-f]{1,16}"
_TEXT = re.compile(rf"v1\.(?:{_REV}|(?:{_REV})?~{_REV})(?:-(?:{_REV}|(?:{_REV})?~{_REV}))*")
_LIMIT = 2**63


class BadPosition(ValueError):
    """A text that is no position of ours."""


@dataclass(frozen=True, slots=True)
class Position:
    """One entry per shard in each."""

    rows: tuple[int, ...]
    """Rows up to this revision have been seen."""
    gone: tuple[int, ...]
    """Removals up to this one need not be known, where it is the higher one."""

    @classmethod
    def at(cls, revs: tuple[int, ...]) -> "Position":
        """Everything up to there has been seen."""
        return cls(revs, revs)

    @classmethod
    def beginning(cls, revs: tuple[int, ...]) -> "Position":
        """Nothing has been seen; what was removed up to there never will be."""
        return cls((UNSEEN,) * SHARDS, revs)

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The inverse of `str`. Raises BadPosition."""
        if len(text) > MAX_LENGTH or not _TEXT.fullmatch(text):
            raise BadPosition("is not a position that was given out")
        entries = [entry.partition("~") for entry in text.partition(".")[2].split("-")]
        if len(entries) != SHARDS:
            raise BadPosition(f"speaks of {len(entries)} shards, and there are {SHARDS}")
        rows = tuple(int(row, 16) if row else UNSEEN for row, _, _ in entries)
        gone = tuple(
            int(removal, 16) if removal else row for row, (_, _, removal) in zip(rows, entries, strict=True)
        )
        if max(*rows, *gone) >= _LIMIT:
            raise BadPosition("is not a position that was given out")
        return cls(rows, gone)

    def __str__(self) -> str:
        return join(self.parts())

    def parts(self) -> list[str]:
        """The text of each shard's entry."""
        return [part(row, removal) for row, removal in zip(self.rows, self.gone, strict=True)]

    def moved(self, shard: int, rev: int) -> "Position":
        """With the rows of one shard seen up to there."""
        rows = (*self.rows[:shard], rev, *self.rows[shard + 1 :])
        return Position(rows, self.gone)

    def raised(self, revs: tuple[int, ...]) -> "Position":
        """With everything seen up to there, where that is further."""
        return Position(tuple(map(max, self.rows, revs)), self.gone)


def part(rows: int, gone: int) -> str:
    """One shard's entry."""
    if gone <= rows:
        return f"{rows:x}"
    return f"~{gone:x}" if rows == UNSEEN else f"{rows:x}~{gone:x}"


def join(parts: list[str]) -> str:
    """A position from the entries of its shards."""
    return f"{VERSION}.{'-'.join(parts)}"
