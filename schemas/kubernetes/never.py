"""What no agent does, whatever its settings and its role allow: Secrets, tokens and questions about rights.

The API refuses it before anything is stored, and agents refuse it again.
"""

from collections.abc import Mapping
from typing import Any

NEVER = frozenset({"secrets"})
"""Resources that are neither asked for nor applied, in any group. The subresources that hand out tokens or
open connections are none that can be named."""
NEVER_KIND = "secret"
"""What such an object calls itself, in whichever case: a slip of the pen is stored as well."""
NEVER_GROUPS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
"""They hold no objects: what is created there are tokens to be examined, and questions about rights."""
MAX_DEPTH = 8
"""Lists that may lie one within the other; further ones are refused unread."""


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
    """Of an object that would be sent, and of all that it lists."""
    objects = [body]
    for _ in range(MAX_DEPTH + 1):
        if refusal := _never_among(objects):
            return refusal
        objects = [item for obj in objects for item in _items(obj)]
    if objects:
        return f"more than {MAX_DEPTH} lists one within the other are not sent through an agent"
    return ""


def _never_among(objects: list[Any]) -> str:
    for obj in objects:
        if not isinstance(obj, dict):
            continue
        kind = str(obj.get("kind", "")).strip()
        group, _, _ = str(obj.get("apiVersion", "")).rpartition("/")
        if kind.casefold().removesuffix("list") == NEVER_KIND or group in NEVER_GROUPS:
            return (
                f"{kind} objects are not applied through an agent: the command, which is stored, would hold "
                "their values"
            )
    return ""


def _items(value: Any) -> list[Any]:
    """What a list holds, of Kubernetes or of JSON."""
    items = value.get("items") if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict | list)] if isinstance(items, list) else []
