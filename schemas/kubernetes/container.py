"""core/v1 PodSpec and what it is made of: shared by pods and by all that have a pod template."""

from msgspec import field

from schemas.kubernetes.base import KubeStruct, ObjectMeta
from schemas.kubernetes.redaction import redact_arguments, redact_text


class ContainerPort(KubeStruct):
    """core/v1 ContainerPort"""

    name: str = ""
    container_port: int = 0
    protocol: str = ""
    host_port: int = 0


class KeySelector(KubeStruct):
    """core/v1 SecretKeySelector and ConfigMapKeySelector"""

    name: str = ""
    key: str = ""


class FieldSelector(KubeStruct):
    """core/v1 ObjectFieldSelector"""

    field_path: str = ""


class EnvVarSource(KubeStruct):
    """core/v1 EnvVarSource"""

    field_ref: FieldSelector | None = None
    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(KubeStruct):
    """core/v1 EnvVar without its value: a literal may be a secret whatever its name is."""

    name: str = ""
    value_from: EnvVarSource | None = None


class NamedSource(KubeStruct):
    """A reference to another object, under whichever of the API's names for it."""

    name: str = ""
    secret_name: str = ""
    claim_name: str = ""


class EnvFromSource(KubeStruct):
    """core/v1 EnvFromSource"""

    prefix: str = ""
    config_map_ref: NamedSource | None = None
    secret_ref: NamedSource | None = None


class VolumeMount(KubeStruct):
    """core/v1 VolumeMount"""

    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    read_only: bool = False


class ResourceRequirements(KubeStruct):
    """core/v1 ResourceRequirements; quantities as written (`100m`, `1Gi`)."""

    requests: dict[str, int | str] | None = None
    limits: dict[str, int | str] | None = None


class ExecAction(KubeStruct):
    """core/v1 ExecAction"""

    command: list[str] | None = None

    def __post_init__(self) -> None:
        if self.command:
            self.command = redact_arguments(self.command)


class NetworkAction(KubeStruct):
    """core/v1 HTTPGetAction (without its headers), TCPSocketAction and GRPCAction"""

    scheme: str = ""
    host: str = ""
    port: int | str = 0
    path: str = ""
    service: str = ""

    def __post_init__(self) -> None:
        if "=" in self.path:
            self.path = redact_text(self.path)


class Probe(KubeStruct):
    """core/v1 Probe; times in seconds."""

    exec: ExecAction | None = None
    http_get: NetworkAction | None = None
    tcp_socket: NetworkAction | None = None
    grpc: NetworkAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 0
    period_seconds: int = 0
    success_threshold: int = 0
    failure_threshold: int = 0


class Container(KubeStruct):
    """core/v1 Container"""

    name: str = ""
    image: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    ports: list[ContainerPort] | None = None
    env: list[EnvVar] | None = None
    env_from: list[EnvFromSource] | None = None
    resources: ResourceRequirements | None = None
    volume_mounts: list[VolumeMount] | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: str = ""
    """`Always` on an init container makes it a sidecar (KEP-753)."""

    def __post_init__(self) -> None:
        if self.command:
            self.command = redact_arguments(self.command)
        if self.args:
            self.args = redact_arguments(self.args)


class VolumeProjection(KubeStruct):
    """core/v1 VolumeProjection: the sources that name another object."""

    config_map: NamedSource | None = None
    secret: NamedSource | None = None


class ProjectedSource(KubeStruct):
    """core/v1 ProjectedVolumeSource"""

    sources: list[VolumeProjection] | None = None


class EmptyDirSource(KubeStruct):
    """core/v1 EmptyDirVolumeSource"""

    medium: str = ""
    size_limit: int | str = ""


class StorageSource(KubeStruct):
    """Where bytes lie, under whichever of the API's names for it: host path, local, NFS, CSI."""

    driver: str = ""
    volume_handle: str = ""
    server: str = ""
    path: str = ""
    type: str = ""
    fs_type: str = ""
    read_only: bool = False


class EphemeralSource(KubeStruct):
    """core/v1 EphemeralVolumeSource: that the pod has a claim of its own, `<pod>-<volume>`."""


class Volume(KubeStruct):
    """core/v1 Volume: the sources that name another object, and the usual others."""

    name: str = ""
    persistent_volume_claim: NamedSource | None = None
    config_map: NamedSource | None = None
    secret: NamedSource | None = None
    projected: ProjectedSource | None = None
    ephemeral: EphemeralSource | None = None
    empty_dir: EmptyDirSource | None = None
    host_path: StorageSource | None = None
    nfs: StorageSource | None = None
    csi: StorageSource | None = None


class Toleration(KubeStruct):
    """core/v1 Toleration"""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class PodReadinessGate(KubeStruct):
    """core/v1 PodReadinessGate"""

    condition_type: str = ""


DEFAULT_SCHEDULER = "default-scheduler"
"""What the API server writes into a pod that names none."""


class PodSpec(KubeStruct):
    """core/v1 PodSpec"""

    node_name: str = ""
    service_account_name: str = ""
    priority: int | None = None
    priority_class_name: str = ""
    runtime_class_name: str = ""
    restart_policy: str = ""
    scheduler_name: str = DEFAULT_SCHEDULER
    host_network: bool = False
    node_selector: dict[str, str] | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    ephemeral_containers: list[Container] | None = None
    image_pull_secrets: list[NamedSource] | None = None
    volumes: list[Volume] | None = None
    tolerations: list[Toleration] | None = None
    readiness_gates: list[PodReadinessGate] | None = None

    def __post_init__(self) -> None:
        if self.scheduler_name == DEFAULT_SCHEDULER:
            self.scheduler_name = DEFAULT_SCHEDULER  # a default is left out when it is the same object


class PodTemplate(KubeStruct):
    """core/v1 PodTemplateSpec"""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)
