"""The whole of one cluster as one document."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct, defstruct, field

from schemas.kubernetes import KINDS
from schemas.snapshot import ClusterSummary


class SnapshotHead(Struct, kw_only=True):
    """What a ClusterSnapshot says beside the objects."""

    cluster_id: str
    version: Annotated[int, Meta(ge=0)]
    """Counted by the master, one for each frame applied; 64 bits without a sign."""
    fetched_at: datetime
    """The bus's time of the last frame applied."""
    summary: ClusterSummary = field(default_factory=ClusterSummary)
    generic: dict[str, list[Any]] = field(default_factory=dict)
    """Objects of the resources that were added by setting, by resource."""


ClusterSnapshot: type[SnapshotHead] = defstruct(  # type: ignore[assignment]
    "ClusterSnapshot",
    [
        (kind.resource, list[kind.model], field(default_factory=list))  # type: ignore[name-defined]
        for kind in KINDS.values()
    ],
    bases=(SnapshotHead,),
    kw_only=True,
    namespace={"__doc__": "A cluster as of one moment: a list for each resource of KINDS, and its counts."},
)
