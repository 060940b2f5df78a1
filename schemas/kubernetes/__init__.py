"""The projections of Kubernetes' kinds, one declaration each."""

from schemas.kubernetes.autoscaling import HORIZONTAL_POD_AUTOSCALER
from schemas.kubernetes.batch import CRON_JOB, JOB
from schemas.kubernetes.config import CONFIG_MAP, SECRET
from schemas.kubernetes.event import EVENT
from schemas.kubernetes.kind import ALWAYS_SELECTABLE, Kind, Selectable
from schemas.kubernetes.network import INGRESS, SERVICE
from schemas.kubernetes.node import NAMESPACE, NODE
from schemas.kubernetes.pod import POD
from schemas.kubernetes.storage import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from schemas.kubernetes.workload import DAEMON_SET, DEPLOYMENT, REPLICA_SET, STATEFUL_SET

KINDS: dict[str, Kind] = {
    kind.resource: kind
    for kind in (
        POD,
        NODE,
        DEPLOYMENT,
        STATEFUL_SET,
        DAEMON_SET,
        REPLICA_SET,
        SERVICE,
        INGRESS,
        CONFIG_MAP,
        SECRET,
        NAMESPACE,
        EVENT,
        JOB,
        CRON_JOB,
        PERSISTENT_VOLUME,
        PERSISTENT_VOLUME_CLAIM,
        HORIZONTAL_POD_AUTOSCALER,
    )
}
"""Every kind that is collected, by resource."""


def selectable_fields(resource: str) -> dict[str, Selectable]:
    """What the objects of a resource can be selected by, by the name of the field."""
    kind = KINDS.get(resource)
    return {item.field: item for item in (kind.selectable if kind else ALWAYS_SELECTABLE)}
