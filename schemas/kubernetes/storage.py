"""core/v1 PersistentVolume and PersistentVolumeClaim; quantities as written (`10Gi`)."""

from typing import Any

from msgspec import field

from schemas.kubernetes.base import (
    Condition,
    KubeObject,
    KubeStruct,
    LabelSelector,
    LabelSelectorRequirement,
    ObjectMeta,
    ObjectReference,
    Tally,
)
from schemas.kubernetes.container import ResourceRequirements, StorageSource
from schemas.kubernetes.kind import Kind
from schemas.kubernetes.redaction import redact_text

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
"""The annotation that was a storage class before there was a field; it still wins."""


def _modes(modes: list[str] | None) -> str:
    """`RWO,RWX`, in the order in which kubectl writes them."""
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or []))


def _storage_class(metadata: ObjectMeta, storage_class: str) -> str:
    return (metadata.annotations or {}).get(_OLD_CLASS, storage_class)


class NodeSelectorTerm(KubeStruct):
    """core/v1 NodeSelectorTerm"""

    match_expressions: list[LabelSelectorRequirement] | None = None
    match_fields: list[LabelSelectorRequirement] | None = None


class NodeSelector(KubeStruct):
    """core/v1 NodeSelector"""

    node_selector_terms: list[NodeSelectorTerm] | None = None


class VolumeNodeAffinity(KubeStruct):
    """core/v1 VolumeNodeAffinity"""

    required: NodeSelector | None = None


class PersistentVolumeSpec(KubeStruct):
    """core/v1 PersistentVolumeSpec: of the sources those in use, without their attributes."""

    capacity: dict[str, int | str] | None = None
    access_modes: list[str] | None = None
    persistent_volume_reclaim_policy: str = ""
    storage_class_name: str = ""
    volume_attributes_class_name: str = ""
    volume_mode: str = ""
    mount_options: list[str] | None = None
    claim_ref: ObjectReference | None = None
    node_affinity: VolumeNodeAffinity | None = None
    csi: StorageSource | None = None
    nfs: StorageSource | None = None
    local: StorageSource | None = None
    host_path: StorageSource | None = None

    def __post_init__(self) -> None:
        if self.mount_options:
            self.mount_options = [redact_text(option) for option in self.mount_options]


class PersistentVolumeStatus(KubeStruct):
    """core/v1 PersistentVolumeStatus"""

    phase: str = ""
    reason: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        if self.message:
            self.message = redact_text(self.message)


class PersistentVolume(KubeObject):
    """core/v1 PersistentVolume"""

    spec: PersistentVolumeSpec = field(default_factory=PersistentVolumeSpec)
    status: PersistentVolumeStatus = field(default_factory=PersistentVolumeStatus)

    def tally(self) -> Tally:
        return Tally("Terminating" if self.metadata.deletion_timestamp else self.status.phase)

    def columns(self) -> dict[str, Any]:
        spec, claim = self.spec, self.spec.claim_ref
        return {
            "capacity": str((spec.capacity or {}).get("storage", "")),
            "access_modes": _modes(spec.access_modes),
            "reclaim_policy": spec.persistent_volume_reclaim_policy,
            "status": self.tally().state,
            "claim": f"{claim.namespace}/{claim.name}" if claim else "",
            "storage_class": _storage_class(self.metadata, spec.storage_class_name),
            "volume_attributes_class": spec.volume_attributes_class_name,
            "reason": self.status.reason,
            "volume_mode": spec.volume_mode,
        }


class PersistentVolumeClaimSpec(KubeStruct):
    """core/v1 PersistentVolumeClaimSpec"""

    access_modes: list[str] | None = None
    resources: ResourceRequirements | None = None
    storage_class_name: str = ""
    volume_attributes_class_name: str = ""
    volume_name: str = ""
    volume_mode: str = ""
    selector: LabelSelector | None = None
    data_source: ObjectReference | None = None


class PersistentVolumeClaimStatus(KubeStruct):
    """core/v1 PersistentVolumeClaimStatus"""

    phase: str = ""
    access_modes: list[str] | None = None
    capacity: dict[str, int | str] | None = None
    conditions: list[Condition] | None = None


class PersistentVolumeClaim(KubeObject):
    """core/v1 PersistentVolumeClaim"""

    spec: PersistentVolumeClaimSpec = field(default_factory=PersistentVolumeClaimSpec)
    status: PersistentVolumeClaimStatus = field(default_factory=PersistentVolumeClaimStatus)

    def tally(self) -> Tally:
        return Tally("Terminating" if self.metadata.deletion_timestamp else self.status.phase)

    def columns(self) -> dict[str, Any]:
        spec, status = self.spec, self.status
        bound = bool(spec.volume_name)
        return {
            "status": self.tally().state,
            "volume": spec.volume_name,
            "capacity": str((status.capacity or {}).get("storage", "")) if bound else "",
            "access_modes": _modes(status.access_modes) if bound else "",
            "storage_class": _storage_class(self.metadata, spec.storage_class_name),
            "volume_attributes_class": spec.volume_attributes_class_name,
            "volume_mode": spec.volume_mode,
        }


PERSISTENT_VOLUME = Kind(
    resource="persistentvolumes", kind="PersistentVolume", model=PersistentVolume, namespaced=False
)
PERSISTENT_VOLUME_CLAIM = Kind(
    resource="persistentvolumeclaims", kind="PersistentVolumeClaim", model=PersistentVolumeClaim
)
