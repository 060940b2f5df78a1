"""core/v1 Pod"""

from datetime import datetime
from typing import Any, NamedTuple

from msgspec import field

from schemas.kubernetes.base import Condition, KubeObject, KubeStruct, Tally, condition_status
from schemas.kubernetes.container import DEFAULT_SCHEDULER, PodSpec
from schemas.kubernetes.kind import NAME, NAMESPACE, Kind, Selectable, selectable
from schemas.kubernetes.redaction import redact_text


class ContainerStateWaiting(KubeStruct):
    """core/v1 ContainerStateWaiting"""

    reason: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        if self.message:
            self.message = redact_text(self.message)


class ContainerStateRunning(KubeStruct):
    """core/v1 ContainerStateRunning"""

    started_at: datetime | None = None


class ContainerStateTerminated(KubeStruct):
    """core/v1 ContainerStateTerminated"""

    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.message:
            self.message = redact_text(self.message)


class ContainerState(KubeStruct):
    """core/v1 ContainerState"""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(KubeStruct):
    """core/v1 ContainerStatus"""

    name: str = ""
    image: str = ""
    image_id: str = field(default="", name="imageID")
    container_id: str = field(default="", name="containerID")
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState | None = None
    last_state: ContainerState | None = None


class PodIP(KubeStruct):
    """core/v1 PodIP"""

    ip: str = ""


class PodStatus(KubeStruct):
    """core/v1 PodStatus"""

    phase: str = ""
    reason: str = ""
    message: str = ""
    nominated_node_name: str = ""
    host_ip: str = field(default="", name="hostIP")
    pod_ip: str = field(default="", name="podIP")
    pod_ips: list[PodIP] | None = field(default=None, name="podIPs")
    start_time: datetime | None = None
    qos_class: str = ""
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None

    def __post_init__(self) -> None:
        if self.message:
            self.message = redact_text(self.message)


class Pod(KubeObject):
    """core/v1 Pod"""

    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)

    def node(self) -> str:
        return self.spec.node_name

    def tally(self) -> Tally:
        printed = print_pod(self)
        return Tally(printed.state, printed.total, printed.ready)

    def columns(self) -> dict[str, Any]:
        printed = print_pod(self)
        needed = [gate.condition_type for gate in self.spec.readiness_gates or []]
        gates = [condition_status(self.status.conditions, type_) for type_ in needed]
        return {
            "ready": f"{printed.ready}/{printed.total}",
            "status": printed.state,
            "restarts": printed.restarts,
            "ip": self.status.pod_ip,
            "nominated_node": self.status.nominated_node_name,
            "readiness_gates": f"{gates.count('True')}/{len(gates)}" if gates else "",
        }


class PrintedPod(NamedTuple):
    """What `kubectl get pods` shows of one."""

    ready: int
    total: int
    state: str
    restarts: int


def print_pod(pod: Pod) -> PrintedPod:
    """READY, STATUS and RESTARTS by the rules of the API server's printer
    (pkg/printers/internalversion of Kubernetes 1.36): sidecars count as containers, and an init container
    that has not finished speaks for the whole pod."""
    spec, status = pod.spec, pod.status
    inits = spec.init_containers or []
    sidecars = {container.name for container in inits if container.restart_policy == "Always"}
    total = len(spec.containers or []) + len(sidecars)
    state = status.reason or status.phase
    if any(c.type == "PodScheduled" and c.reason == "SchedulingGated" for c in status.conditions or []):
        state = "SchedulingGated"

    ready = restarts = sidecar_restarts = 0
    init_state = ""
    for index, container in enumerate(status.init_container_statuses or []):
        restarts += container.restart_count
        is_sidecar = container.name in sidecars
        if is_sidecar:
            sidecar_restarts += container.restart_count
        current = container.state or _NO_STATE
        if current.terminated and current.terminated.exit_code == 0:
            continue
        if is_sidecar and container.started:
            ready += container.ready
            continue
        if current.terminated:
            init_state = f"Init:{_terminated_reason(current.terminated)}"
        elif current.waiting and current.waiting.reason not in ("", "PodInitializing"):
            init_state = f"Init:{current.waiting.reason}"
        else:
            init_state = f"Init:{index}/{len(inits)}"
        break

    state = init_state or state
    if not init_state or condition_status(status.conditions, "Initialized") == "True":
        restarts = sidecar_restarts
        running = 0
        error = ""
        for container in reversed(status.container_statuses or []):
            restarts += container.restart_count
            current = container.state or _NO_STATE
            if current.waiting and current.waiting.reason:
                state = current.waiting.reason
            elif current.terminated:
                state = _terminated_reason(current.terminated)
                if current.terminated.exit_code:
                    error = state
            elif container.ready and current.running:
                running += 1
        ready += running
        if state == "Completed":
            if running and condition_status(status.conditions, "Ready") == "True":
                state = "Running"
            else:
                state = error or ("NotReady" if running else state)

    if pod.metadata.deletion_timestamp:
        if status.reason == "NodeLost":
            state = "Unknown"
        elif status.phase not in ("Succeeded", "Failed"):
            state = "Terminating"
    return PrintedPod(ready, total, state, restarts)


_NO_STATE = ContainerState()


def _terminated_reason(state: ContainerStateTerminated) -> str:
    return state.reason or (f"Signal:{state.signal}" if state.signal else f"ExitCode:{state.exit_code}")


POD = Kind(
    resource="pods",
    kind="Pod",
    model=Pod,
    selectable=(
        NAME,
        NAMESPACE,
        selectable("spec.nodeName"),
        selectable("spec.host", "spec.nodeName"),
        selectable("spec.restartPolicy"),
        selectable("spec.schedulerName", absent=DEFAULT_SCHEDULER),
        selectable("spec.serviceAccountName"),
        selectable("spec.hostNetwork", absent="false"),
        selectable("status.phase"),
        selectable("status.podIP", "status.podIPs.0.ip"),
        Selectable("status.podIPs", at=()),  # accepted by the API server, which never has a value for it
        selectable("status.nominatedNodeName"),
    ),
)
