"""`restart`: every pod of a workload anew, one after the other."""

from schemas.commands import ErrorCode, NoParams
from services.agent.capability import Outcome, Verdict
from services.agent.kubernetes.repository.interfaces import Json
from services.agent.kubernetes.sdk.interfaces import MERGE_PATCH
from services.agent.kubernetes.service.actions.base import (
    COMMAND,
    Handler,
    Sight,
    Task,
    annotations_of,
    sight_of,
    verdict,
)
from services.agent.kubernetes.service.actions.errors import refused
from services.agent.kubernetes.service.actions.manifests import answered

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""The annotation of the pod template by which `kubectl rollout restart` does it."""


class RestartSight(Sight, frozen=True):
    """A workload whose pods are to be replaced."""

    on_delete: bool = False
    """Whether its pods are replaced only once somebody deletes them."""


class Restart(Handler[NoParams, RestartSight]):
    """As `kubectl rollout restart` does it, under the version that was seen."""

    name = "restart"
    seen = RestartSight

    async def look(self, task: Task[NoParams]) -> RestartSight:
        found = await self.read(task)
        if found["spec"].get("paused"):
            raise refused(
                ErrorCode.INVALID,
                f"can't restart paused deployment {task.name} (run rollout resume first)",  # kubectl's words
            )
        sight = sight_of(found)
        strategy = found["spec"].get("updateStrategy") or {}
        return RestartSight(sight.uid, sight.version, sight.generation, strategy.get("type") == "OnDelete")

    async def perform(self, task: Task[NoParams], seen: RestartSight) -> Outcome:
        marks = {RESTARTED_AT: _restarted_at(task), COMMAND: task.id}
        body = {
            "metadata": {"resourceVersion": seen.version},
            "spec": {"template": {"metadata": {"annotations": marks}}},
        }
        written = await self.write(task, "PATCH", body, content_type=MERGE_PATCH)
        return answered(task, _outcome(task, seen), written)

    async def judge(self, task: Task[NoParams], seen: RestartSight) -> Verdict:
        now = await self.read_if_there(task)
        return verdict(task, seen, now, _mark, _outcome(task, seen))


def _mark(obj: Json) -> str | None:
    # In the template: it goes with the restart, and each new pod says which command made it.
    return annotations_of(obj["spec"]["template"]).get(COMMAND)


def _restarted_at(task: Task[NoParams]) -> str:
    """When it was asked for: the same each time it is done."""
    return task.command.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _outcome(task: Task[NoParams], seen: RestartSight) -> Outcome:
    manual = "its update strategy is OnDelete: each pod is replaced once it is deleted"
    data = {"uid": seen.uid, "restarted_at": _restarted_at(task)}
    return Outcome(data, (manual,) if seen.on_delete else ())
