"""A command as the API tells it, in a table and in words."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from services.cli import render
from services.cli.resources import Query
from services.runtime.words import counted

Item = dict[str, Any]

TERMINAL = frozenset({"succeeded", "failed", "rejected", "expired", "canceled", "unknown"})
"""The last states (`schemas.commands.CommandState`, whose import takes longer than a command)."""
UNKNOWN = "-"
"""Stands for what only the parameters tell, where a list is without them since they are too large."""


def verb(action: str) -> str:
    """The command of ours that asks for an action."""
    return {"delete_pod": "delete", "update_image": "set-image"}.get(action, action)


def label(item: Item) -> str:
    """What it is about, as kubectl names it: `deployment.apps/web`."""
    about, params = item["object"], item["params"] or {}
    if about["name"]:
        return f"{Query.of(about['resource']).prefix}/{about['name']}"
    if item["params"] is None:
        return UNKNOWN
    if manifest := params.get("manifest"):
        group, slash, _ = str(manifest.get("apiVersion", "")).partition("/")
        kind = str(manifest.get("kind", "")).lower() + (f".{group}" if slash else "")
        return f"{kind}/{(manifest.get('metadata') or {}).get('name', '')}"
    if resource := params.get("resource"):
        name = params.get("name")
        return f"{resource}/{name}" if name else str(resource)
    return ""


def namespace(item: Item) -> str:
    """Of the object; empty where it has none."""
    params = item["params"] or {}
    if item["params"] is None and not item["object"]["name"]:
        return UNKNOWN
    if not (manifest := params.get("manifest")):
        return str(item["object"]["namespace"] or params.get("namespace") or "")
    known = Query.of(str(manifest.get("kind", "")))
    given = params.get("namespace") if known.namespaced else ""
    return str((manifest.get("metadata") or {}).get("namespace") or given or "")


def detail(item: Item) -> str:
    """What is to be known of it: why it has failed, how far it is, what it has brought about."""
    if error := item.get("error"):
        return str(error["message"])
    if item["state"] == "succeeded":
        done = _done(item)
        return f"{done} (dry run)".lstrip() if item["dry_run"] else done
    return progress(item) or str(item.get("note") or "")


def progress(item: Item) -> str:
    """How far a long one has come, in its agent's words."""
    told = item.get("progress")
    if not told:
        return ""
    return f"{told['message']} ({told['done']}/{told['total']})" if told["total"] else str(told["message"])


def took(item: Item) -> str:
    """From its acceptance to its end."""
    if not item["finished_at"]:
        return ""
    seconds = datetime.fromisoformat(item["finished_at"]) - datetime.fromisoformat(item["created_at"])
    return f"{seconds.total_seconds():.1f}s"


def _scaled(data: Item) -> str:
    if not data["changed"]:
        return f"{counted(data['replicas'], 'replica')} already"
    return f"replicas {data['previous_replicas']} → {data['replicas']}"


def _scheduling(data: Item) -> str:
    what = "cordoned" if data["unschedulable"] else "uncordoned"
    return what if data["changed"] else f"{what} already"


def _images(data: Item) -> str:
    told = [f"{name} {image['from']} → {image['to']}" for name, image in data["images"].items()]
    return ", ".join(told) or "these images already"


def _rolled_back(data: Item) -> str:
    return f"revision {data['revision']}{'' if data['changed'] else ' already'}"


def _deleted(data: Item) -> str:
    if data["gone"]:
        return "gone"
    finalizers = ", ".join(data["finalizers"])
    return f"ends when these let it: {finalizers}" if finalizers else "ends in its grace period"


def _drained(data: Item) -> str:
    left_alone = f", {len(data['ignored'])} left alone" if data["ignored"] else ""
    return f"{counted(len(data['evicted']), 'pod')} evicted{left_alone}"


_DONE: dict[str, Callable[[Item], str]] = {
    "apply": lambda data: str(data["operation"]),
    "cordon": _scheduling,
    "delete": _deleted,
    "delete_pod": _deleted,
    "drain": _drained,
    "restart": lambda _: "its pods are replaced one after the other",
    "rollback": _rolled_back,
    "scale": _scaled,
    "uncordon": _scheduling,
    "update_image": _images,
}
"""What the data of a result says, by action."""


def _done(item: Item) -> str:
    data, told = item.get("data"), _DONE.get(item["action"])
    if told is None or not isinstance(data, dict):
        return ""
    try:
        return told(data)
    except (KeyError, TypeError, AttributeError):  # an agent of another version says it in another way
        return ""


def table(found: Sequence[Item], *, wide: bool = False, listed: bool = False, header: bool = True) -> str:
    """A line each. `listed`: as a list of what was asked for by anybody, the newest first."""
    namespaces = listed or len({namespace(item) for item in found}) > 1
    open_ones = any(item["state"] not in TERMINAL for item in found)
    actions = listed or len({item["action"] for item in found}) > 1
    columns: dict[str, Callable[[Item], str]] = {
        "ID": lambda item: item["id"],
        "CLUSTER": lambda item: item["target"]["id"],
        "ACTION": lambda item: item["action"],
        "NAMESPACE": namespace,
        "OBJECT": label,
        "STATE": lambda item: item["state"],
        "AGE": lambda item: render.age_of(item["created_at"]),
        "TOOK": took,
        "ACTOR": lambda item: item["actor"],
        "DETAIL": detail,
    }
    hidden = {
        "ID": not (listed or wide or open_ones),
        "ACTION": not actions,
        "NAMESPACE": not namespaces,
        "AGE": not listed,
        "TOOK": not wide,
        "ACTOR": not wide,
    }
    shown = {name: cell for name, cell in columns.items() if not hidden.get(name)}
    lines = [list(shown), *(render.cells(cell(item) for cell in shown.values()) for item in found)]
    widths = render.widths(lines)
    return "\n".join(render.line(each, widths) for each in lines[not header :])
