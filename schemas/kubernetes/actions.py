"""What an agent of kind `kubernetes` can be asked to do: one declaration each.

API and agent check parameters against these models; OpenAPI and the reference are made from them.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from schemas.commands import Action, Nature, Params
from schemas.kubernetes.metadata import with_metadata
from schemas.kubernetes.never import never_applied, never_asked_for
from schemas.kubernetes.redaction import REDACTED, redact_object

SCALABLE = ("deployments", "replicasets", "statefulsets")
RESTARTABLE = ("daemonsets", "deployments", "statefulsets")

GracePeriod = Annotated[
    int | None,
    Field(ge=0, description="Seconds that containers have to end; null: what the object says."),
]

FieldManager = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
        description="By which name the API server writes down who has set a field.",
    ),
]


class ScaleParams(Params):
    """Set the number of replicas."""

    replicas: Annotated[int, Field(ge=0, le=1_000_000, description="How many it is to have.")]
    current_replicas: Annotated[
        int | None, Field(ge=0, description="Refused unless the object has so many now; null: whatever.")
    ] = None


class Propagation(StrEnum):
    """What happens to those that the object owns (metav1.DeletionPropagation)."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


Owned = Annotated[Propagation, Field(description="What happens to those that the object owns.")]


class DeletePodParams(Params):
    """Delete one pod, or evict it."""

    evict: Annotated[
        bool, Field(description="By the Eviction API, which disruption budgets may refuse (429).")
    ] = False
    grace_period: GracePeriod = None


class DeleteParams(Params):
    """Delete one object."""

    propagation: Owned = Propagation.BACKGROUND
    grace_period: GracePeriod = None


class LogParams(Params):
    """A piece of a container's log, as it is now; to follow one, see the logs of the REST API."""

    container: Annotated[str, Field(max_length=253, description="Empty: the one that kubectl takes.")] = ""
    previous: Annotated[bool, Field(description="Of the container before its last restart.")] = False
    tail_lines: Annotated[
        int | None, Field(ge=0, le=1_000_000, description="The last so many lines; null: all.")
    ] = 1000
    since_seconds: Annotated[int | None, Field(ge=1, description="Only lines that are younger.")] = None
    since_time: Annotated[str | None, Field(description="Only lines from then on (RFC 3339).")] = None
    timestamps: Annotated[bool, Field(description="Each line begins with its time.")] = False
    limit_bytes: Annotated[
        int, Field(ge=1, le=32 * 1024 * 1024, description="The piece ends there; `truncated` says so.")
    ] = 8 * 1024 * 1024


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

    verb: Annotated[
        Literal["list", "get", "create", "update", "patch", "delete"], Field(description="What is asked.")
    ]
    group: Annotated[
        str,
        Field(
            pattern=r"^([a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?)?$", description="API group; empty: the core's."
        ),
    ] = ""
    version: Annotated[str, Field(pattern=r"^v[0-9][a-z0-9]{0,20}$", description="Of the group.")] = "v1"
    resource: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,250}[a-z0-9])?$", description="Its plural.")
    ]
    subresource: Annotated[
        str, Field(pattern=r"^(status|scale)?$", description="get, update, patch: only that part.")
    ] = ""
    namespace: Annotated[
        str,
        Field(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$", description="list: empty for all of them."),
    ] = ""
    name: Annotated[str, Field(max_length=253, description="create: empty for the one in the body.")] = ""
    uid: Annotated[str, Field(description="update, patch, delete: the object must be this one.")] = ""
    body: Annotated[
        Any,
        AfterValidator(with_metadata),
        Field(description="create, update: the object; patch: the patch."),
    ] = None
    patch_type: Annotated[PatchType, Field(description="patch: how the body is to be read.")] = (
        PatchType.MERGE
    )
    field_manager: FieldManager = "atlhyper"
    force: Annotated[bool, Field(description="apply: take fields over from other managers.")] = False
    label_selector: Annotated[str, Field(description="list: only these.")] = ""
    field_selector: Annotated[str, Field(description="list: only these.")] = ""
    limit: Annotated[int, Field(ge=1, le=10_000, description="list: objects of one page.")] = 500
    continue_: Annotated[str, Field(alias="continue", description="list: `continue` of the page before.")] = (
        ""
    )
    managed_fields: Annotated[bool, Field(description="get, list: with metadata.managedFields.")] = False
    grace_period: GracePeriod = None
    propagation: Owned = Propagation.BACKGROUND


class ApplyParams(Params):
    """Server-side apply of one object (KEP-555)."""

    manifest: Annotated[
        dict[str, Any],
        AfterValidator(with_metadata),
        Field(description="apiVersion, kind, metadata.name, …"),
    ]
    namespace: Annotated[
        str,
        Field(
            pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$",
            description="Where the manifest names none, and objects of its kind have one.",
        ),
    ] = ""
    force: Annotated[bool, Field(description="Take fields over from other managers.")] = False
    field_manager: FieldManager = "atlhyper"


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
        dict[str, Annotated[str, Field(pattern=r"^\S{1,1024}$")]],
        Field(min_length=1, description="By container; `*` stands for all, init containers too."),
    ]


class RollbackParams(Params):
    """Give a workload the pod template of an earlier revision."""

    to_revision: Annotated[int, Field(ge=0, description="0: the one before the present one.")] = 0


