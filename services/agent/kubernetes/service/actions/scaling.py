"""`scale`: the number of replicas."""

from schemas.commands import ErrorCode
from schemas.kubernetes.actions import ScaleParams
from services.agent.capability import Done, Outcome, Unprovable, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import Json
from services.agent.kubernetes.sdk.interfaces import MERGE_PATCH
from services.agent.kubernetes.service.actions.base import (
    FIELD_MANAGER,
    Handler,
    Sight,
    Task,
    sight_of,
    uid_of,
    untouched,
)
from services.agent.kubernetes.service.actions.errors import refused
from services.agent.kubernetes.service.actions.manifests import answered


class ScaleSight(Sight, frozen=True):
    """What the number is to be changed from."""

    replicas: int = 0


class Scale(Handler[ScaleParams, ScaleSight]):
    """By the scale subresource, under the version that was seen."""

    name = "scale"
    seen = ScaleSight

    async def look(self, task: Task[ScaleParams]) -> ScaleSight:
        found = await self.read(task)
        sight, replicas = sight_of(found), replicas_of(found)
        expected = task.params.current_replicas
        if expected is not None and replicas != expected:
            raise refused(
                ErrorCode.CONFLICT,
                f"Expected replicas to be {expected}, was {replicas}",  # kubectl's words
            )
        return ScaleSight(sight.uid, sight.version, sight.generation, replicas)

    async def perform(self, task: Task[ScaleParams], seen: ScaleSight) -> Outcome:
        if seen.replicas == task.params.replicas:
            return _outcome(task, seen, changed=False)
        body = {
            "metadata": {"uid": seen.uid, "resourceVersion": seen.version},
            "spec": {"replicas": task.params.replicas},
        }
        written = await self.write(task, "PATCH", body, subresource="scale", content_type=MERGE_PATCH)
        return answered(task, _outcome(task, seen, changed=True), written)

    async def judge(self, task: Task[ScaleParams], seen: ScaleSight) -> Verdict:
        """The subresource carries no annotation. What proves it is who has set the number: whoever sets
        another value takes the field over from all others, and the API server writes that down. So it was
        us who have changed it to this value from the one that was seen."""
        now = await self.read_if_there(task)
        if now is None or uid_of(now) != seen.uid:
            return Unprovable(f"{task.label} is gone, so whether it had been scaled by then can't be seen")
        if untouched(seen, now):
            return Untouched()
        replicas, by = replicas_of(now), scaled_by(now)
        if replicas == task.params.replicas != seen.replicas and FIELD_MANAGER in by:
            return Done(_outcome(task, seen, changed=True))
        return Unprovable(
            f"{task.label} has been changed since; it has {replicas} replicas, "
            f"set by {' and '.join(sorted(by)) or 'other means than its scale'}"
        )


def replicas_of(obj: Json) -> int:
    """One where it is not said, as the API server has it."""
    return int(obj["spec"].get("replicas", 1))


def scaled_by(obj: Json) -> set[str]:
    """The managers that have set the number it has by the scale subresource."""
    return {
        str(entry.get("manager", ""))
        for entry in obj["metadata"].get("managedFields") or []
        if entry.get("subresource") == "scale"
        and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    }


def _outcome(task: Task[ScaleParams], seen: ScaleSight, *, changed: bool) -> Outcome:
    data = {
        "uid": seen.uid,
        "replicas": task.params.replicas,
        "previous_replicas": seen.replicas,
        "changed": changed,
    }
    return Outcome(data)
