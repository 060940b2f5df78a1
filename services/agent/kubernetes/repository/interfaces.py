"""What the service layer sees of Kubernetes: kinds, pages and changes, already projected and redacted."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from schemas.kubernetes.kind import Kind
from services.agent.capability import Identity, Observed
from services.agent.kubernetes.sdk.interfaces import Access


@dataclass(slots=True)
class Page:
    """Some objects of a list."""

    objects: list[Observed]
    resource_version: str
    """Where to watch from once the list is whole; the last page's counts."""
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
    complete: bool = False
    """For a bookmark: it ends the objects with which a streamed list begins."""


class ResourceRepository(Protocol):
    """Reads collections of any kind. Raises KubernetesError and its subclasses."""

    def pages(self, kind: Kind, namespace: str) -> AsyncGenerator[Page, None]:
        """A whole list, a part at a time; it is whole when the generator ends without an error."""

    def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncGenerator[Change, None]:
        """What changes after that version, until the server ends the watch.

        The first is a bookmark of that version: the watch is accepted.
        """

    async def confirm(self, kind: Kind, namespace: str, resource_version: str) -> None:
        """See to it that the server has that version. Raises Expired when it has not got so far."""

    async def readable(self, kinds: Sequence[Kind], namespaces: Sequence[str]) -> list[Kind]:
        """Those of the kinds that we may list and watch."""

    async def lacking(self, kinds: Sequence[Kind], namespaces: Sequence[str]) -> list[Access]:
        """What we lack of the rights to collect these kinds and to tell this cluster from others."""

    async def whoami(self) -> str:
        """Our name in the cluster. Raises Absent where the server is too old to say it."""

    async def resolve(self, kind: Kind) -> Kind:
        """The kind as the server serves it now; a generic one gets its name and scope.

        Raises Absent when the server says that there is no such resource, else KubernetesError.
        """

    async def identity(self) -> Identity:
        """The cluster's UID and version."""
