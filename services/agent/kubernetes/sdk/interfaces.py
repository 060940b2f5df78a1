"""The API server as the repository sees it: paths in, bytes out."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

JSON = "application/json"


class KubernetesError(Exception):
    """A request to the API server failed. `reason` is fit for a person, without any secret."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        """Seconds the server asked us to wait, where it did."""


class Unreachable(KubernetesError):
    """No connection, no answer in time, or the connection broke."""


class Silent(Unreachable):
    """Nothing came for as long as we wait."""


class Unauthorized(KubernetesError):
    """401: the credential is not, or no longer, accepted, or there is none."""


class Forbidden(KubernetesError):
    """403: RBAC does not allow it."""


class Absent(KubernetesError):
    """404 for a collection: this server does not have the resource."""


class Invalid(KubernetesError):
    """400 or 422: the server does not understand the request, or a parameter of it."""


class Expired(KubernetesError):
    """The resource version or the continue token can't be gone on from: it is too old (410, or its like
    inside a watch), or newer than anything the server has (504), as after etcd was restored."""


class Unreadable(KubernetesError):
    """What came is not what an API server says."""


@dataclass(frozen=True, slots=True)
class Access:
    """One question of a SelfSubjectAccessReview."""

    verb: str
    group: str
    plural: str
    namespace: str = ""
    name: str = ""
    """Of one object; empty for all."""


class KubernetesClient(Protocol):
    """Raw access to one API server, with time limits on everything."""

    async def get(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON, timeout: float | None = None
    ) -> bytes:
        """The body of a GET. `timeout` in seconds, default that of the client. Raises KubernetesError."""

    def watch(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON, silence: float
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a watch until the server ends it; first an empty one, as soon as it is accepted.

        `silence`: seconds without a byte after which the connection counts as gone. Raises KubernetesError.
        """

    async def may(self, access: Access) -> bool:
        """Ask the API server whether we may (SelfSubjectAccessReview). Raises KubernetesError."""

    async def whoami(self) -> str:
        """Our name there (SelfSubjectReview). Raises KubernetesError; Absent before Kubernetes 1.28."""

    async def close(self) -> None:
        """Close every connection."""
