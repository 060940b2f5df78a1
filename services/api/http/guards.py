"""What is checked of every request before its handler: nothing that is asked for is silently ignored."""

import difflib
import re
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, get_args

from litestar import MediaType, Request, Response
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.routes import BaseRoute

from services.api.http import answering, problems

_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_TIMES = (datetime, datetime | None)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*")
_WRITE_TIME = "write it as in 2026-11-21T08:00:00Z"
_INTEGERS = (int, int | None)
_INTEGER = re.compile(r"-?[0-9]+")


def check_local_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    """`check_request` where only this machine is served: under another name it is asked by nobody it serves.

    A page elsewhere could have its own name resolve to this machine (DNS rebinding), and try as its own
    origin what an address that nobody else reaches tells without a token, and with guessed ones.
    """
    host = request.headers.get("host", "localhost")  # HTTP/1.0 may leave it out, a browser never does
    if not _LOCAL_HOST.fullmatch(host):
        raise problems.ProblemError(
            problems.INVALID_REQUEST,
            f"this API is served to its own machine only, not under the name {host!r}",
            "use http://127.0.0.1 or http://localhost; through a proxy, have it set the Host header",
        )
    return check_request(request)


def check_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    """A `before_request` of Litestar: the answer to OPTIONS, nothing for others that may pass.

    Raises ProblemError, and NotFoundException for a page of Litestar's own.
    """
    if request.method == "OPTIONS":
        return _allowed(request)
    media_type = _media_type(request.route_handler)
    if media_type == MediaType.HTML:  # what Litestar says is not there under /schema
        raise NotFoundException
    _check_query(request)
    accept = request.headers.get("accept", "*/*")
    offers = [media_type, *request.route_handler.opt.get("also", ())]
    if not any(_acceptable(accept, offer) for offer in offers):
        media_type = " or ".join(offers)
        raise problems.ProblemError(
            problems.NOT_ACCEPTABLE,
            f"the answer is {media_type}, and the request accepts {accept} only",
            f"leave the header Accept out, or let it name {media_type}",
        )
    return None


def _allowed(request: Request[Any, Any, Any]) -> Response[None]:
    """204 with `Allow`. Litestar's own knows of the methods that the first of several handlers has."""
    template = request.scope["path_template"]
    methods = {method for route in request.app.routes if _path(route) == template for method in route.methods}
    return Response(None, status_code=204, headers={"allow": ", ".join(sorted(methods))})


def _path(route: BaseRoute) -> str:
    return str(route.path_format)


def _acceptable(accept: str, media_type: str) -> bool:
    """By RFC 9110, 12.5.1: the most specific range that matches decides, and `q=0` means no."""
    mine, _, _ = media_type.partition(";")
    weights: dict[str, bool] = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
        weights[name] = weights.get(name, False) or not refused
    ranges = (mine, f"{mine.partition('/')[0]}/*", "*/*")
    return next((weights[name] for name in ranges if name in weights), not accept.strip())


def _check_query(request: Request[Any, Any, Any]) -> None:
    known = _query_types(request.route_handler)
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise problems.invalid(name, "unknown parameter", _instead(name, known))
        if name in seen and get_args(known[name])[:1] != (list[str],):
            raise problems.invalid(name, "given more than once", "give it once")
        if "\0" in value:
            raise problems.invalid(name, "holds a NUL character", "leave the character out")
        if known[name] in _INTEGERS and not _INTEGER.fullmatch(value):  # Litestar would take 1e3 for 1000
            raise problems.invalid(name, f"{value!r} is not an integer", problems.INVALID_PARAMETER.next)
        if known[name] in _TIMES and not _TIME.fullmatch(value):  # Litestar would take 0.5 for 1970
            raise problems.invalid(name, f"{value!r} is not a date and time", _WRITE_TIME)
        seen.add(name)
    for name, value in request.path_params.items():
        if "\0" in str(value):
            raise problems.invalid(name, "holds a NUL character", "leave the character out")


def _instead(name: str, known: dict[str, Any]) -> str:
    takes = f"this path takes: {', '.join(sorted(known)) or 'none'}"
    by_lower = {parameter.lower(): parameter for parameter in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"write {by_lower[near[0]]}, or leave it out; {takes}" if near else f"leave it out; {takes}"


@cache
def _media_type(handler: BaseRouteHandler) -> str:
    """Of its answer, where all is well."""
    assert isinstance(handler, HTTPRouteHandler)
    documented = (handler.responses or {}).get(200)
    media_type = getattr(documented or handler, "media_type", None) or MediaType.JSON
    return media_type.value if isinstance(media_type, Enum) else str(media_type)


@cache
def _query_types(handler: BaseRouteHandler) -> dict[str, Any]:
    return {
        parameter.kwarg_definition.name or name: parameter.annotation
        for name, parameter in answering.parameters_of(handler).items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    }
