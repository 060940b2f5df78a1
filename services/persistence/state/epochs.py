"""What to do with a frame, decided from how far its agent's frames have been applied. No I/O.

The log is the judge: the newest `begin` in log order wins, and the epochs it superseded never win again.
Except for one thing: an id belongs to an instance (a cluster), and as long as its agent is not lost, another
instance's `begin` does not count (`rivals` knows who is lost). An agent that cannot tell its instance is such
another one; and whoever knows its own may take an id whose instance is not known.
Inside an epoch the sequence numbers are contiguous, so a repeated frame and a missing one are both seen.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from schemas.errors import ContractError
from schemas.frames import Frame, Phase, Scope
from schemas.ids import Target

_REMEMBERED = 16
"""Superseded epochs that are remembered by name; with a full interval of an hour, half a day and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where in which stream a frame lies, and when (broker's clock, aware UTC) it was taken."""

    created: datetime
    """When the stream was made."""
    sequence: int
    time: datetime


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """One frame from the log."""

    target: Target
    frame: Frame
    position: Position


class Verdict(StrEnum):
    """What becomes of a frame."""

    APPLIED = "applied"
    REPEATED = "repeated"
    """It had been applied before."""
    GAP = "gap"
    """A frame before it is missing."""
    IGNORED = "ignored"
    """A gap before it has been reported; a new epoch is awaited."""
    SUPERSEDED = "superseded"
    """A newer epoch has begun: somebody else publishes under this id, or did."""
    FOREIGN = "foreign"
    """Its `begin` comes from another instance, and the agent that has the id is there."""
    UNKNOWN_EPOCH = "unknown epoch"
    """The `begin` of its epoch was never seen."""


@dataclass(slots=True)
class Ledger:
    """How far the frames of one agent have been applied: a row of `tables.Epoch` and its collections."""

    target: Target
    epoch: str
    stream_created: datetime
    sequence: int = 0
    instance: str = ""
    scope: Scope = field(default_factory=lambda: Scope(resources=[]))
    previous: list[str] = field(default_factory=list)
    stream_sequence: int = 0
    version: int = 0
    as_of: datetime | None = None
    gap: bool = False
    digest_agrees: bool | None = None
    summary: bytes | None = None
    resync_reason: str = ""
    resync_since: datetime | None = None
    synced: dict[str, str] = field(default_factory=dict)
    """By resource that has ever been in scope: the epoch in which it was last complete, or empty."""
    not_collected: frozenset[str] = frozenset()
    """What the agent says it cannot collect; it is in no row of its own, the heartbeat has it."""

    @property
    def missing(self) -> set[str]:
        """The resources in scope that have not been complete in this epoch."""
        return {resource for resource in self.scope.resources if self.synced.get(resource) != self.epoch}

    @property
    def in_sync(self) -> bool:
        """Whether all that can be collected has been complete in this epoch, and nothing is known to lack."""
        whole = bool(self.sequence) and not self.gap and self.digest_agrees is not False
        return whole and self.missing <= self.not_collected

    def want_resync(self, reason: str, since: datetime) -> None:
        """Note that a new epoch is wanted; the first reason stays."""
        if not self.resync_reason:
            self.resync_reason, self.resync_since = reason, since

    def has_seen(self, position: Position) -> bool:
        """Whether the frame at that place of the log has been looked at.

        By its time too: a store that was set back, to a backup or to what was left of it, hands out its
        numbers anew under the same name and date.
        """
        counted = position.created == self.stream_created and position.sequence <= self.stream_sequence
        return counted and (self.as_of is None or position.time <= self.as_of)

    def columns(self) -> dict[str, Any]:
        """The row of `tables.Epoch`."""
        return {
            "target_kind": self.target.kind.value,
            "target_id": self.target.id,
            "scope": msgspec.to_builtins(self.scope),
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
        }

    @classmethod
    def from_row(cls, target: Target, row: Any, synced: dict[str, str]) -> "Ledger":
        """The ledger of a row of `tables.Epoch`."""
        return cls(
            target=target,
            scope=msgspec.convert(row.scope, Scope),
            synced=synced,
            **{name: getattr(row, name) for name in _AS_THEY_ARE},
        )


_AS_THEY_ARE = (
    "epoch",
    "sequence",
    "instance",
    "previous",
    "stream_created",
    "stream_sequence",
    "version",
    "as_of",
    "gap",
    "digest_agrees",
    "summary",
    "resync_reason",
    "resync_since",
)


def new_ledger(target: Target, epoch: str, position: Position) -> Ledger:
    """The ledger of an agent that has never been heard of: as if its epoch's `begin` had been missed."""
    return Ledger(target=target, epoch=epoch, stream_created=position.created)


def judge(ledger: Ledger, frame: Frame, position: Position) -> Verdict:
    """What becomes of a frame. Raises ContractError when it breaks the rules of its phase."""
    _check(frame)
    if ledger.has_seen(position):
        return Verdict.REPEATED
    if frame.phase is Phase.BEGIN:
        if frame.epoch in ledger.previous:
            return Verdict.SUPERSEDED
        again = frame.epoch == ledger.epoch and ledger.sequence > 0
        return Verdict.REPEATED if again else Verdict.APPLIED
    if frame.epoch != ledger.epoch:
        return Verdict.SUPERSEDED if frame.epoch in ledger.previous else Verdict.UNKNOWN_EPOCH
    if ledger.gap:
        return Verdict.IGNORED
    if frame.sequence <= ledger.sequence:
        return Verdict.REPEATED
    return Verdict.APPLIED if ledger.sequence and frame.sequence == ledger.sequence + 1 else Verdict.GAP


def note(ledger: Ledger, frame: Frame, position: Position, verdict: Verdict) -> None:
    """Enter a frame and its verdict; what `synced` and `digest` say is entered by whoever holds the rows."""
    if ledger.has_seen(position):
        return
    if verdict is Verdict.APPLIED:
        if frame.phase is Phase.BEGIN:
            _begin(ledger, frame)
        ledger.sequence = frame.sequence
        ledger.version += 1
        ledger.as_of = position.time
    elif verdict is Verdict.FOREIGN:
        _supersede(ledger, frame.epoch)
    elif verdict is Verdict.GAP:
        ledger.gap = True
        missing = "its begin was not seen"
        if ledger.sequence:
            missing = f"frame {ledger.sequence + 1} of the epoch is missing"
        ledger.want_resync(missing, position.time)
    ledger.stream_created, ledger.stream_sequence = position.created, position.sequence


def _begin(ledger: Ledger, frame: Frame) -> None:
    if ledger.epoch != frame.epoch:
        _supersede(ledger, ledger.epoch)
    assert isinstance(frame.scope, Scope)
    assert isinstance(frame.instance, str)
    ledger.epoch, ledger.instance, ledger.scope = frame.epoch, frame.instance, frame.scope
    ledger.gap, ledger.resync_reason, ledger.resync_since = False, "", None
    ledger.digest_agrees, ledger.not_collected = None, frozenset()


def _supersede(ledger: Ledger, epoch: str) -> None:
    ledger.previous = [*ledger.previous, epoch][-_REMEMBERED:]


def _check(frame: Frame) -> None:
    if not frame.epoch:
        raise ContractError("frame without an epoch")
    if not 0 < frame.sequence < 2**63:
        raise ContractError(f"frame with sequence {frame.sequence}")
    if frame.phase is Phase.BEGIN:
        if frame.sequence != 1:
            raise ContractError(f"begin with sequence {frame.sequence} instead of 1")
        if not isinstance(frame.scope, Scope) or not isinstance(frame.instance, str):
            raise ContractError("begin without scope and instance")
