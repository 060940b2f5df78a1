"""Which columns of a row are shown, and how: kubectl's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.cli import render

NARROW = {
    "configmaps": ("data",),
    "cronjobs": ("schedule", "timezone", "suspend", "active", "last_schedule"),
    "daemonsets": ("desired", "current", "ready", "up_to_date", "available", "node_selector"),
    "deployments": ("ready", "up_to_date", "available"),
    "events": ("last_seen", "type", "reason", "object", "message"),
    "horizontalpodautoscalers": ("reference", "targets", "min_pods", "max_pods", "replicas"),
    "ingresses": ("class", "hosts", "address", "ports"),
    "jobs": ("status", "completions", "duration_seconds"),
    "namespaces": ("status",),
    "nodes": ("status", "roles", "version"),
    "persistentvolumeclaims": ("status", "volume", "capacity", "access_modes", "storage_class"),
    "persistentvolumes": (
        *("capacity", "access_modes", "reclaim_policy", "status", "claim", "storage_class", "reason"),
    ),
    "pods": ("ready", "status", "restarts"),
    "replicasets": ("desired", "current", "ready"),
    "secrets": ("type", "data"),
    "services": ("type", "cluster_ip", "external_ip", "ports"),
    "statefulsets": ("ready",),
}
"""What `kubectl get` shows between name and age; `-o wide` adds the rest of a row."""

_FIXED = ("cluster", "kind", "name", "namespace", "uid", "owner", "created_at", "object")
"""Not columns by themselves; an Event's `object` is one of NARROW."""
_TIMES = frozenset({"first_seen", "last_seen", "last_schedule"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Of one resource's table."""

    resource: str
    clusters: bool = False
    """Say which cluster each row is of."""
    namespaces: bool = False
    wide: bool = False
    labels: Sequence[str] = ()
    """Labels with a column of their own (`-L`)."""
    all_labels: bool = False
    """`--show-labels`"""
    events: bool = False
    """Say what has happened to each row (`--output-watch-events`)."""

    def keys(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """What is shown of these rows. One whose object could not be read has the fixed columns only."""
        present = dict.fromkeys(key for row in rows for key in row)
        narrow = tuple(key for key in NARROW.get(self.resource, ()) if key in present or not rows)
        if self.wide or self.resource not in NARROW:
            hidden = {*_FIXED, *narrow, "node", "event"} - ({"node"} if self.resource == "pods" else set())
            narrow += tuple(key for key in present if key not in hidden)
        lead = (["event"] if self.events else []) + (["cluster"] if self.clusters else [])
        lead += ["namespace"] if self.namespaces else []
        if self.resource == "events":
            return [*lead, *narrow]
        return [*lead, "name", *narrow, "age"]

    def header(self, keys: Sequence[str]) -> list[str]:
        """The first line: kubectl's words in capitals."""
        named = [key.removesuffix("_seconds").upper().replace("_", "-") for key in keys]
        named[:1] = ["EVENT".ljust(len("MODIFIED"))] if self.events else named[:1]
        named += [label.rpartition("/")[2].upper() for label in self.labels]
        return [*named, *(["LABELS"] if self.all_labels else [])]

    def cells(self, row: dict[str, Any], keys: Sequence[str]) -> list[str]:
        """One line."""
        labels = (
            (row.get("object") or {}).get("metadata", {}).get("labels") or {} if self.needs_object else {}
        )
        shown = [_value(row, key) for key in keys]
        shown += [labels.get(label, "") for label in self.labels]
        return [
            *shown,
            *([",".join(f"{key}={labels[key]}" for key in sorted(labels))] if self.all_labels else []),
        ]

    @property
    def needs_object(self) -> bool:
        """Rows have no labels; their projections do."""
        return bool(self.labels) or self.all_labels


def event_row(row: dict[str, Any]) -> dict[str, Any]:
    """An Event with kubectl's columns."""
    involved, count = row["involved"], row["count"]
    shown = {key: row[key] for key in ("namespace", "last_seen", "type", "reason")}
    shown |= {"object": f"{involved['kind'].lower()}/{involved['name']}", "message": row["message"]}
    shown |= {"source": row["component"], "first_seen": row["first_seen"], "count": count}
    return {"cluster": row["cluster_id"], **shown}


def _value(row: dict[str, Any], key: str) -> str:
    if key == "age":
        return render.age_of(row.get("created_at"))
    if key == "duration_seconds":
        return _duration(row)
    if key in _TIMES:
        return render.age_of(row[key]) if row.get(key) else ""
    return render.text(row.get(key))


def _duration(row: dict[str, Any]) -> str:
    """How long a Job has run: to its end, or until now."""
    if row.get("duration_seconds") is not None:
        return render.span(row["duration_seconds"])
    return render.age_of(row["started_at"]) if row.get("started_at") else ""
