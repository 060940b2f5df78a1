"""What is checked of every request before its handler: nothing that is asked for is silently ignored."""

from functools import cache
from typing import Any

from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from services.api import problems

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def check_request(request: Request[Any, Any, Any]) -> None:
    """Litestar's `before_request`. Raises ProblemError.

    A foreign host name is refused because a page elsewhere could have its own name resolve to this machine
    (DNS rebinding) and read the API as its own origin; no credentials would stop it.
    """
    host = (request.url.hostname or "").lower()
    if host not in _LOCAL_HOSTS:
        raise problems.ProblemError(
            problems.INVALID_REQUEST,
            f"this API is served to its own machine only, not under the name {host!r}",
            "use http://127.0.0.1 or http://localhost; through a proxy, have it set the Host header",
        )
    if request.method != "OPTIONS":
        _check_query(request)


def _check_query(request: Request[Any, Any, Any]) -> None:
    known = _query_names(request.route_handler)
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise problems.invalid(name, "unknown parameter", f"leave it out; this path takes: {takes}")
        if name in seen:
            raise problems.invalid(name, "given more than once", "give it once")
        if "\0" in value:
            raise problems.invalid(name, "holds a NUL character", "leave the character out")
        seen.add(name)
    for name, value in request.path_params.items():
        if "\0" in str(value):
            raise problems.invalid(name, "holds a NUL character", "leave the character out")


@cache
def _query_names(handler: BaseRouteHandler) -> frozenset[str]:
    return frozenset(
        parameter.kwarg_definition.name or name
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    )
