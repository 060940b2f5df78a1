"""How the collection is doing, per resource; one that fails is shown as that and hides nothing else."""

from collections.abc import Sequence
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
    """Objects that could not be read, since the agent started."""
    missing: int = 0
    """Of them those that no later list has made good."""
    last_rejected: str = ""
    last_event_at: datetime | None = None

    def touch(self) -> None:
        """The API server has sent something."""
        self.last_event_at = datetime.now(UTC)


class ResourceStatus:
    """One resource over all its scopes: its state is the worst of theirs."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.scopes: dict[str, ScopeStatus] = {}

    def begin(self, namespaces: Sequence[str]) -> list[ScopeStatus]:
        """The statuses of these scopes, and of no others; they last over epochs, so that totals do."""
        self.scopes = {
            namespace: self.scopes.get(namespace) or ScopeStatus(namespace) for namespace in namespaces
        }
        return list(self.scopes.values())

    def tell(self, state: CollectionState, reason: str) -> None:
        """The resource as a whole stands so."""
        for scope in list(self.scopes.values()) or self.begin([""]):
            scope.state, scope.reason = state, reason

    def absent(self, reason: str) -> bool:
        """There is no such resource; whether that is news."""
        before = {scope.state for scope in self.scopes.values()}
        self.tell(CollectionState.ABSENT, reason)
        for scope in self.scopes.values():
            scope.objects = scope.missing = 0
        return before != {CollectionState.ABSENT}

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
        if missing := sum(scope.missing for scope in scopes):
            last = next(scope.last_rejected for scope in scopes if scope.missing)
            reason = reason or f"{missing} left out that can't be read: {last}"
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
