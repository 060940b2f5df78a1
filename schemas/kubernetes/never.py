"""What no agent does, whatever its settings and its role allow: Secrets, tokens and questions about rights.

The API refuses it before anything is stored, and agents refuse it again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

NEVER = frozenset({"secrets"})
"""Resources that are neither asked for nor applied, in any group. The subresources that hand out tokens or
open connections are none that can be named."""
NEVER_KIND = "secret"
"""What such an object calls itself, in whichever case: a slip of the pen is stored as well."""
NEVER_GROUPS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
"""They hold no objects: what is created there are tokens to be examined, and questions about rights."""


def never_applied(params: Mapping[str, Any]) -> str:
    """Why `apply` is refused with these parameters; empty: it is not."""
    return _never_sent(params["manifest"])


def never_asked_for(params: Mapping[str, Any]) -> str:
    """The same of `dynamic`."""
    resource, group = params["resource"], params.get("group", "")
    if resource in NEVER or group in NEVER_GROUPS:
        what = f"{resource}.{group}" if group else resource
        return f"{what} are never asked for through an agent, whatever its settings allow"
    return _never_sent(params.get("body"))


def _never_sent(body: Any) -> str:
    """Of an object that would be sent, and of the items of a list."""
    for obj in _objects(body):
        kind = str(obj.get("kind", "")).strip()
        group, _, _ = str(obj.get("apiVersion", "")).rpartition("/")
        if kind.casefold().removesuffix("list") == NEVER_KIND or group in NEVER_GROUPS:
            return (
                f"{kind} objects are not applied through an agent: the command, which is stored, would hold "
                "their values"
            )
    return ""


def _objects(body: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(body, dict):
        yield body
        items = body.get("items")
        yield from (item for item in (items if isinstance(items, list) else ()) if isinstance(item, dict))
