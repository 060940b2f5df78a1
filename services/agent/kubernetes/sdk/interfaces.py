"""The API server as the repository sees it: paths in, bytes out."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Cause:
    """One of several reasons of one refusal (metav1.StatusCause)."""

    reason: str = ""
    message: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said instead of doing what was asked for, in the words of whoever said it.

    The words may quote what was sent, or what is there: they are not yet fit for a person.
    """

    status: int
    """Of HTTP, 400 and more."""
    message: str = ""
    reason: str = ""
    """metav1.Status's, such as `AlreadyExists`."""
    causes: tuple[Cause, ...] = ()
    spoken: bool = True
    """Whether it is a metav1.Status, so the API server's and not that of something on the way."""


class KubernetesError(Exception):
    """A request to the API server failed. `reason` is fit for a person, without any secret."""

    def __init__(self, reason: str, retry_after: float | None = None, answer: Answer | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        """Seconds the server asked us to wait, where it did."""
        self.answer = answer
        """None where there was none."""


class Unreachable(KubernetesError):
    """No connection, no answer in time, or the connection broke."""


class Silent(Unreachable):
    """Nothing came for as long as we wait."""


class Unanswered(KubernetesError):
    """A write was sent, and its answer did not come, or not whole: it may have been done or not."""


class TooLarge(KubernetesError):
    """The answer has more bytes than we take."""


class Unauthorized(KubernetesError):
    """401: the credential is not, or no longer, accepted, or there is none."""


class Forbidden(KubernetesError):
    """403: RBAC does not allow it."""


class Absent(KubernetesError):
    """404: for a collection, this server does not have the resource; else there is no such object."""


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
    """With its subresource, as a role writes it: `deployments/scale`."""
    namespace: str = ""
    name: str = ""
    """Of one object; empty for all."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to what was done."""

    status: int
    body: bytes
    warnings: tuple[str, ...] = ()
    """The texts of `Warning: 299` (RFC 9111, 5.5)."""


class KubernetesClient(Protocol):
    """Raw access to one API server, with time limits on everything."""

    async def get(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        accept: str = JSON,
        timeout: float | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """The body of a GET. `timeout` in seconds, default that of the client. Raises KubernetesError,
        TooLarge where it has more than `max_bytes`."""

    async def write(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        audit_id: str = "",
    ) -> Reply:
        """Send JSON by POST, PUT, PATCH or DELETE, once: nothing tries it again.

        `audit_id`, the id of the command that does it, names the request in the API server's audit log.

        Raises Unreachable when it was not sent, Unanswered when it was and its answer did not come, else the
        KubernetesError of the answer.
        """

    def watch(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON, silence: float
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a watch until the server ends it; first an empty one, as soon as it is accepted.

        `silence`: seconds without a byte after which the connection counts as gone. Raises KubernetesError.
        """

    def stream(self, path: str, query: Mapping[str, str], *, silence: float) -> AsyncGenerator[bytes, None]:
        """The bytes of an answer of any kind, as they come and no faster than they are taken.

        `silence`: seconds without a byte after which it raises Silent. Raises KubernetesError.
        """

    async def may(self, access: Access) -> bool:
        """Ask the API server whether we may (SelfSubjectAccessReview). Raises KubernetesError."""

    async def whoami(self) -> str:
        """Our name there (SelfSubjectReview). Raises KubernetesError; Absent before Kubernetes 1.28."""

    async def close(self) -> None:
        """Close every connection."""
