"""Every error of the API is a problem (RFC 9457, `application/problem+json`) that says what to do next."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from msgspec import Meta, Struct, to_builtins

MEDIA_TYPE = "application/problem+json"


class InvalidParameter(Struct, kw_only=True):
    """One parameter that cannot be used."""

    parameter: Annotated[
        str,
        Meta(
            description="Its name, as in the query or the path; of the content its place: `params.replicas`."
        ),
    ]
    message: Annotated[str, Meta(description="What is wrong with its value.")]


class Problem(Struct, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem with two members of ours, `next` and `errors`."""

    type: Annotated[str, Meta(description="What kind of problem it is: `urn:atlhyper:problem:<name>`.")]
    title: Annotated[str, Meta(description="The kind in words; the same for every occurrence.")]
    status: Annotated[int, Meta(description="The HTTP status.")]
    detail: Annotated[str, Meta(description="What went wrong this time.")]
    instance: Annotated[str, Meta(description="The path of the request, a URI reference.")]
    next: Annotated[str, Meta(description="What to do about it.")]
    errors: Annotated[
        list[InvalidParameter], Meta(description="The parameters that are wrong, where any are.")
    ] = []


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem, and an example of it for the documentation."""

    name: str
    status: HTTPStatus
    title: str
    detail: str
    next: str
    errors: tuple[InvalidParameter, ...] = ()
    retry_after: int = 0
    """Seconds after which it may be otherwise, for the header `Retry-After`; 0 for none."""

    @property
    def component(self) -> str:
        """Its name among the components of the OpenAPI document."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    def problem(self, instance: str) -> Problem:
        """The example as a problem."""
        return Problem(
            type=f"urn:atlhyper:problem:{self.name}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            next=self.next,
            errors=list(self.errors),
        )


