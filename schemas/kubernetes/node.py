"""core/v1 Node and Namespace"""

from datetime import datetime
from typing import Any

from msgspec import field

from schemas.kubernetes.base import Condition, KubeObject, KubeStruct, Tally, condition_status
from schemas.kubernetes.kind import NAME, Kind, selectable

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE = "kubernetes.io/role"


class Taint(KubeStruct):
    """core/v1 Taint"""

    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: datetime | None = None


class NodeSpec(KubeStruct):
    """core/v1 NodeSpec"""

    unschedulable: bool = False
    taints: list[Taint] | None = None
    pod_cidr: str = field(default="", name="podCIDR")
    pod_cidrs: list[str] | None = field(default=None, name="podCIDRs")
    provider_id: str = field(default="", name="providerID")


class NodeAddress(KubeStruct):
    """core/v1 NodeAddress"""

    type: str = ""
    address: str = ""


class NodeSystemInfo(KubeStruct):
    """core/v1 NodeSystemInfo"""

    architecture: str = ""
    operating_system: str = ""
    os_image: str = ""
    kernel_version: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    machine_id: str = field(default="", name="machineID")
    system_uuid: str = field(default="", name="systemUUID")
    boot_id: str = field(default="", name="bootID")


class NodeStatus(KubeStruct):
    """core/v1 NodeStatus without the images that lie on the node; quantities as written (`8`, `32Gi`)."""

    capacity: dict[str, int | str] | None = None
    allocatable: dict[str, int | str] | None = None
    conditions: list[Condition] | None = None
    addresses: list[NodeAddress] | None = None
    node_info: NodeSystemInfo = field(default_factory=NodeSystemInfo)


class Node(KubeObject):
    """core/v1 Node"""

    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)

    @property
    def roles(self) -> list[str]:
        """From its labels, sorted."""
        labels = self.metadata.labels or {}
        roles = {label.removeprefix(_ROLE_PREFIX) for label in labels if label.startswith(_ROLE_PREFIX)}
        return sorted(role for role in roles | {labels.get(_ROLE, "")} if role)

    def tally(self) -> Tally:
        ready = condition_status(self.status.conditions, "Ready")
        state = {"": "Unknown", "True": "Ready"}.get(ready, "NotReady")
        if self.spec.unschedulable:
            state += ",SchedulingDisabled"
        return Tally(state, 1, int(ready == "True"))

    def columns(self) -> dict[str, Any]:
        info = self.status.node_info
        addresses = {address.type: address.address for address in reversed(self.status.addresses or [])}
        return {
            "status": self.tally().state,
            "roles": ",".join(self.roles),
            "version": info.kubelet_version,
            "internal_ip": addresses.get("InternalIP", ""),
            "external_ip": addresses.get("ExternalIP", ""),
            "os_image": info.os_image,
            "kernel_version": info.kernel_version + (f" ({info.architecture})" if info.architecture else ""),
            "container_runtime": info.container_runtime_version,
        }


class NamespaceStatus(KubeStruct):
    """core/v1 NamespaceStatus"""

    phase: str = ""
    conditions: list[Condition] | None = None


class Namespace(KubeObject):
    """core/v1 Namespace"""

    status: NamespaceStatus = field(default_factory=NamespaceStatus)

    def tally(self) -> Tally:
        return Tally(self.status.phase)

    def columns(self) -> dict[str, Any]:
        return {"status": self.status.phase}


NODE = Kind(
    resource="nodes",
    kind="Node",
    model=Node,
    namespaced=False,
    selectable=(NAME, selectable("spec.unschedulable", absent="false")),
)
NAMESPACE = Kind(
    resource="namespaces",
    kind="Namespace",
    model=Namespace,
    namespaced=False,
    selectable=(NAME, selectable("status.phase")),
)
