"""The rights an agent needs, as questions to the API server: what its role has to grant."""

from collections.abc import Sequence

from schemas.kubernetes.kind import Kind
from services.agent.kubernetes.sdk.interfaces import Access

IDENTITY = Access("get", "", "namespaces", name="kube-system")
"""The cluster's UID is that namespace's. Without it two clusters under one id can't be told apart."""


def needed(kind: Kind, namespaces: Sequence[str]) -> list[Access]:
    """To collect a kind: list and watch it, in each of the namespaces or, with none named, in all."""
    scopes = (list(namespaces) or [""]) if kind.namespaced else [""]
    return [Access(verb, kind.group, kind.plural, scope) for verb in ("list", "watch") for scope in scopes]