UNKNOWN_PATH = Kind(
    "unknown-path",
    HTTPStatus.NOT_FOUND,
    "No such path",
    "this API has no such path",
    "see /schema/openapi.json for the paths there are",
)
UNKNOWN_AGENT = Kind(
    "unknown-agent",
    HTTPStatus.NOT_FOUND,
    "No such agent",
    "no agent kubernetes/staging has ever been heard of",
    "known of that kind: prod-eu, prod-us; an agent appears with its first heartbeat",
)
UNKNOWN_RESOURCE = Kind(
    "unknown-resource",
    HTTPStatus.NOT_FOUND,
    "No such resource",
    "'pod' is not a resource of kubernetes/prod-eu",
    "known resources: deployments, events, nodes, pods",
)
UNKNOWN_OBJECT = Kind(
    "unknown-object",
    HTTPStatus.NOT_FOUND,
    "No such object",
    "kubernetes/prod-eu has no pods shop/web-1 as of 2026-11-21T08:00:00Z (collection: synced)",
    "see what there is: /api/v1/agents/kubernetes/prod-eu/resources/pods",
)
INVALID_PARAMETER = Kind(
    "invalid-parameter",
    HTTPStatus.BAD_REQUEST,
    "Invalid parameter",
    "limit: is not from 1 to 10000",
    "correct it; /schema/openapi.json describes the parameters of each path",
    (InvalidParameter(parameter="limit", message="is not from 1 to 10000"),),
)
INVALID_REQUEST = Kind(
    "invalid-request",
    HTTPStatus.BAD_REQUEST,
    "Invalid request",
    "the request cannot be read",
    "see /schema/openapi.json",
)
UNAUTHORIZED = Kind(
    "unauthorized",
    HTTPStatus.UNAUTHORIZED,
    "No valid token",
    "the request has no token",
    "send `Authorization: Bearer <token>`; `atlhyper tokens create`, run where the database is, makes one",
)
METHOD_NOT_ALLOWED = Kind(
    "method-not-allowed",
    HTTPStatus.METHOD_NOT_ALLOWED,
    "Method not allowed",
    "DELETE is not allowed here",
    "use one of GET, HEAD, OPTIONS",
)
NOT_ACCEPTABLE = Kind(
    "not-acceptable",
    HTTPStatus.NOT_ACCEPTABLE,
    "Not acceptable",
    "the answer is application/json, and the request accepts text/html only",
    "leave the header Accept out, or let it name application/json",
)
REQUEST_TIMEOUT = Kind(
    "request-timeout",
    HTTPStatus.REQUEST_TIMEOUT,
    "Request too slow",
    "the request was not there within 10s",
    "send it at once; a slow link needs a smaller one",
)
CONTENT_TOO_LARGE = Kind(
    "content-too-large",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "Content too large",
    "the content has more than 1048576 bytes",
    "send less; API_MAX_BODY sets how much may be sent",
)
URI_TOO_LONG = Kind(
    "uri-too-long",
    HTTPStatus.REQUEST_URI_TOO_LONG,
    "Address too long",
    "path and query have more than 16384 bytes",
    "ask for less at once, such as fewer clusters; API_MAX_URL sets how long it may be",
)
UNSUPPORTED_MEDIA_TYPE = Kind(
    "unsupported-media-type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "Content of a kind that is not taken",
    "GET takes no content",
    "leave the content out; filters are parameters of the query",
)
HEADERS_TOO_LARGE = Kind(
    "headers-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "Headers too large",
    "the headers have more than 65536 bytes",
    "send fewer headers, such as cookies; API_MAX_HEADERS sets how many bytes they may have",
)
UNAVAILABLE = Kind(
    "database-unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Database unavailable",
    "the database did not answer",
    "try again in a few seconds; /readyz?verbose says what the api is waiting for",
    retry_after=5,
)
OVERLOADED = Kind(
    "too-many-requests",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many requests at a time",
    "100 requests are being answered already",
    "try again in a second, or another replica; API_MAX_REQUESTS sets how many there may be",
    retry_after=1,
)
TOO_MANY_SNAPSHOTS = Kind(
    "too-many-snapshots",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many snapshots at a time",
    "2 snapshots are being sent already",
    "try again in a few seconds; API_MAX_SNAPSHOTS sets how many there may be, and lists come in pages",
    retry_after=5,
)
TOO_SLOW = Kind(
    "too-slow",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "No answer in time",
    "the answer had not begun after 120s",
    "ask for less at once; API_ANSWER_TIMEOUT sets how long an answer may take",
    retry_after=5,
)
QUERY_TIMEOUT = Kind(
    "query-timeout",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Query too slow",
    "the database had no answer after 10s",
    "narrow it: fewer clusters, a namespace, no q and no sort; API_QUERY_TIMEOUT sets how long it may take",
)
TOO_MANY_READERS = Kind(
    "too-many-readers",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many readers",
    "500 readers follow the changes already",
    "try again in a few seconds, or another replica; API_WATCH_READERS sets how many there may be",
    retry_after=5,
)
NOT_READY = Kind(
    "not-ready",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Not ready",
    "bus: no connection: connection refused",
    "it becomes ready by itself once what it waits for is back; `atlhyper doctor` looks for causes",
    retry_after=5,
)
INTERNAL = Kind(
    "internal-error",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "Internal error",
    "the request failed for a reason of the api's own; its log has it under 019a9b5e-…",
    "try again; if it stays, report it with the log line of that reference",
)

