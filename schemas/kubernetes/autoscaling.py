"""autoscaling/v2 HorizontalPodAutoscaler"""

from datetime import datetime
from typing import Any

from msgspec import field

from schemas.kubernetes.base import Condition, KubeObject, KubeStruct, LabelSelector, ObjectReference
from schemas.kubernetes.kind import Kind


class MetricIdentifier(KubeStruct):
    """autoscaling/v2 MetricIdentifier"""

    name: str = ""
    selector: LabelSelector | None = None


class MetricValue(KubeStruct):
    """autoscaling/v2 MetricTarget and MetricValueStatus; quantities as written, utilization in percent."""

    type: str = ""
    value: int | str | None = None
    average_value: int | str | None = None
    average_utilization: int | None = None


class MetricSource(KubeStruct):
    """What is measured: autoscaling/v2 ResourceMetricSource and its likes, and their statuses."""

    name: str = ""
    """The resource, of `resource` and `containerResource`."""
    container: str = ""
    metric: MetricIdentifier | None = None
    described_object: ObjectReference | None = None
    target: MetricValue | None = None
    current: MetricValue | None = None


class Metric(KubeStruct):
    """autoscaling/v2 MetricSpec and MetricStatus"""

    type: str = ""
    resource: MetricSource | None = None
    container_resource: MetricSource | None = None
    pods: MetricSource | None = None
    object: MetricSource | None = None
    external: MetricSource | None = None

    @property
    def source(self) -> MetricSource:
        """The one that is set."""
        sources = (self.resource, self.container_resource, self.pods, self.object, self.external)
        return next((source for source in sources if source), _NOTHING)


_NOTHING = MetricSource()
_UNSET = MetricValue()


class ScalingPolicy(KubeStruct):
    """autoscaling/v2 HPAScalingPolicy"""

    type: str = ""
    value: int = 0
    period_seconds: int = 0


class ScalingRules(KubeStruct):
    """autoscaling/v2 HPAScalingRules"""

    stabilization_window_seconds: int | None = None
    select_policy: str = ""
    policies: list[ScalingPolicy] | None = None


class ScalingBehavior(KubeStruct):
    """autoscaling/v2 HorizontalPodAutoscalerBehavior"""

    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


class AutoscalerSpec(KubeStruct):
    """autoscaling/v2 HorizontalPodAutoscalerSpec"""

    scale_target_ref: ObjectReference = field(default_factory=ObjectReference)
    min_replicas: int | None = None
    max_replicas: int = 0
    metrics: list[Metric] | None = None
    behavior: ScalingBehavior | None = None


class AutoscalerStatus(KubeStruct):
    """autoscaling/v2 HorizontalPodAutoscalerStatus"""

    observed_generation: int = 0
    last_scale_time: datetime | None = None
    current_replicas: int = 0
    desired_replicas: int = 0
    current_metrics: list[Metric] | None = None
    conditions: list[Condition] | None = None


class HorizontalPodAutoscaler(KubeObject):
    """autoscaling/v2 HorizontalPodAutoscaler"""

    spec: AutoscalerSpec = field(default_factory=AutoscalerSpec)
    status: AutoscalerStatus = field(default_factory=AutoscalerStatus)

    def columns(self) -> dict[str, Any]:
        target = self.spec.scale_target_ref
        return {
            "reference": f"{target.kind}/{target.name}",
            "targets": self._targets(),
            "min_pods": self.spec.min_replicas,
            "max_pods": self.spec.max_replicas,
            "replicas": self.status.current_replicas,
        }

    def _targets(self) -> str:
        """`cpu: 42%/80%, 10/20 (avg)`: each metric's current and target value, by position."""
        current = self.status.current_metrics or []
        return ", ".join(
            _format(metric, current[index] if index < len(current) else Metric())
            for index, metric in enumerate(self.spec.metrics or [])
        )


def _format(metric: Metric, status: Metric) -> str:
    target, current = metric.source.target or _UNSET, status.source.current or _UNSET
    if metric.type in ("Resource", "ContainerResource"):
        if target.average_value is not None:
            return f"{metric.source.name}: {_known(current.average_value)}/{target.average_value}"
        wanted = "<auto>" if target.average_utilization is None else f"{target.average_utilization}%"
        used = current.average_utilization
        return f"{metric.source.name}: {'<unknown>' if used is None else f'{used}%'}/{wanted}"
    if metric.type == "Pods":
        return f"{_known(current.average_value)}/{_known(target.average_value)}"
    if metric.type in ("Object", "External"):
        if target.average_value is not None:
            return f"{_known(current.average_value)}/{target.average_value} (avg)"
        return f"{_known(current.value)}/{_known(target.value)}"
    return "<unknown type>"


def _known(value: int | str | None) -> int | str:
    return "<unknown>" if value is None else value


HORIZONTAL_POD_AUTOSCALER = Kind(
    resource="horizontalpodautoscalers",
    kind="HorizontalPodAutoscaler",
    model=HorizontalPodAutoscaler,
    group="autoscaling",
    version="v2",
)
