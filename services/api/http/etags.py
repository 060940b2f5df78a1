"""Conditional requests (RFC 9110, 13): an answer that would be the same is not made again.

The tag is worked out from what an answer depends on, before a row is read: the revisions of the shards that
were asked about, the moments and the standing of their agents, and the request itself. It is a weak one:
`position` may be older than it could be, which costs its reader nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from msgspec import Struct

from schemas.ids import SHARDS, Target
from services.runtime.version import VERSION

Body = TypeVar("Body", bound=Struct)
MAX_HEADER = 4096

IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="The `ETag` of an earlier answer: 304 without content while nothing has changed.",
        max_length=MAX_HEADER,
    ),
]
NOT_MODIFIED = {304: ResponseSpec(None, description="Nothing has changed since the answer of that `ETag`")}


def tag(request: Request[Any, Any, Any], *parts: object) -> str:
    """The weak ETag of the answer to a request that depends on these parts."""
    asked = (VERSION, request.scope["path"], request.scope["query_string"].decode("latin-1"))
    text = msgspec.json.encode([*asked, *parts])
    return f'W/"{hashlib.sha256(text).hexdigest()[:32]}"'


def of_shards(revs: Sequence[int], targets: Iterable[Target] | None) -> list[int]:
    """The revisions of those shards that hold the rows of these agents; of all for None."""
    shards = range(SHARDS) if targets is None else sorted({target.shard for target in targets})
    return [revs[shard] for shard in shards]


def matches(given: str | None, current: str) -> bool:
    """Whether an If-None-Match names the tag, by the weak comparison (RFC 9110, 8.8.3.2)."""
    if given is None:
        return False
    known = {part.strip().removeprefix("W/") for part in given.split(",")}
    return "*" in known or current.removeprefix("W/") in known


def unchanged(current: str) -> Response[Any]:
    """304"""
    return Response(None, status_code=304, headers=_headers(current))


def tagged(body: Body, current: str) -> Response[Body]:
    """200 with its tag."""
    return Response(body, headers=_headers(current))


def _headers(current: str) -> dict[str, str]:
    # Kept by whoever likes, and asked about each time.
    return {"etag": current, "cache-control": "no-cache"}
