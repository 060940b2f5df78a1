"""What is to become of one entry of the journal."""

from collections.abc import Callable
from dataclasses import dataclass

from services.agent.store.file import StateDamaged, StateUnavailable
from services.agent.store.journal_rows import Entry


@dataclass(slots=True, eq=False)
class Change:
    """Asked for by one command, and written with those of others."""

    command_id: str
    make: Callable[[Entry], Entry]
    """From the entry as it is."""
    data: bytes = b""
    """Of its result, as JSON."""
    ends: bool = False
    lasting: bool = False
    """As for `StateFile.run`."""
    entry: Entry | None = None
    """As it was made; None: its command is not open any more, since its row was damaged."""
    error: StateUnavailable | StateDamaged | None = None
    """Why the disk has not taken it."""
