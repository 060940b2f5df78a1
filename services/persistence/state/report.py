"""What the master is told of the frames it had applied."""

from dataclasses import dataclass, field

from schemas.frames import Phase
from schemas.ids import Target
from services.persistence.state.epochs import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of one frame."""

    target: Target
    epoch: str
    phase: Phase
    verdict: Verdict
    current: str
    """The epoch that counts for this agent now; for a superseded frame the one that won."""
    instance: str
    """Where that epoch comes from."""
    resync_reason: str
    """Why a new epoch is wanted of the frame's sender; empty when none is."""
    in_sync: bool
    """All that is collected is complete now, and nothing is missing."""
    digest_agrees: bool | None
    """`digest`: whether it did."""
    previous_instance: str = ""
    """`begin`: the instance the epoch before came from, when it was another one."""


@dataclass(slots=True)
class Report:
    """What one transaction did."""

    frames: list[Judged] = field(default_factory=list)
    changed: int = 0
    """Rows that are new or have new content."""
    unchanged: int = 0
    """Rows that were sent again as they were."""
    removed: int = 0
    unreadable: list[str] = field(default_factory=list)
    """Objects whose body could not be read, with the reason."""
    rev: int = 0
    """The shard's revision after it; 0 when no row has changed."""
