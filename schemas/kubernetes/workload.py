"""apps/v1: Deployment, StatefulSet, DaemonSet, ReplicaSet"""

from typing import Any

from msgspec import field

from schemas.kubernetes.base import (
    Condition,
    KubeObject,
    KubeStruct,
    LabelSelector,
    ObjectMeta,
    Tally,
    format_labels,
)
from schemas.kubernetes.container import PodTemplate
from schemas.kubernetes.kind import Kind
from schemas.kubernetes.storage import PersistentVolumeClaimSpec


def template_columns(template: PodTemplate) -> dict[str, Any]:
    """What `kubectl get -o wide` shows of a pod template."""
    containers = template.spec.containers or []
    return {
        "containers": ",".join(container.name for container in containers),
        "images": ",".join(container.image for container in containers),
    }


def selector_column(selector: LabelSelector | None) -> dict[str, Any]:
    """What `kubectl get -o wide` shows of a selector."""
    return {"selector": str(selector) if selector else ""}


class RollingUpdate(KubeStruct):
    """apps/v1 RollingUpdateDeployment, …StatefulSet and …DaemonSet; numbers or percentages."""

    max_unavailable: int | str | None = None
    max_surge: int | str | None = None
    partition: int | None = None


class UpdateStrategy(KubeStruct):
    """apps/v1 DeploymentStrategy, StatefulSetUpdateStrategy and DaemonSetUpdateStrategy"""

    type: str = ""
    rolling_update: RollingUpdate | None = None


class WorkloadSpec(KubeStruct):
    """What the specs of all four have."""

    selector: LabelSelector | None = None
    template: PodTemplate = field(default_factory=PodTemplate)
    min_ready_seconds: int = 0


class ReplicatedSpec(WorkloadSpec):
    """A WorkloadSpec that counts replicas."""

    replicas: int | None = None

    @property
    def desired(self) -> int:
        """The replicas asked for; the API's default is 1."""
        return 1 if self.replicas is None else self.replicas


class ReplicatedStatus(KubeStruct):
    """What the statuses of those have that count replicas."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: list[Condition] | None = None


class DeploymentSpec(ReplicatedSpec):
    """apps/v1 DeploymentSpec"""

    strategy: UpdateStrategy | None = None
    paused: bool = False
    revision_history_limit: int | None = None
    progress_deadline_seconds: int | None = None


class DeploymentStatus(ReplicatedStatus):
    """apps/v1 DeploymentStatus"""

    updated_replicas: int = 0
    unavailable_replicas: int = 0
    terminating_replicas: int | None = None


class Deployment(KubeObject):
    """apps/v1 Deployment"""

    spec: DeploymentSpec = field(default_factory=DeploymentSpec)
    status: DeploymentStatus = field(default_factory=DeploymentStatus)

    def tally(self) -> Tally:
        return Tally(desired=self.spec.desired, ready=self.status.ready_replicas)

    def columns(self) -> dict[str, Any]:
        return {
            "ready": f"{self.status.ready_replicas}/{self.spec.desired}",
            "up_to_date": self.status.updated_replicas,
            "available": self.status.available_replicas,
            **template_columns(self.spec.template),
            **selector_column(self.spec.selector),
        }


class VolumeClaimTemplate(KubeStruct):
    """core/v1 PersistentVolumeClaim, as a StatefulSet makes them"""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = field(default_factory=PersistentVolumeClaimSpec)


class ClaimRetentionPolicy(KubeStruct):
    """apps/v1 StatefulSetPersistentVolumeClaimRetentionPolicy"""

    when_deleted: str = ""
    when_scaled: str = ""


class StatefulSetSpec(ReplicatedSpec):
    """apps/v1 StatefulSetSpec"""

    service_name: str = ""
    update_strategy: UpdateStrategy | None = None
    pod_management_policy: str = ""
    volume_claim_templates: list[VolumeClaimTemplate] | None = None
    persistent_volume_claim_retention_policy: ClaimRetentionPolicy | None = None


class StatefulSetStatus(ReplicatedStatus):
    """apps/v1 StatefulSetStatus"""

    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""


class StatefulSet(KubeObject):
    """apps/v1 StatefulSet"""

    spec: StatefulSetSpec = field(default_factory=StatefulSetSpec)
    status: StatefulSetStatus = field(default_factory=StatefulSetStatus)

    def tally(self) -> Tally:
        return Tally(desired=self.spec.desired, ready=self.status.ready_replicas)

    def columns(self) -> dict[str, Any]:
        ready = f"{self.status.ready_replicas}/{self.spec.desired}"
        return {"ready": ready, **template_columns(self.spec.template)}


class DaemonSetSpec(WorkloadSpec):
    """apps/v1 DaemonSetSpec"""

    update_strategy: UpdateStrategy | None = None


class DaemonSetStatus(KubeStruct):
    """apps/v1 DaemonSetStatus"""

    observed_generation: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    number_misscheduled: int = 0
    conditions: list[Condition] | None = None


class DaemonSet(KubeObject):
    """apps/v1 DaemonSet"""

    spec: DaemonSetSpec = field(default_factory=DaemonSetSpec)
    status: DaemonSetStatus = field(default_factory=DaemonSetStatus)

    def tally(self) -> Tally:
        return Tally(desired=self.status.desired_number_scheduled, ready=self.status.number_ready)

    def columns(self) -> dict[str, Any]:
        return {
            "desired": self.status.desired_number_scheduled,
            "current": self.status.current_number_scheduled,
            "ready": self.status.number_ready,
            "up_to_date": self.status.updated_number_scheduled,
            "available": self.status.number_available,
            "node_selector": format_labels(self.spec.template.spec.node_selector),
            **template_columns(self.spec.template),
            **selector_column(self.spec.selector),
        }


class ReplicaSetStatus(ReplicatedStatus):
    """apps/v1 ReplicaSetStatus"""

    fully_labeled_replicas: int = 0
    terminating_replicas: int | None = None


class ReplicaSet(KubeObject):
    """apps/v1 ReplicaSet"""

    spec: ReplicatedSpec = field(default_factory=ReplicatedSpec)
    status: ReplicaSetStatus = field(default_factory=ReplicaSetStatus)

    def tally(self) -> Tally:
        return Tally(desired=self.spec.desired, ready=self.status.ready_replicas)

    def columns(self) -> dict[str, Any]:
        return {
            "desired": self.spec.desired,
            "current": self.status.replicas,
            "ready": self.status.ready_replicas,
            **template_columns(self.spec.template),
            **selector_column(self.spec.selector),
        }


DEPLOYMENT = Kind(resource="deployments", kind="Deployment", model=Deployment, group="apps")
STATEFUL_SET = Kind(resource="statefulsets", kind="StatefulSet", model=StatefulSet, group="apps")
DAEMON_SET = Kind(resource="daemonsets", kind="DaemonSet", model=DaemonSet, group="apps")
REPLICA_SET = Kind(resource="replicasets", kind="ReplicaSet", model=ReplicaSet, group="apps")
