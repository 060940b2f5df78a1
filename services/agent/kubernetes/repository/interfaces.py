"""What the service layer sees of Kubernetes: kinds, pages and changes, already projected and redacted."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from schemas.kubernetes.kind import Kind
from services.agent.capability import Identity, Observed


@dataclass(slots=True)
class Page:
    """One page of a list."""

    objects: list[Observed]
    resource_version: str
    rejected: list[str] = field(default_factory=list)
    """Why objects of this page could not be read, one text each."""


class ChangeType(StrEnum):
    """The types of a watch event (metav1.WatchEvent)."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(slots=True)
class Change:
    """One event of a watch."""

    type: ChangeType
    resource_version: str
    object: Observed | None = None
    """None for a bookmark, and for an object that could not be read."""
    rejected: str = ""
    """Why the object could not be read."""


class ResourceRepository(Protocol):
    """Reads collections of any kind. Raises KubernetesError and its subclasses."""

    def pages(self, kind: Kind, namespace: str) -> AsyncGenerator[Page, None]:
        """A whole list in pages, each with the next one already under way."""

    def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncGenerator[Change, None]:
        """What changes after that version, until the server ends the watch."""

    async def readable(self, kinds: Sequence[Kind], namespaces: Sequence[str]) -> list[Kind]:
        """Those of the kinds that we may list and watch."""

    async def resolve(self, gvr: str) -> Kind:
        """The generic kind of `<plural>.<version>[.<group>]`. Raises KubernetesError, ValueError."""

    async def identity(self) -> Identity:
        """The cluster's UID and version."""