UNKNOWN_COMMAND = Kind(
    "unknown-command",
    HTTPStatus.NOT_FOUND,
    "No such command",
    "no command 019a9b5e-7a00-7000-8000-000000000001 is stored",
    "see what there is: /api/v1/commands",
)
UNKNOWN_OPERATION = Kind(
    "unknown-operation",
    HTTPStatus.NOT_FOUND,
    "No such operation",
    "no operation 019a9b5e-7a00-7000-8000-000000000002 is stored",
    "see what there is: /api/v1/operations",
)
OPERATION_ENDED = Kind(
    "operation-ended",
    HTTPStatus.CONFLICT,
    "The operation has ended",
    "the operation has ended as succeeded",
    "ask for a new one",
)
UNKNOWN_ACTION = Kind(
    "unknown-action",
    HTTPStatus.BAD_REQUEST,
    "No such action",
    "'scael' is not an action of agents of kind kubernetes",
    "did you mean scale? there are: apply, cordon, delete, restart, scale",
)
INVALID_CONTENT = Kind(
    "invalid-content",
    HTTPStatus.BAD_REQUEST,
    "Invalid content",
    "params.replicas: Input should be greater than or equal to 0",
    "correct it; /schema/openapi.json describes the content of each path",
    (InvalidParameter(parameter="params.replicas", message="Input should be greater than or equal to 0"),),
)
NOT_CAPABLE = Kind(
    "not-capable",
    HTTPStatus.CONFLICT,
    "The agent will not do it",
    "kubernetes/prod-eu is read-only: it changes nothing",
    "let its agent change things (AGENT_READ_ONLY=false), or try it with dry_run",
)
COMMAND_ENDED = Kind(
    "command-ended",
    HTTPStatus.CONFLICT,
    "The command has ended",
    "the command has ended as succeeded",
    "its result is part of the command: GET it",
)
KEY_REUSED = Kind(
    "key-reused",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The key was used for something else",
    "Idempotency-Key: another request was made with this key: command 019a9b5e-7a00-7000-8000-000000000001",
    "use a new key for a new request; the same key only to send the very same content again",
)
TOO_LATE = Kind(
    "too-late",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "Too late to begin",
    "start_by: 2026-11-21T07:00:00Z is past; it is 2026-11-21T08:00:00Z",
    "give a later start_by, or leave it out; times are by the clock of the database",
    (InvalidParameter(parameter="start_by", message="is past"),),
)
TOO_MANY_WAITERS = Kind(
    "too-many-waiters",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many waiters",
    "200 requests wait for the end of a command already",
    "ask without `wait`, or another replica; API_MAX_WAITERS sets how many there may be",
    retry_after=2,
)
CLUSTER_REFUSES = Kind(
    "cluster-refuses",
    HTTPStatus.FORBIDDEN,
    "The cluster refuses",
    'pods "web-0" is forbidden: User "agent" cannot get resource "pods" in the namespace "shop"',
    "give the agent's role that right, or ask for what was collected",
)
NO_LOGS = Kind(
    "no-logs",
    HTTPStatus.BAD_REQUEST,
    "There are no such logs",
    'container "app" in pod "web-0" is waiting to start: ContainerCreating',
    "name one that has started, of the pods and containers there are: `atlhyper describe pod NAME`",
)
TOO_MANY_LOG_READERS = Kind(
    "too-many-log-readers",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many readers of logs",
    "100 readers read logs already",
    "try again in a few seconds, or another replica; API_MAX_LOG_READERS and AGENT_LOG_SESSIONS set how many "
    "there may be",
    retry_after=5,
)
CLUSTER_FAILS = Kind(
    "cluster-fails",
    HTTPStatus.BAD_GATEWAY,
    "The cluster fails",
    "the API server of kubernetes/prod-eu cannot be reached: connection refused",
    "try again; the stored object is there without /live",
)
NO_ANSWER = Kind(
    "no-answer",
    HTTPStatus.GATEWAY_TIMEOUT,
    "The agent does not answer",
    "kubernetes/prod-eu has not answered within 15s (its agent is lost)",
    "see what becomes of it: /api/v1/commands/019a9b5e-7a00-7000-8000-000000000001",
)


ANYWHERE = (
    UNAUTHORIZED,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    REQUEST_TIMEOUT,
    CONTENT_TOO_LARGE,
    URI_TOO_LONG,
    UNSUPPORTED_MEDIA_TYPE,
    HEADERS_TOO_LARGE,
)
"""What every path may answer before its handler is asked, each under a status of its own."""


@dataclass
class ProblemError(Exception):
    """Raised by a handler that has to answer with a problem."""

    kind: Kind
    detail: str
    next: str
    errors: list[InvalidParameter] = field(default_factory=list)

    def __str__(self) -> str:
        return self.detail


def invalid(parameter: str, message: str, next: str) -> ProblemError:
    """One parameter that cannot be used."""
    errors = [InvalidParameter(parameter=parameter, message=message)]
    return ProblemError(INVALID_PARAMETER, f"{parameter}: {message}", next, errors)


# --- how they are documented -------------------------------------------------------------------------

_EXAMPLE = "/api/v1/clusters/prod-eu/pods"


def response(*kinds: Kind) -> dict[str, Any]:
    """The response object of OpenAPI for problems with one status."""
    return {
        "description": " or ".join(kind.title for kind in kinds),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {
                    kind.name: {"summary": kind.title, "value": to_builtins(kind.problem(_EXAMPLE))}
                    for kind in kinds
                },
            }
        },
    }


def responses(*kinds: Kind) -> dict[int, ResponseSpec]:
    """The problems of one operation, for OpenAPI; bad parameters and our own failures are everywhere."""
    by_status: dict[int, list[Kind]] = {}
    for kind in (INVALID_PARAMETER, INVALID_REQUEST, *kinds, INTERNAL, UNAVAILABLE, OVERLOADED, TOO_SLOW):
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: ResponseSpec(
            Problem,
            description=" or ".join(kind.title for kind in several),
            media_type=MEDIA_TYPE,
            generate_examples=False,
            examples=[
                Example(summary=kind.name, value=to_builtins(kind.problem(_EXAMPLE))) for kind in several
            ],
        )
        for status, several in by_status.items()
    }
