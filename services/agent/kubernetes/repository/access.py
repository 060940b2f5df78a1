"""The rights an agent needs, as questions to the API server: what its role has to grant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from schemas.kubernetes import KINDS
from schemas.kubernetes.actions import RESTARTABLE, SCALABLE
from schemas.kubernetes.kind import Kind
from services.agent.kubernetes.sdk.interfaces import Access

IDENTITY = Access("get", "", "namespaces", name="kube-system")
"""The cluster's UID is that namespace's. Without it two clusters under one id can't be told apart."""


LOGS = Access("get", "", "pods/log")


def needed(kind: Kind, namespaces: Sequence[str]) -> list[Access]:
    """To collect a kind: list and watch it, in each of the namespaces or, with none named, in all."""
    scopes = (list(namespaces) or [""]) if kind.namespaced else [""]
    return [Access(verb, kind.group, kind.plural, scope) for verb in ("list", "watch") for scope in scopes]


def wanted(kinds: Sequence[Kind], namespaces: Sequence[str]) -> list[Access]:
    """All that an agent uses as long as it changes nothing: also to know the cluster, and to read logs."""
    logs = [replace(LOGS, namespace=scope) for scope in list(namespaces) or [""]]
    return [IDENTITY, *(access for kind in kinds for access in needed(kind, namespaces)), *logs]


# --- acting ------------------------------------------------------------------------------------------

_UNTOUCHED = ("events", "namespaces", "nodes", "persistentvolumes", "secrets")
"""Kinds whose objects the shipped role lets nobody make, change as a whole, or delete."""
MANAGED = tuple(kind for name, kind in KINDS.items() if name not in _UNTOUCHED)


def _on(resource: str, *rights: str) -> list[Access]:
    """`get`, or `patch/scale` for a subresource."""
    kind = KINDS[resource]
    found: list[Access] = []
    for right in rights:
        verb, _, subresource = right.partition("/")
        plural = f"{kind.plural}/{subresource}" if subresource else kind.plural
        found.append(Access(verb, kind.group, plural))
    return found


def _each(resources: Iterable[str], *rights: str) -> list[list[Access]]:
    return [_on(resource, *rights) for resource in resources]


def _template(resources: Iterable[str]) -> list[list[Access]]:
    return _each(resources, "get", "patch")


_MANAGED_NAMES = tuple(kind.resource for kind in MANAGED)
_READABLE = tuple(name for name in KINDS if name != "secrets")

ACTING: Mapping[str, Sequence[Sequence[Access]]] = {
    "scale": _each(SCALABLE, "get", "patch/scale"),
    "restart": _template(RESTARTABLE),
    "delete_pod": [_on("pods", "get", "delete"), _on("pods", "get", "create/eviction")],
    "delete": _each(_MANAGED_NAMES, "get", "delete"),
    "get_logs": [_on("pods", "get/log")],
    "dynamic": _each(_READABLE, "get", "list"),
    "apply": _each(_MANAGED_NAMES, "get", "create", "patch"),
    "cordon": _template(["nodes"]),
    "uncordon": _template(["nodes"]),
    "drain": [_on("nodes", "get", "patch") + _on("pods", "get", "list", "create/eviction")],
    "update_image": _template(RESTARTABLE),
    "rollback": [
        _on("deployments", "get", "patch") + _on("replicasets", "list"),
        *(
            [*_on(resource, "get", "patch"), Access("list", "apps", "controllerrevisions")]
            for resource in ("daemonsets", "statefulsets")
        ),
    ],
}
"""What each action takes, on one resource or another: it can be done on something where the rights of one of
the ways are there. The role in deploy/kubernetes grants all of them."""
