"""The API server as the repository sees it: paths in, bytes out."""

from collections.abc import AsyncIterator, Mapping
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


class Unauthorized(KubernetesError):
    """401: the credential is not, or no longer, accepted."""


class Forbidden(KubernetesError):
    """403: RBAC does not allow it."""


class Absent(KubernetesError):
    """404 for a collection: this server does not have the resource."""


class Expired(KubernetesError):
    """410, or its like inside a watch: the resource version or the continue token is too old."""


@dataclass(frozen=True, slots=True)
class Access:
    """One question of a SelfSubjectAccessReview."""

    verb: str
    group: str
    plural: str
    namespace: str = ""


class KubernetesClient(Protocol):
    """Raw access to one API server, with time limits on everything."""

    async def get(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON, timeout: float | None = None
    ) -> bytes:
        """The body of a GET. `timeout` in seconds, default that of the client. Raises KubernetesError."""

    def watch(self, path: str, query: Mapping[str, str], *, accept: str = JSON) -> AsyncIterator[bytes]:
        """The lines of a watch until it ends; first an empty one, as soon as it is accepted.

        It also ends when nothing comes for so long that the connection may be gone. Raises KubernetesError.
        """

    async def may(self, access: Access) -> bool:
        """Ask the API server whether we may (SelfSubjectAccessReview). Raises KubernetesError."""

    async def close(self) -> None:
        """Close every connection."""
