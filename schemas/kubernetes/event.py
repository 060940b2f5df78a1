"""core/v1 Event: what was observed, and how its many forms are read as one.

events.k8s.io/v1 is another view of the same objects; its emitters leave `count`, `firstTimestamp` and
`lastTimestamp` empty and use `eventTime` and `series` (Kubernetes API reference, Event v1).
"""

from datetime import datetime
from typing import Any

from msgspec import field

from schemas.kubernetes.base import KubeObject, KubeStruct, ObjectReference, Tally
from schemas.kubernetes.kind import NAME, NAMESPACE, Kind, selectable
from schemas.kubernetes.redaction import redact_text


class EventSource(KubeStruct):
    """core/v1 EventSource"""

    component: str = ""
    host: str = ""


class EventSeries(KubeStruct):
    """core/v1 EventSeries"""

    count: int = 0
    last_observed_time: datetime | None = None


class KubernetesEvent(KubeObject):
    """One version of a core/v1 Event, as observed."""

    involved_object: ObjectReference = field(default_factory=ObjectReference)
    type: str = ""
    reason: str = ""
    message: str = ""
    action: str = ""
    source: EventSource | None = None
    reporting_component: str = ""
    reporting_instance: str = ""
    event_time: datetime | None = None
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    count: int = 0
    series: EventSeries | None = None

    def __post_init__(self) -> None:
        self.message = redact_text(self.message)

    @property
    def occurrences(self) -> int:
        """How often it has happened, as far as its emitter has said: at least 1."""
        return (self.series.count if self.series else 0) or self.count or 1

    @property
    def first_seen(self) -> datetime | None:
        """When it first happened."""
        return self.first_timestamp or self.event_time or self.metadata.creation_timestamp

    @property
    def last_seen(self) -> datetime | None:
        """When it last happened."""
        series = self.series.last_observed_time if self.series else None
        return series or self.last_timestamp or self.event_time or self.metadata.creation_timestamp

    @property
    def component(self) -> str:
        """Who reported it."""
        return (self.source.component if self.source else "") or self.reporting_component

    @property
    def host(self) -> str:
        """The node of its reporter, where it has one."""
        return self.source.host if self.source else ""

    def node(self) -> str:
        return self.involved_object.name if self.involved_object.kind == "Node" else self.host

    def pod(self) -> str:
        return self.involved_object.name if self.involved_object.kind == "Pod" else ""

    def tally(self) -> Tally:
        return Tally(self.type)

    def columns(self) -> dict[str, Any]:
        involved = self.involved_object
        return {
            "type": self.type,
            "reason": self.reason,
            "object": f"{involved.kind.lower()}/{involved.name}" if involved.name else involved.kind.lower(),
            "subobject": involved.field_path,
            "message": self.message.strip(),
            "count": self.occurrences,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "component": self.component,
        }


EVENT = Kind(
    resource="events",
    kind="Event",
    model=KubernetesEvent,
    selectable=(
        NAME,
        NAMESPACE,
        selectable("involvedObject.kind"),
        selectable("involvedObject.namespace"),
        selectable("involvedObject.name"),
        selectable("involvedObject.uid"),
        selectable("involvedObject.apiVersion"),
        selectable("involvedObject.fieldPath"),
        selectable("reason"),
        selectable("reportingComponent"),
        selectable("source", "source.component", "reportingComponent"),
        selectable("type"),
    ),
)
"""Its API server also selects by `involvedObject.resourceVersion`, which is not kept."""
