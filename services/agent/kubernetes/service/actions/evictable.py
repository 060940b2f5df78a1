"""Which pods of a node a drain takes away: kubectl's rules, and its words where it will not."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.kubernetes.actions import DrainParams
from services.agent.kubernetes.repository.interfaces import Json
from services.agent.kubernetes.service.actions.base import annotations_of, uid_of

MIRROR = "kubernetes.io/config.mirror"
"""The annotation of a pod that a kubelet shows of a file of its own: deleting it does nothing."""

DAEMON_SETS = "cannot delete DaemonSet-managed Pods (use ignore_daemon_sets to ignore)"
LOCAL_DATA = "cannot delete Pods with local storage (use delete_empty_dir_data to override)"
UNMANAGED = "cannot delete Pods that declare no controller (use force to override)"


@dataclass(slots=True)
class Selected:
    """The pods of a node, sorted out."""

    pods: list[Json] = field(default_factory=list)
    """To be evicted, those that are ending already included."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Why they stay, by name."""
    refused: dict[str, list[str]] = field(default_factory=dict)
    """Names of the pods that forbid the drain, by the reason."""
    warnings: list[str] = field(default_factory=list)

    def refusal(self) -> str:
        """Why the node is not drained, in one line; empty where it may be."""
        return "; ".join(f"{reason}: {', '.join(names)}" for reason, names in self.refused.items())


def select(pods: Iterable[Json], params: DrainParams) -> Selected:
    """Sort out the pods of a node."""
    selected = Selected()
    for pod in pods:
        if MIRROR in annotations_of(pod):
            selected.ignored[full_name(pod)] = "it belongs to the node itself (a static pod)"
        else:
            _sort(pod, params, selected)
    return selected


def _sort(pod: Json, params: DrainParams, selected: Selected) -> None:
    name, kind = full_name(pod), _controller(pod)
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    reasons: list[str] = []
    if not finished:
        if kind == "DaemonSet":
            if params.ignore_daemon_sets:
                selected.ignored[name] = "its DaemonSet would make it again at once"
                return
            reasons.append(DAEMON_SETS)
        if _has_local_data(pod):
            if params.delete_empty_dir_data:
                selected.warnings.append(f"{name}: the data of its emptyDir volumes is lost")
            else:
                reasons.append(LOCAL_DATA)
        if not kind:
            if params.force:
                selected.warnings.append(f"{name}: it has no controller, and nothing makes it again")
            else:
                reasons.append(UNMANAGED)
    for reason in reasons:
        selected.refused.setdefault(reason, []).append(name)
    if not reasons:
        selected.pods.append(pod)


def full_name(pod: Json) -> str:
    """`namespace/name`"""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def described(pod: Json) -> dict[str, str]:
    """How a pod is told of in the result."""
    return {
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "uid": uid_of(pod),
    }


def _controller(pod: Json) -> str:
    """The kind of what makes the pod again; empty where nothing does."""
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(owner.get("kind", "")) for owner in owners if owner.get("controller")), "")


def _has_local_data(pod: Json) -> bool:
    return any("emptyDir" in volume for volume in pod["spec"].get("volumes") or [])
