"""core/v1 Service and networking.k8s.io/v1 Ingress"""

from typing import Any

from msgspec import field

from schemas.kubernetes.base import Condition, KubeObject, KubeStruct, ObjectReference, format_labels
from schemas.kubernetes.kind import NAME, NAMESPACE, Kind, selectable


class LoadBalancerIngress(KubeStruct):
    """core/v1 LoadBalancerIngress"""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(KubeStruct):
    """core/v1 LoadBalancerStatus"""

    ingress: list[LoadBalancerIngress] | None = None

    @property
    def addresses(self) -> list[str]:
        """IP addresses, else host names, sorted."""
        return sorted({address for point in self.ingress or [] if (address := point.ip or point.hostname)})


class ServicePort(KubeStruct):
    """core/v1 ServicePort"""

    name: str = ""
    port: int = 0
    target_port: int | str | None = None
    """A number, or the name of a container's port."""
    node_port: int = 0
    protocol: str = ""
    app_protocol: str = ""


class ServiceSpec(KubeStruct):
    """core/v1 ServiceSpec"""

    type: str = ""
    selector: dict[str, str] | None = None
    ports: list[ServicePort] | None = None
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: list[str] | None = field(default=None, name="clusterIPs")
    external_ips: list[str] | None = field(default=None, name="externalIPs")
    external_name: str = ""
    load_balancer_ip: str = field(default="", name="loadBalancerIP")
    load_balancer_class: str = ""
    load_balancer_source_ranges: list[str] | None = None
    session_affinity: str = ""
    external_traffic_policy: str = ""
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    ip_families: list[str] | None = None
    ip_family_policy: str = ""


class ServiceStatus(KubeStruct):
    """core/v1 ServiceStatus"""

    load_balancer: LoadBalancerStatus = field(default_factory=LoadBalancerStatus)
    conditions: list[Condition] | None = None


class Service(KubeObject):
    """core/v1 Service"""

    spec: ServiceSpec = field(default_factory=ServiceSpec)
    status: ServiceStatus = field(default_factory=ServiceStatus)

    @property
    def external_addresses(self) -> str:
        """What kubectl shows under EXTERNAL-IP; empty for none."""
        spec = self.spec
        if spec.type == "ExternalName":
            return spec.external_name
        addresses = list(spec.external_ips or [])
        if spec.type == "LoadBalancer":
            addresses = self.status.load_balancer.addresses + addresses or ["<pending>"]
        return ",".join(addresses)

    def columns(self) -> dict[str, Any]:
        spec = self.spec
        ports = (f"{p.port}:{p.node_port}" if p.node_port else f"{p.port}" for p in spec.ports or [])
        protocols = (p.protocol for p in spec.ports or [])
        return {
            "type": spec.type,
            "cluster_ip": spec.cluster_ips[0] if spec.cluster_ips else spec.cluster_ip,
            "external_ip": self.external_addresses,
            "ports": ",".join(f"{port}/{protocol}" for port, protocol in zip(ports, protocols, strict=True)),
            "selector": format_labels(spec.selector),
        }


class BackendPort(KubeStruct):
    """networking.k8s.io/v1 ServiceBackendPort"""

    name: str = ""
    number: int = 0


class ServiceBackend(KubeStruct):
    """networking.k8s.io/v1 IngressServiceBackend"""

    name: str = ""
    port: BackendPort | None = None


class IngressBackend(KubeStruct):
    """networking.k8s.io/v1 IngressBackend"""

    service: ServiceBackend | None = None
    resource: ObjectReference | None = None


class IngressPath(KubeStruct):
    """networking.k8s.io/v1 HTTPIngressPath"""

    path: str = ""
    path_type: str = ""
    backend: IngressBackend = field(default_factory=IngressBackend)


class IngressHTTP(KubeStruct):
    """networking.k8s.io/v1 HTTPIngressRuleValue"""

    paths: list[IngressPath] | None = None


class IngressRule(KubeStruct):
    """networking.k8s.io/v1 IngressRule"""

    host: str = ""
    http: IngressHTTP | None = None


class IngressTLS(KubeStruct):
    """networking.k8s.io/v1 IngressTLS"""

    hosts: list[str] | None = None
    secret_name: str = ""


class IngressSpec(KubeStruct):
    """networking.k8s.io/v1 IngressSpec"""

    ingress_class_name: str = ""
    default_backend: IngressBackend | None = None
    rules: list[IngressRule] | None = None
    tls: list[IngressTLS] | None = None


class IngressStatus(KubeStruct):
    """networking.k8s.io/v1 IngressStatus"""

    load_balancer: LoadBalancerStatus = field(default_factory=LoadBalancerStatus)


class Ingress(KubeObject):
    """networking.k8s.io/v1 Ingress"""

    spec: IngressSpec = field(default_factory=IngressSpec)
    status: IngressStatus = field(default_factory=IngressStatus)

    def services(self) -> list[str]:
        """Names of the services it sends to, sorted; they are in its namespace."""
        paths = (path for rule in self.spec.rules or [] if rule.http for path in rule.http.paths or [])
        backends = [self.spec.default_backend, *(path.backend for path in paths)]
        return sorted({backend.service.name for backend in backends if backend and backend.service})

    def columns(self) -> dict[str, Any]:
        hosts = [rule.host for rule in self.spec.rules or [] if rule.host]
        return {
            "class": self.spec.ingress_class_name,
            "hosts": ",".join(hosts) or "*",
            "address": ",".join(self.status.load_balancer.addresses),
            "ports": "80, 443" if self.spec.tls else "80",
        }


SERVICE = Kind(
    resource="services",
    kind="Service",
    model=Service,
    selectable=(NAME, NAMESPACE, selectable("spec.clusterIP"), selectable("spec.type")),
)
INGRESS = Kind(resource="ingresses", kind="Ingress", model=Ingress, group="networking.k8s.io")
