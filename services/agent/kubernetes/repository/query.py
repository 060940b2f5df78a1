"""The form in which a kind is asked for."""

from schemas.kubernetes.kind import Kind
from services.agent.kubernetes.sdk.interfaces import JSON

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def accept_of(kind: Kind) -> str:
    """The header `Accept`."""
    return TABLE if kind.as_table else JSON


def query_of(kind: Kind) -> dict[str, str]:
    """What goes with it in the query."""
    return {"includeObject": "Metadata"} if kind.as_table else {}
