"""Resources as people write them, and as kubectl and the API name them."""

from schemas.kubernetes import KINDS

SHORT_NAMES = {
    "cj": "cronjobs",
    "cm": "configmaps",
    "deploy": "deployments",
    "ds": "daemonsets",
    "ev": "events",
    "hpa": "horizontalpodautoscalers",
    "ing": "ingresses",
    "no": "nodes",
    "ns": "namespaces",
    "po": "pods",
    "pv": "persistentvolumes",
    "pvc": "persistentvolumeclaims",
    "rs": "replicasets",
    "sts": "statefulsets",
    "svc": "services",
}
"""kubectl's short names."""

_PLURALS = {
    word: kind.resource
    for kind in KINDS.values()
    for name in (kind.plural, kind.kind.lower())
    for word in (
        name,
        f"{name}.{kind.version}.{kind.group}".rstrip("."),
        f"{name}.{kind.group}".rstrip("."),
    )
} | SHORT_NAMES


def plural(word: str) -> str:
    """kubectl's plural of `deploy`, `Deployment`, `deployments.apps` or `deployments.v1.apps`.

    A word that is not known stays as it is, in lower case: it may be a resource that only its cluster has.
    """
    return _PLURALS.get(word.lower(), word.lower())
