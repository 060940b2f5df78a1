"""How the collection is doing, per resource; one that fails is shown as that and hides nothing else."""

from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.presence import Collection, CollectionState

_WORST_FIRST = (
    CollectionState.FAILING,
    CollectionState.FORBIDDEN,
    CollectionState.ABSENT,
    CollectionState.LISTING,
    CollectionState.SYNCED,
)


@dataclass(slots=True)
class ScopeStatus:
    """One resource in one namespace (empty: in all)."""

    namespace: str
    state: CollectionState = CollectionState.LISTING
    reason: str = ""
    objects: int = 0
    relists: int = 0
    rejected: int = 0
    last_event_at: datetime | None = None

    def touch(self) -> None:
        """The API server has sent something."""
        self.last_event_at = datetime.now(UTC)


class ResourceStatus:
    """One resource over all its scopes: its state is the worst of theirs."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.scopes: dict[str, ScopeStatus] = {}

    def scope(self, namespace: str) -> ScopeStatus:
        """The status of one scope; it lasts over epochs, so that totals do."""
        return self.scopes.setdefault(namespace, ScopeStatus(namespace))

    @property
    def rejected(self) -> int:
        """Objects that could not be read since the agent started."""
        return sum(scope.rejected for scope in self.scopes.values())

    def collection(self) -> Collection:
        """As the heartbeat tells it."""
        scopes = list(self.scopes.values())
        worst = min(scopes, key=lambda scope: _WORST_FIRST.index(scope.state))
        reason = worst.reason
        if worst.namespace and reason:
            reason = f"namespace {worst.namespace}: {reason}"
        if self.rejected and not reason:
            reason = f"{self.rejected} objects could not be read; the agent's log names them"
        return Collection(
            resource=self.resource,
            state=worst.state,
            reason=reason,
            objects=sum(scope.objects for scope in scopes),
            relists=sum(scope.relists for scope in scopes),
            last_event_at=max((s.last_event_at for s in scopes if s.last_event_at), default=None),
        )


def left_out(resource: str, state: CollectionState, reason: str) -> Collection:
    """A resource that is not followed at all: shown, so that its absence is no riddle."""
    return Collection(resource=resource, state=state, reason=reason)
