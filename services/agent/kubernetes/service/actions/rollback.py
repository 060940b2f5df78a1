"""`rollback`: the pod template of an earlier revision."""

from typing import Any

from schemas.commands import ErrorCode
from schemas.kubernetes.actions import RollbackParams
from services.agent.capability import Outcome, Stale, Verdict
from services.agent.kubernetes.repository.interfaces import Json
from services.agent.kubernetes.sdk.interfaces import JSON_PATCH, STRATEGIC_PATCH
from services.agent.kubernetes.service.actions.base import (
    COMMAND,
    Handler,
    Sight,
    Task,
    annotations_of,
    mark_of,
    sight_of,
    verdict,
)
from services.agent.kubernetes.service.actions.errors import refused
from services.agent.kubernetes.service.actions.images import images_of
from services.agent.kubernetes.service.actions.manifests import answered
from services.agent.kubernetes.service.actions.revisions import Revision, history, same_template

_OF_THE_DEPLOYMENT = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
)
"""Annotations that a Deployment keeps; the others come back with the template, as in kubectl."""


class RollbackSight(Sight, frozen=True):
    """A workload, and the revision it is to go back to."""

    revision: int = 0
    images: dict[str, str] = {}
    """Which that one has, by container."""
    same: bool = False
    """Whether the workload has that template already."""


class Rollback(Handler[RollbackParams, RollbackSight]):
    """As `kubectl rollout undo` does it, under the version that was seen."""

    name = "rollback"
    seen = RollbackSight

    async def look(self, task: Task[RollbackParams]) -> RollbackSight:
        found = await self.read(task)
        if found["spec"].get("paused"):
            raise refused(
                ErrorCode.INVALID,
                "cannot rollback a paused deployment; resume it first with 'kubectl rollout resume "
                f"{task.name}' and try again",  # kubectl's words
            )
        revisions = await history(self.objects, task.resource, task.namespace, found)
        revision = _chosen(task, revisions)
        sight, images = sight_of(found), images_of(revision.template)
        return RollbackSight(
            sight.uid,
            sight.version,
            sight.generation,
            revision.number,
            images["initContainers"] | images["containers"],
            same_template(revision.template, found["spec"]["template"]),
        )

    async def perform(self, task: Task[RollbackParams], seen: RollbackSight) -> Outcome:
        if seen.same:
            return _outcome(seen)
        found = await self.read(task)
        if sight_of(found).version != seen.version:
            raise Stale
        revisions = await history(self.objects, task.resource, task.namespace, found)
        revision = next((item for item in revisions if item.number == seen.revision), None)
        if revision is None:
            raise Stale
        if task.resource == "deployments":
            patch = _deployment_patch(task, seen, found, revision)
            written = await self.write(task, "PATCH", patch, content_type=JSON_PATCH)
        else:
            template = _template_patch(task, seen, revision)
            written = await self.write(task, "PATCH", template, content_type=STRATEGIC_PATCH)
        return answered(task, _outcome(seen), written)

    async def judge(self, task: Task[RollbackParams], seen: RollbackSight) -> Verdict:
        return verdict(task, seen, await self.read_if_there(task), mark_of, _outcome(seen))


def _chosen(task: Task[RollbackParams], revisions: list[Revision]) -> Revision:
    """Raises Refused in kubectl's words."""
    wanted = task.params.to_revision
    if wanted == 0:
        if len(revisions) < 2:
            raise refused(ErrorCode.CONFLICT, f"no rollout history found for {task.label}")
        return revisions[-2]
    found = [revision for revision in revisions if revision.number == wanted]
    if not found:
        kept = ", ".join(str(revision.number) for revision in revisions) or "none"
        raise refused(
            ErrorCode.NOT_FOUND, f"unable to find specified revision {wanted} in history; there are {kept}"
        )
    return found[0]


def _deployment_patch(
    task: Task[RollbackParams], seen: RollbackSight, found: Json, revision: Revision
) -> list[Any]:
    own = annotations_of(found)
    annotations = {key: value for key, value in own.items() if key in _OF_THE_DEPLOYMENT}
    annotations |= {k: v for k, v in revision.annotations.items() if k not in _OF_THE_DEPLOYMENT}
    return [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": seen.version},
        {"op": "add", "path": "/metadata/annotations", "value": annotations | {COMMAND: task.id}},
        {"op": "replace", "path": "/spec/template", "value": revision.template},
    ]


def _template_patch(task: Task[RollbackParams], seen: RollbackSight, revision: Revision) -> dict[str, Any]:
    return {
        "metadata": {"resourceVersion": seen.version, "annotations": {COMMAND: task.id}},
        "spec": {"template": {"$patch": "replace", **revision.template}},
    }


def _outcome(seen: RollbackSight) -> Outcome:
    skipped = f"skipped rollback (current template already matches revision {seen.revision})"
    data = {
        "uid": seen.uid,
        "revision": seen.revision,
        "images": seen.images,
        "changed": not seen.same,
    }
    return Outcome(data, (skipped,) if seen.same else ())
