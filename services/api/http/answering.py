"""How problems are answered: what handlers raise, what Litestar refuses, what fails."""

from collections.abc import Mapping
from enum import Enum
from functools import cache
from http import HTTPStatus
from typing import Any, get_args
from urllib.parse import quote, unquote_to_bytes

from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg
from litestar.types import ExceptionHandlersMap, HTTPScope, Send
from litestar.typing import FieldDefinition
from msgspec.json import encode

from schemas.ids import uuid7
from services.api.http.problems import (
    ANYWHERE,
    INTERNAL,
    INVALID_PARAMETER,
    INVALID_REQUEST,
    MEDIA_TYPE,
    METHOD_NOT_ALLOWED,
    QUERY_TIMEOUT,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNKNOWN_PATH,
    InvalidParameter,
    Kind,
    Problem,
    ProblemError,
    invalid,
)
from services.persistence.database.errors import DatabaseUnavailable, QueryTimeout
from services.persistence.queries import BadContinue
from services.runtime import logs

_log = logs.get_logger(__name__)

_OF_FRAMEWORK: dict[int, Kind] = {kind.status: kind for kind in ANYWHERE}


def instance(scope: HTTPScope) -> str:
    """The path of a request as a URI reference (RFC 9457, 3.1.5): encoded where RFC 3986 demands it."""
    sent = scope.get("raw_path") or quote(scope["path"]).encode()
    return "/".join(quote(unquote_to_bytes(part), safe="-._~!$&'()*+,;=:@") for part in sent.split(b"/"))


def told(error: ProblemError, instance: str) -> tuple[dict[str, str], bytes]:
    """Headers and content of an answer that is a problem."""
    problem = Problem(
        type=f"urn:atlhyper:problem:{error.kind.name}",
        title=error.kind.title,
        status=error.kind.status,
        detail=error.detail,
        instance=instance,
        next=error.next,
        errors=error.errors,
    )
    content = encode(problem)
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(content))}
    if error.kind.retry_after:
        headers["retry-after"] = str(error.kind.retry_after)
    if error.kind is UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"  # RFC 9110, 11.6.1
    return headers, content


async def respond(send: Send, error: ProblemError, instance: str, *, close: bool = False) -> None:
    """Answer where no handler has been found yet; with `close` the connection ends with it."""
    headers, content = told(error, instance)
    if close:
        headers["connection"] = "close"
    await send(
        {
            "type": "http.response.start",
            "status": error.kind.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": content, "more_body": False})


def _answer(
    request: Request[Any, Any, Any], error: ProblemError, more: Mapping[str, str] | None = None
) -> Response[bytes]:
    headers, content = told(error, instance(request.scope))
    return Response(
        content, status_code=error.kind.status, media_type=MEDIA_TYPE, headers={**headers, **(more or {})}
    )


def _path(request: Request[Any, Any, Any]) -> str:
    """What `request.url.path` is, which raises for a Host header that is no host."""
    return request.scope["path"]


def _on_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return _answer(request, error)


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What Litestar itself refuses: routing, methods, parameters."""
    if isinstance(error, NotFoundException):
        kind = UNKNOWN_PATH
        return _answer(request, ProblemError(kind, f"this API has no path {_path(request)}", kind.next))
    if isinstance(error, MethodNotAllowedException):
        allowed = with_head((error.headers or {}).get("allow", ""))
        detail = f"{request.method} is not allowed here"
        problem = ProblemError(METHOD_NOT_ALLOWED, detail, f"use one of {allowed}")
        return _answer(request, problem, {"allow": allowed})
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        errors = [_invalid_parameter(request, entry) for entry in error.extra]
        detail = "; ".join(f"{e.parameter}: {e.message}" for e in errors)
        return _answer(request, ProblemError(INVALID_PARAMETER, detail, INVALID_PARAMETER.next, errors))
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = _OF_FRAMEWORK.get(error.status_code, INVALID_REQUEST)
        return _answer(request, ProblemError(kind, error.detail, kind.next))
    return _on_exception(request, error)


@cache
def parameters_of(handler: BaseRouteHandler) -> dict[str, FieldDefinition]:
    """What a handler takes, itself or by one of its dependencies."""
    asked = [provide.parsed_fn_signature for provide in handler.resolve_dependencies().values()]
    return {
        name: field
        for signature in (handler.parsed_fn_signature, *asked)
        for name, field in signature.parameters.items()
    }


def _invalid_parameter(request: Request[Any, Any, Any], entry: dict[str, str]) -> InvalidParameter:
    """One of Litestar's validation errors, by the parameter's own name and with the values there are."""
    key, message = entry.get("key", ""), entry["message"]
    declared = parameters_of(request.route_handler).get(key)
    if declared is None:
        return InvalidParameter(parameter=key, message=message)
    if message.startswith("Invalid enum value"):
        annotations = (declared.annotation, *get_args(declared.annotation))
        values = [member.value for one in annotations if _is_enum(one) for member in one]
        message = f"is not one of {', '.join(values)}"
    wanted = declared.kwarg_definition
    if not isinstance(wanted, ParameterKwarg):
        return InvalidParameter(parameter=key, message=message)
    if message.startswith("Expected `int` ") and wanted.ge is not None and wanted.le is not None:
        message = f"is not from {wanted.ge} to {wanted.le}"
    return InvalidParameter(parameter=wanted.name or key, message=message)


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _on_bad_continue(request: Request[Any, Any, Any], error: BadContinue) -> Response[bytes]:
    next_step = "start again without it, and keep the other parameters the same from page to page"
    return _answer(request, invalid("continue", str(error), next_step))


def _on_database_unavailable(request: Request[Any, Any, Any], error: DatabaseUnavailable) -> Response[bytes]:
    _log.warning("database unavailable", path=_path(request), reason=str(error))
    problem = ProblemError(UNAVAILABLE, error.message, error.next_step or UNAVAILABLE.next)
    return _answer(request, problem)


def _on_query_timeout(request: Request[Any, Any, Any], error: QueryTimeout) -> Response[bytes]:
    return _answer(request, ProblemError(QUERY_TIMEOUT, error.message, QUERY_TIMEOUT.next))


def _on_exception(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Anything unforeseen. Its text may hold what is not the reader's, so the log gets it, not the body."""
    reference = uuid7()
    _log.error("request failed", reference=reference, path=_path(request), exc_info=error)
    detail = f"the request failed for a reason of the api's own; its log has it under {reference}"
    return _answer(request, ProblemError(INTERNAL, detail, INTERNAL.next))


HANDLERS: ExceptionHandlersMap = {
    ProblemError: _on_problem,
    HTTPException: _on_http_exception,
    BadContinue: _on_bad_continue,
    DatabaseUnavailable: _on_database_unavailable,
    QueryTimeout: _on_query_timeout,
    Exception: _on_exception,
}


def with_head(allow: str) -> str:
    """An `Allow` header that names HEAD beside GET; Litestar does not know that we answer it."""
    methods = {method.strip() for method in allow.split(",")}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
