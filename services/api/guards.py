"""What is checked of every request before its handler: nothing that is asked for is silently ignored."""

import re
from functools import cache
from typing import Any

from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from services.api import problems

_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_INTEGER = re.compile(r"-?[0-9]+")


def check_request(request: Request[Any, Any, Any]) -> None:
    """Litestar's `before_request`. Raises ProblemError.

    A foreign host name is refused because a page elsewhere could have its own name resolve to this machine
    (DNS rebinding) and read the API as its own origin; no credentials would stop it.
    """
    host = request.headers.get("host", "localhost")  # HTTP/1.0 may leave it out, a browser never does
    if not _LOCAL_HOST.fullmatch(host):
        raise problems.ProblemError(
            problems.INVALID_REQUEST,
            f"this API is served to its own machine only, not under the name {host!r}",
            "use http://127.0.0.1 or http://localhost; through a proxy, have it set the Host header",
        )
    if request.method != "OPTIONS":
        _check_query(request)


def _check_query(request: Request[Any, Any, Any]) -> None:
    known = _query_types(request.route_handler)
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise problems.invalid(name, "unknown parameter", f"leave it out; this path takes: {takes}")
        if name in seen:
            raise problems.invalid(name, "given more than once", "give it once")
        if "\0" in value:
            raise problems.invalid(name, "holds a NUL character", "leave the character out")
        if known[name] is int and not _INTEGER.fullmatch(value):  # Litestar would take 1e3 for 1000
            raise problems.invalid(name, f"{value!r} is not an integer", problems.INVALID_PARAMETER.next)
        seen.add(name)
    for name, value in request.path_params.items():
        if "\0" in str(value):
            raise problems.invalid(name, "holds a NUL character", "leave the character out")


@cache
def _query_types(handler: BaseRouteHandler) -> dict[str, Any]:
    return {
        parameter.kwarg_definition.name or name: parameter.annotation
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    }
