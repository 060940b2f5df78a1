"""`update_image`: other images for a workload's containers."""

from typing import Any

from schemas.commands import ErrorCode
from schemas.kubernetes.actions import UpdateImageParams
from services.agent.capability import Outcome, Verdict
from services.agent.kubernetes.repository.interfaces import Json
from services.agent.kubernetes.sdk.interfaces import STRATEGIC_PATCH
from services.agent.kubernetes.service.actions.base import (
    COMMAND,
    Handler,
    Sight,
    Task,
    mark_of,
    sight_of,
    verdict,
)
from services.agent.kubernetes.service.actions.errors import refused
from services.agent.kubernetes.service.actions.manifests import answered

EVERY = "*"
"""Stands for all containers, those that run before the others included, as in `kubectl set image`."""


class ImageSight(Sight, frozen=True):
    """A workload and the images it has, by container."""

    containers: dict[str, str] = {}
    init_containers: dict[str, str] = {}


class UpdateImage(Handler[UpdateImageParams, ImageSight]):
    """As `kubectl set image` does it, under the version that was seen."""

    name = "update_image"
    seen = ImageSight

    async def look(self, task: Task[UpdateImageParams]) -> ImageSight:
        found = await self.read(task)
        sight, images = sight_of(found), images_of(found["spec"]["template"])
        known = images["containers"] | images["initContainers"]
        unknown = [name for name in task.params.images if name not in known and name != EVERY]
        if unknown:
            raise refused(
                ErrorCode.INVALID,
                f"unable to find container named {', '.join(unknown)}; {task.label} has {', '.join(known)}",
            )
        return ImageSight(
            sight.uid, sight.version, sight.generation, images["containers"], images["initContainers"]
        )

    async def perform(self, task: Task[UpdateImageParams], seen: ImageSight) -> Outcome:
        containers, init = (_changes(task, images) for images in (seen.containers, seen.init_containers))
        if not containers and not init:
            return _outcome(task, seen)
        pod: dict[str, Any] = {}
        for key, changes in (("containers", containers), ("initContainers", init)):
            if changes:
                pod[key] = [{"name": name, "image": image} for name, image in changes.items()]
        body = {
            "metadata": {"resourceVersion": seen.version, "annotations": {COMMAND: task.id}},
            "spec": {"template": {"spec": pod}},
        }
        written = await self.write(task, "PATCH", body, content_type=STRATEGIC_PATCH)
        return answered(task, _outcome(task, seen), written)

    async def judge(self, task: Task[UpdateImageParams], seen: ImageSight) -> Verdict:
        return verdict(task, seen, await self.read_if_there(task), mark_of, _outcome(task, seen))


def images_of(template: Json) -> dict[str, dict[str, str]]:
    """The images of a pod template by `containers` and `initContainers`, and by container."""
    spec = template.get("spec") or {}
    return {
        key: {container["name"]: container.get("image", "") for container in spec.get(key) or []}
        for key in ("containers", "initContainers")
    }


def _changes(task: Task[UpdateImageParams], images: dict[str, str]) -> dict[str, str]:
    """The containers that get another image; a name counts before `*`."""
    asked = task.params.images
    wanted = {name: asked.get(name, asked.get(EVERY, image)) for name, image in images.items()}
    return {name: image for name, image in wanted.items() if image != images[name]}


def _outcome(task: Task[UpdateImageParams], seen: ImageSight) -> Outcome:
    before = seen.containers | seen.init_containers
    changes = _changes(task, before)
    images = {name: {"from": before[name], "to": image} for name, image in changes.items()}
    return Outcome({"uid": seen.uid, "images": images, "changed": bool(images)})
