"""What the service layer sees of Kubernetes: kinds, pages and changes, already projected and redacted."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from schemas.kubernetes.pod import Pod
from services.agent.capability import Identity, Observed
from services.agent.kubernetes.sdk.interfaces import JSON, Access


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


# --- single objects ----------------------------------------------------------------------------------

Json = dict[str, Any]
"""An object as the API server writes it."""


@dataclass(frozen=True, slots=True)
class Served:
    """A resource as the API server serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()
    subresources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Their verbs, by name."""

    @property
    def resource(self) -> str:
        """kubectl's plural where the kind is one of ours, else `<plural>.<version>[.<group>]`."""
        known = KINDS.get(self.plural)
        if known and (known.group, known.version) == (self.group, self.version):
            return self.plural
        return ".".join(filter(None, (self.plural, self.version, self.group)))

    @property
    def api_version(self) -> str:
        """`apps/v1`; `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of the collection, of an object, or of a part of it. Every segment has been checked."""
        root = "apis" if self.group else "api"
        place = ("namespaces", namespace) if namespace else ()
        return "/" + "/".join(filter(None, (root, self.api_version, *place, self.plural, name, subresource)))


def served(kind: Kind) -> Served:
    """A kind that every API server has."""
    return Served(kind.group, kind.version, kind.plural, kind.kind, kind.namespaced)


class Written(NamedTuple):
    """What a write gave back."""

    object: Json
    """The object as it is then, or the Status of a deletion."""
    warnings: tuple[str, ...]


class ObjectRepository(Protocol):
    """Reads and writes single objects. Raises KubernetesError and its subclasses."""

    async def find(self, resource: str) -> Served:
        """By kubectl's plural, `<plural>.<version>[.<group>]` or `<plural>.<group>`.

        Raises Absent where the server has none of that name, or several."""

    async def find_kind(self, api_version: str, kind: str) -> Served:
        """By what an object says it is. Raises Absent."""

    async def read(
        self, path: str, query: Mapping[str, str] | None = None, *, metadata_only: bool = False
    ) -> Json:
        """One object, or one page of a list. `metadata_only`: nothing of its content is sent to us.

        Raises TooLarge."""

    async def read_text(self, path: str, query: Mapping[str, str]) -> bytes:
        """What is no JSON: a log. Raises TooLarge."""

    async def write(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str],
        *,
        audit_id: str,
        content_type: str = JSON,
        metadata_only: bool = False,
    ) -> Written:
        """See KubernetesClient.write. Raises Unanswered also for an answer that can't be read."""

    async def allowed(self, access: Access) -> bool:
        """Whether we have that right."""


class LogRepository(Protocol):
    """Reads logs. Raises KubernetesError and its subclasses.

    A selection is what `labelSelector` and `fieldSelector` say.
    """

    async def readable(self) -> bool:
        """Whether we may read logs in all namespaces."""

    async def pods(self, namespace: str, selection: Mapping[str, str]) -> tuple[list[Pod], str]:
        """The pods that are selected, and the resource version of that."""

    def watch(
        self, namespace: str, selection: Mapping[str, str], version: str
    ) -> AsyncGenerator[tuple[ChangeType, Pod], None]:
        """What changes of them after that version, until the server ends the watch."""

    async def selector(self, resource: str, namespace: str, name: str) -> str:
        """The labels by which a workload or service finds its pods; empty for none. `resource`: a plural."""

    def read(self, namespace: str, pod: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """The log of one container (PodLogOptions), as it comes and no faster than it is taken.

        Raises Silent when no line has come for minutes.
        """