def _without_secrets(params: dict[str, Any]) -> dict[str, Any]:
    """Those of `apply` and `dynamic`; of a Secret's body nothing: a patch does not tell what it is."""
    shown: dict[str, Any] = redact_object(params)
    body = params.get("body")
    if body is not None and (params.get("resource") == "secrets" or not isinstance(body, dict)):
        shown["body"] = REDACTED  # a JSON patch says by its paths what the values are
    return shown


_TRIED = {"object": "dry run: as the API server would have it, redacted; absent where nothing is written"}

_GOING = {
    "uid": "of the object",
    "gone": "false while it still ends in its own time",
    "finalizers": "what it waits for, where it waits for something",
}

_SCHEDULING = {
    "uid": "of the node",
    "unschedulable": "whether further pods are kept off",
    "changed": "false where it was so already, and nothing was written",
} | _TRIED

ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action(
            name="scale",
            description="Set the number of replicas, by the scale subresource.",
            nature=Nature.CHANGE,
            params=ScaleParams,
            resources=SCALABLE,
            data={
                "uid": "of the object",
                "replicas": "how many it is to have",
                "previous_replicas": "how many it was to have before",
                "changed": "false where it had so many already, and nothing was written",
                "object": f"its Scale; {_TRIED['object']}",
            },
        ),
        Action(
            name="restart",
            description="Replace a workload's pods one after the other (rollout restart).",
            nature=Nature.CHANGE,
            resources=RESTARTABLE,
            data={"uid": "of the object", "restarted_at": "as its pod template says it now (RFC 3339)"}
            | _TRIED,
        ),
        Action(
            name="delete_pod",
            description="Delete one pod, or evict it.",
            nature=Nature.DESTROY,
            params=DeletePodParams,
            resources=("pods",),
            data=_GOING,
        ),
        Action(
            name="delete",
            description="Delete one object.",
            nature=Nature.DESTROY,
            params=DeleteParams,
            data=_GOING,
        ),
        Action(
            name="get_logs",
            description="Read a piece of a container's log.",
            nature=Nature.READ,
            params=LogParams,
            resources=("pods",),
            repeat_safe=True,
            cancellable=True,
            dry_run=False,
            data={
                "container": "whose log it is",
                "log": "the piece, as the container has printed it: nothing is redacted, and a warning tells "
                "of bytes that are no UTF-8",
                "bytes": "its size",
                "truncated": "whether it ends at `limit_bytes`",
            },
        ),
        Action(
            name="dynamic",
            description="One request on any resource of the API server.",
            nature=Nature.DESTROY,
            params=DynamicParams,
            shown=_without_secrets,
            refusal=never_asked_for,
            needs_object=False,
            by_verb={
                "list": Nature.READ,
                "get": Nature.READ,
                "create": Nature.CHANGE,
                "update": Nature.CHANGE,
                "patch": Nature.CHANGE,
                "delete": Nature.DESTROY,
            },
            data={
                "object": "get, create, update, patch: the object, redacted",
                "items": "list: the objects, redacted",
                "continue": "list: for the next page; empty at the end",
                "remaining": "list: how many follow; null where the API server does not say",
                "resource_version": "list: as of which version",
                "read_at": "get, list: when (RFC 3339)",
                "uid": "delete: of the object",
                "gone": "delete: false while it still ends in its own time",
            },
        ),
        Action(
            name="apply",
            description="Make or change one object by server-side apply.",
            nature=Nature.CHANGE,
            params=ApplyParams,
            shown=_without_secrets,
            refusal=never_applied,
            needs_object=False,
            data={
                "resource": "kubectl's plural, or `<plural>.<version>.<group>`",
                "namespace": "of the object",
                "name": "of the object",
                "uid": "of the object",
                "operation": "`created`, `configured` or `unchanged`",
                "object": "as it is now, redacted",
            },
        ),
        Action(
            name="cordon",
            description="Keep further pods off a node.",
            nature=Nature.CHANGE,
            resources=("nodes",),
            data=_SCHEDULING,
        ),
        Action(
            name="uncordon",
            description="Let pods come to a node again.",
            nature=Nature.CHANGE,
            resources=("nodes",),
            data=_SCHEDULING,
        ),
        Action(
            name="drain",
            description="Cordon a node and evict its pods.",
            nature=Nature.DESTROY,
            params=DrainParams,
            resources=("nodes",),
            data={
                "cordoned": "whether further pods are kept off",
                "evicted": "`{namespace, name, uid}` of each pod that the API server has agreed to end",
                "remaining": "the same of each pod that is still there",
                "ignored": "`{pod, reason}` of each that stays",
                "failed": "`{pod, reason}` of each that could not be evicted",
            },
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
            data={
                "uid": "of the object",
                "images": "`{from, to}` by container, of those that have changed",
                "changed": "false where it had these images already, and nothing was written",
            }
            | _TRIED,
        ),
        Action(
            name="rollback",
            description="Give a workload the pod template of an earlier revision.",
            nature=Nature.CHANGE,
            params=RollbackParams,
            resources=RESTARTABLE,
            data={
                "uid": "of the object",
                "revision": "whose template it has now",
                "images": "of that revision, by container",
                "changed": "false where it had that template already, and nothing was written",
            }
            | _TRIED,
        ),
    )
}
"""Every action, by name."""
