"""What was done to the cluster, when, and how it ended; what the bus said meanwhile."""

import bisect
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from schemas import registry
from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.kubernetes.event import KubernetesEvent


class Outcome(StrEnum):
    """How one change ended, as its author knows it."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    """The API server answered that it did not do it."""
    UNKNOWN = "unknown"
    """No answer: it may have been done."""


@dataclass(slots=True)
class Recorder:
    """The history of one run. Times are the loop's (monotonic seconds)."""

    acknowledged: list[float] = field(default_factory=list)
    """When, in order."""
    outcomes: Counter[tuple[str, str, Outcome]] = field(default_factory=Counter)
    """By resource and verb."""
    refusals: Counter[str] = field(default_factory=Counter)
    """The API server's words, for a load that does not get along."""
    heard: dict[str, KubernetesEvent] = field(default_factory=dict)
    """By uid: the version with the highest count of each Event that the agent has put on the bus."""

    def note(self, time: float, resource: str, verb: str, outcome: Outcome, why: str = "") -> None:
        """One change."""
        self.outcomes[resource, verb, outcome] += 1
        if outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged.append(time)
        elif outcome is Outcome.REFUSED:
            self.refusals[f"{verb} {resource}: {why}"[:200]] += 1

    def rate(self, start: float, end: float) -> float:
        """Acknowledged changes per second between two times."""
        count = bisect.bisect_right(self.acknowledged, end) - bisect.bisect_left(self.acknowledged, start)
        return count / max(end - start, 0.001)

    def resources(self, verb: str) -> set[str]:
        """The resources of which that verb has succeeded."""
        return {
            resource
            for (resource, done, outcome) in self.outcomes
            if (done, outcome) == (verb, Outcome.ACKNOWLEDGED)
        }

    async def hear(self, _subject: str, envelope: Envelope) -> None:
        """A subscriber to the agent's Events."""
        try:
            event = registry.lookup(envelope.type).decode(envelope.data)
        except ContractError:
            return  # whoever reads the stream complains of it
        assert isinstance(event, KubernetesEvent)
        known = self.heard.get(event.metadata.uid)
        if known is None or event.occurrences >= known.occurrences:
            self.heard[event.metadata.uid] = event
