"""What an agent of kind `kubernetes` can be asked to do: one declaration each.

API and agent check parameters against these models; OpenAPI and the reference are made from them.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.commands import Action, Nature, Params

SCALABLE = ("deployments", "replicasets", "statefulsets")
RESTARTABLE = ("daemonsets", "deployments", "statefulsets")

GracePeriod = Annotated[
    int | None,
    Field(ge=0, description="Seconds that containers have to end; null: what the object says."),
]


class ScaleParams(Params):
    """Set the number of replicas."""

    replicas: Annotated[int, Field(ge=0, le=1_000_000)]
    current_replicas: Annotated[
        int | None, Field(ge=0, description="Refused unless the object has so many now; null: whatever.")
    ] = None


class Propagation(StrEnum):
    """What happens to those that the object owns (metav1.DeletionPropagation)."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


class DeletePodParams(Params):
    """Delete one pod, or evict it."""

    evict: Annotated[
        bool, Field(description="By the Eviction API, which disruption budgets may refuse (429).")
    ] = False
    grace_period: GracePeriod = None


class DeleteParams(Params):
    """Delete one object."""

    propagation: Propagation = Propagation.BACKGROUND
    grace_period: GracePeriod = None


class LogParams(Params):
    """A piece of a container's log, as it is now; to follow one, see the logs of the REST API."""

    container: str = ""
    previous: bool = False
    tail_lines: Annotated[int | None, Field(ge=0, le=1_000_000)] = 1000
    since_seconds: Annotated[int | None, Field(ge=1)] = None
    since_time: Annotated[str | None, Field(description="RFC 3339.")] = None
    timestamps: bool = False
    limit_bytes: Annotated[int, Field(ge=1, le=32 * 1024 * 1024)] = 8 * 1024 * 1024


class PatchType(StrEnum):
    """How a patch is to be read (RFC 7396, RFC 6902, and Kubernetes' own two)."""

    MERGE = "merge"
    JSON = "json"
    STRATEGIC = "strategic"
    APPLY = "apply"

    @property
    def content_type(self) -> str:
        """Its media type."""
        return {
            PatchType.MERGE: "application/merge-patch+json",
            PatchType.JSON: "application/json-patch+json",
            PatchType.STRATEGIC: "application/strategic-merge-patch+json",
            PatchType.APPLY: "application/apply-patch+yaml",
        }[self]


class DynamicParams(Params):
    """One request to the API server, on any resource it serves, within the agent's allow list."""

    verb: Literal["list", "get", "create", "update", "patch", "delete"]
    group: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?)?$")] = ""
    version: Annotated[str, Field(pattern=r"^v[0-9][a-z0-9]{0,20}$")] = "v1"
    resource: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,250}[a-z0-9])?$")]
    subresource: Annotated[str, Field(pattern=r"^(status|scale)?$")] = ""
    namespace: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")] = ""
    name: Annotated[str, Field(max_length=253)] = ""
    uid: Annotated[str, Field(description="update, patch, delete: the object must be this one.")] = ""
    body: Annotated[Any, Field(description="create, update: the object; patch: the patch.")] = None
    patch_type: PatchType = PatchType.MERGE
    field_manager: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,128}$")] = "atlhyper"
    force: Annotated[bool, Field(description="apply: take fields over from other managers.")] = False
    label_selector: str = ""
    field_selector: str = ""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 500
    continue_: Annotated[str, Field(alias="continue")] = ""
    grace_period: GracePeriod = None
    propagation: Propagation = Propagation.BACKGROUND


class ApplyParams(Params):
    """Server-side apply of one object (KEP-555)."""

    manifest: Annotated[dict[str, Any], Field(description="apiVersion, kind, metadata.name, …")]
    force: Annotated[bool, Field(description="Take fields over from other managers.")] = False
    field_manager: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")] = "atlhyper"


class DrainParams(Params):
    """Cordon a node and evict its pods; kubectl's options."""

    grace_period: GracePeriod = None
    ignore_daemon_sets: Annotated[
        bool, Field(description="Leave their pods: they would come back at once.")
    ] = False
    delete_empty_dir_data: Annotated[bool, Field(description="Evict pods whose emptyDir data is lost.")] = (
        False
    )
    force: Annotated[bool, Field(description="Evict pods that nothing makes again.")] = False
    disable_eviction: Annotated[bool, Field(description="Delete them past disruption budgets.")] = False
    pod_selector: Annotated[str, Field(description="Label selector of the pods to evict.")] = ""


class UpdateImageParams(Params):
    """Set container images of a workload's pod template."""

    images: Annotated[
        dict[str, str], Field(min_length=1, description="By container; `*` stands for all of them.")
    ]


class RollbackParams(Params):
    """Give a workload the pod template of an earlier revision."""

    to_revision: Annotated[int, Field(ge=0, description="0: the one before the present one.")] = 0


ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action(
            name="scale",
            description="Set the number of replicas, by the scale subresource.",
            nature=Nature.CHANGE,
            params=ScaleParams,
            resources=SCALABLE,
        ),
        Action(
            name="restart",
            description="Replace a workload's pods one after the other (rollout restart).",
            nature=Nature.CHANGE,
            resources=RESTARTABLE,
        ),
        Action(
            name="delete_pod",
            description="Delete one pod, or evict it.",
            nature=Nature.DESTROY,
            params=DeletePodParams,
            resources=("pods",),
        ),
        Action(name="delete", description="Delete one object.", nature=Nature.DESTROY, params=DeleteParams),
        Action(
            name="get_logs",
            description="Read a piece of a container's log.",
            nature=Nature.READ,
            params=LogParams,
            resources=("pods",),
            repeat_safe=True,
            cancellable=True,
        ),
        Action(
            name="dynamic",
            description="One request on any resource of the API server.",
            nature=Nature.DESTROY,
            params=DynamicParams,
            needs_object=False,
        ),
        Action(
            name="apply",
            description="Make or change one object by server-side apply.",
            nature=Nature.CHANGE,
            params=ApplyParams,
            needs_object=False,
            repeat_safe=True,
        ),
        Action(
            name="cordon",
            description="Keep further pods off a node.",
            nature=Nature.CHANGE,
            resources=("nodes",),
            repeat_safe=True,
        ),
        Action(
            name="uncordon",
            description="Let pods come to a node again.",
            nature=Nature.CHANGE,
            resources=("nodes",),
            repeat_safe=True,
        ),
        Action(
            name="drain",
            description="Cordon a node and evict its pods.",
            nature=Nature.DESTROY,
            params=DrainParams,
            resources=("nodes",),
            repeat_safe=True,
            long=True,
            cancellable=True,
        ),
        Action(
            name="update_image",
            description="Set the images of a workload's containers.",
            nature=Nature.CHANGE,
            params=UpdateImageParams,
            resources=RESTARTABLE,
        ),
        Action(
            name="rollback",
            description="Give a workload the pod template of an earlier revision.",
            nature=Nature.CHANGE,
            params=RollbackParams,
            resources=RESTARTABLE,
        ),
    )
}
"""Every action, by name."""
