"""`delete_pod` and `delete`: one object, the one that was seen and no other of its name."""

from typing import Any, TypeVar

from msgspec import Struct

from schemas.commands import Params
from schemas.kubernetes.actions import DeleteParams, DeletePodParams, Propagation
from services.agent.capability import Done, Outcome, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import Json
from services.agent.kubernetes.sdk.interfaces import Absent, KubernetesError
from services.agent.kubernetes.service.actions.base import Handler, Task, uid_of
from services.agent.kubernetes.service.actions.errors import is_precondition, writing

D = TypeVar("D", bound=Params)


class DeleteSight(Struct, frozen=True):
    """The object that is to go."""

    uid: str


class _Deleting(Handler[D, DeleteSight]):
    """What both have in common. Only metadata is read, so that a Secret's values are not."""

    seen = DeleteSight

    async def look(self, task: Task[D]) -> DeleteSight:
        return DeleteSight(uid_of(await self.read(task, metadata_only=True)))

    async def delete(
        self,
        task: Task[D],
        seen: DeleteSight,
        *,
        grace_period: int | None,
        propagation: Propagation | None = None,
        evict: bool = False,
    ) -> Outcome:
        """Raises Refused, Doubtful."""
        path = await self.path(task, "eviction" if evict else "")
        options = delete_options(seen.uid, grace_period, propagation, dry_run=task.dry_run)
        method, body, query = "DELETE", options, {}
        if evict:
            method, body, query = "POST", eviction(task.namespace, task.name, options), task.query()
        with writing(precondition=False):
            try:
                written = await self.objects.write(
                    method, path, body, query, metadata_only=not evict, audit_id=task.id
                )
            except KubernetesError as error:
                if isinstance(error, Absent) or is_precondition(error):
                    # What was seen a moment ago has gone: what was wished for is so. Another one of its
                    # name, such as the next pod of a StatefulSet, is not what was meant.
                    return _gone(seen, ("it was gone before it was deleted",))
                raise
        if evict:  # answered by a Status; the pod has yet to end
            return Outcome({"uid": seen.uid, "gone": False, "finalizers": []}, written.warnings)
        return _answered(seen, written.object, written.warnings)

    async def judge(self, task: Task[D], seen: DeleteSight) -> Verdict:
        now = await self.read_if_there(task, metadata_only=True)
        if now is None or uid_of(now) != seen.uid:
            return Done(_gone(seen))
        if now["metadata"].get("deletionTimestamp"):
            return Done(_answered(seen, now))
        return Untouched()


class DeletePod(_Deleting[DeletePodParams]):
    """A pod, past its disruption budget or, by eviction, within it."""

    name = "delete_pod"

    async def perform(self, task: Task[DeletePodParams], seen: DeleteSight) -> Outcome:
        params = task.params
        return await self.delete(task, seen, grace_period=params.grace_period, evict=params.evict)


class Delete(_Deleting[DeleteParams]):
    """An object of any resource that the API server serves."""

    name = "delete"

    async def perform(self, task: Task[DeleteParams], seen: DeleteSight) -> Outcome:
        params = task.params
        return await self.delete(task, seen, grace_period=params.grace_period, propagation=params.propagation)


def delete_options(
    uid: str, grace_period: int | None, propagation: Propagation | None = None, *, dry_run: bool
) -> dict[str, Any]:
    """meta/v1 DeleteOptions. With a body the query counts for nothing, so all of it is in here."""
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
    if grace_period is not None:
        options["gracePeriodSeconds"] = grace_period
    if propagation is not None:
        options["propagationPolicy"] = propagation.value
    if dry_run:
        options["dryRun"] = ["All"]
    return options


def eviction(namespace: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """policy/v1 Eviction, which the API server refuses where a disruption budget does (429)."""
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": namespace, "name": name},
        "deleteOptions": options,
    }


def _gone(seen: DeleteSight, warnings: tuple[str, ...] = ()) -> Outcome:
    return Outcome({"uid": seen.uid, "gone": True, "finalizers": []}, warnings)


def _answered(seen: DeleteSight, answer: Json, warnings: tuple[str, ...] = ()) -> Outcome:
    """The answer is the object where it goes in its own time, else a Status."""
    metadata = answer.get("metadata") or {}
    terminating = bool(metadata.get("deletionTimestamp"))
    finalizers = metadata.get("finalizers") or []
    return Outcome({"uid": seen.uid, "gone": not terminating, "finalizers": finalizers}, warnings)
