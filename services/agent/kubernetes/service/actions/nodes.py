"""`cordon` and `uncordon`: whether further pods may come to a node."""

from typing import Any

from schemas.commands import NoParams
from services.agent.capability import Done, Outcome, Unprovable, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import Json
from services.agent.kubernetes.sdk.interfaces import MERGE_PATCH
from services.agent.kubernetes.service.actions.base import (
    COMMAND,
    Handler,
    Sight,
    Task,
    mark_of,
    sight_of,
    uid_of,
)
from services.agent.kubernetes.service.actions.manifests import answered


class NodeSight(Sight, frozen=True):
    """A node, and who has changed it last."""

    unschedulable: bool = False
    mark: str = ""
    """The command that had changed it before."""


class _Scheduling(Handler[NoParams, NodeSight]):
    """What both have in common."""

    seen = NodeSight
    unschedulable: bool

    async def look(self, task: Task[NoParams]) -> NodeSight:
        found = await self.read(task)
        sight = sight_of(found)
        return NodeSight(sight.uid, sight.version, 0, is_cordoned(found), mark_of(found) or "")

    async def perform(self, task: Task[NoParams], seen: NodeSight) -> Outcome:
        if seen.unschedulable == self.unschedulable:
            return self._outcome(seen)
        body = scheduling(task, self.unschedulable)
        body["metadata"]["resourceVersion"] = seen.version
        written = await self.write(task, "PATCH", body, content_type=MERGE_PATCH)
        return answered(task, self._outcome(seen), written)

    async def judge(self, task: Task[NoParams], seen: NodeSight) -> Verdict:
        now = await self.read_if_there(task)
        if now is None or uid_of(now) != seen.uid:
            return Unprovable(f"{task.label} is gone")
        if mark_of(now) == task.id:
            return Done(self._outcome(seen))
        # A node's version changes with each of its heartbeats, and it has no generation. Ours would have
        # left its mark with the change: where neither is to be seen, it has not been made.
        untouched = is_cordoned(now) == seen.unschedulable and (mark_of(now) or "") == seen.mark
        if untouched or sight_of(now).version == seen.version:
            return Untouched()
        return Unprovable(f"{task.label} has been changed since, and does not say by which command")

    def _outcome(self, seen: NodeSight) -> Outcome:
        data = {
            "uid": seen.uid,
            "unschedulable": self.unschedulable,
            "changed": seen.unschedulable != self.unschedulable,
        }
        return Outcome(data)


class Cordon(_Scheduling):
    """No further pods, those of DaemonSets excepted."""

    name = "cordon"
    unschedulable = True


class Uncordon(_Scheduling):
    """Pods may come again."""

    name = "uncordon"
    unschedulable = False


def is_cordoned(node: Json) -> bool:
    """Whether it takes no further pods."""
    return bool((node.get("spec") or {}).get("unschedulable"))


def scheduling(task: Task[Any], unschedulable: bool) -> dict[str, Any]:
    """The patch, with the mark of the command."""
    return {"metadata": {"annotations": {COMMAND: task.id}}, "spec": {"unschedulable": unschedulable}}
