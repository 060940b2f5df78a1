"""`drain`: cordon a node and take its pods away, as disruption budgets allow."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from schemas.commands import CommandError, ErrorCode
from schemas.kubernetes import KINDS
from schemas.kubernetes.actions import DrainParams
from services.agent.capability import Doubtful, Incomplete, Outcome, Refused, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import Json, served
from services.agent.kubernetes.sdk.interfaces import MERGE_PATCH, Absent, KubernetesError
from services.agent.kubernetes.service.actions.base import Handler, Task, uid_of
from services.agent.kubernetes.service.actions.deleting import delete_options, eviction
from services.agent.kubernetes.service.actions.errors import (
    Denied,
    FaultInside,
    Throttled,
    asking,
    is_precondition,
    refused,
    writing,
)
from services.agent.kubernetes.service.actions.evictable import Selected, described, full_name, select
from services.agent.kubernetes.service.actions.nodes import is_cordoned, scheduling
from services.runtime.backoff import Backoff
from services.runtime.words import are, counted

AT_ONCE = 4
"""Evictions under way: half of the requests that the agent has for everything."""
RETRY = 10.0
"""Seconds, at most, between two tries where a budget allows no eviction; kubectl waits 5 each time."""
FAULTS = 4
"""Faults inside the API server after which a pod is left: two budgets for one pod are such a fault."""
LOOK = 1.0
"""Seconds between two looks at whether the pods have ended."""
_POD = served(KINDS["pods"])


class DrainSight(Struct, frozen=True):
    """The node."""

    uid: str


@dataclass(slots=True)
class _Course:
    """How far a drain has come."""

    cordoned: bool = False
    selected: Selected = field(default_factory=Selected)
    evicted: dict[str, dict[str, str]] = field(default_factory=dict)
    """By uid: the API server has agreed that they end."""
    gone: set[str] = field(default_factory=set)
    """Their uids."""
    held: dict[str, str] = field(default_factory=dict)
    """Why they could not be evicted so far, by name: the disruption budget's own words."""
    failed: dict[str, CommandError] = field(default_factory=dict)
    """Why they will not be, by name."""
    warnings: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """What the result tells."""
        return {
            "cordoned": self.cordoned,
            "evicted": list(self.evicted.values()),
            "remaining": [described(pod) for pod in self.selected.pods if uid_of(pod) not in self.gone],
            "ignored": [{"pod": pod, "reason": reason} for pod, reason in self.selected.ignored.items()],
            "failed": [
                *({"pod": pod, "reason": error.message} for pod, error in self.failed.items()),
                *({"pod": pod, "reason": words} for pod, words in self.held.items()),
            ],
        }


class Drain(Handler[DrainParams, DrainSight]):
    """kubectl's drain. What forbids it is found before anything is done, the node's cordon included."""

    name = "drain"
    seen = DrainSight

    async def look(self, task: Task[DrainParams]) -> DrainSight:
        node = await self.read(task)
        if refusal := select(await self._pods(task), task.params).refusal():
            raise refused(ErrorCode.INVALID, refusal)
        return DrainSight(uid_of(node))

    async def perform(self, task: Task[DrainParams], seen: DrainSight) -> Outcome:
        course = _Course()
        try:
            await self._cordon(task, seen, course)
            course.selected = select(await self._pods(task), task.params)
            if refusal := course.selected.refusal():
                raise refused(ErrorCode.CONFLICT, f"{refusal}; {_cordoned(task)}")
            await self._evict_all(task, course)
        except asyncio.CancelledError:
            left = len(course.selected.pods) - len(course.gone)
            held = "".join(f"; {pod}: {words}" for pod, words in course.held.items())
            pods = counted(len(course.selected.pods), "pod")
            text = f"{left} of {pods} {are(left)} still there{held}; {_cordoned(task)}"
            error = CommandError(code=ErrorCode.CANCELED, message=text)
            raise Incomplete(error, course.data()) from None
        except (Refused, Doubtful) as error:
            if not course.cordoned:
                raise
            raise Incomplete(error.error, course.data()) from error
        if course.failed:
            name, first = next(iter(course.failed.items()))
            others = len(course.failed) - 1
            more = f" (and {counted(others, 'other')})" if others else ""
            text = f"{name} was not evicted{more}: {first.message}; {_cordoned(task)}"
            raise Incomplete(first.model_copy(update={"message": text}), course.data())
        return Outcome(course.data(), (*course.warnings, *course.selected.warnings))

    async def judge(self, task: Task[DrainParams], seen: DrainSight) -> Verdict:  # noqa: ARG002
        return Untouched()  # it is done again: what is gone need not go

    # -- steps --------------------------------------------------------------------------------------------

    async def _cordon(self, task: Task[DrainParams], seen: DrainSight, course: _Course) -> None:
        node = await self.read(task)
        if uid_of(node) != seen.uid:
            raise refused(ErrorCode.NOT_FOUND, f"{task.label} is gone; the one of that name now is another")
        if not is_cordoned(node):
            body = scheduling(task, unschedulable=True)
            body["metadata"]["uid"] = seen.uid
            try:
                written = await self.write(task, "PATCH", body, content_type=MERGE_PATCH)
                course.warnings = written.warnings
            except Denied:
                if task.dry_run or not is_cordoned(await self.read(task)):
                    raise
        course.cordoned = not task.dry_run or is_cordoned(node)

    async def _pods(self, task: Task[DrainParams]) -> list[Json]:
        """The pods of the node that are asked for. Raises Refused."""
        query = {"fieldSelector": f"spec.nodeName={task.name}", "labelSelector": task.params.pod_selector}
        found: list[Json] = []
        while True:
            with asking():
                page = await self.objects.read(_POD.path(), query | {"limit": "500"})
            found += page.get("items") or []
            query["continue"] = (page.get("metadata") or {}).get("continue") or ""
            if not query["continue"]:
                return found

    async def _evict_all(self, task: Task[DrainParams], course: _Course) -> None:
        number = len(course.selected.pods)
        await self._tell(task, course, f"{counted(number, 'pod')} {are(number)} to go")
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for pod in course.selected.pods:
                if pod["metadata"].get("deletionTimestamp"):
                    course.evicted[uid_of(pod)] = described(pod)
                else:
                    group.create_task(self._evict(task, pod, course, slots))
            if not task.dry_run:
                group.create_task(self._wait_gone(task, course))

    async def _evict(
        self, task: Task[DrainParams], pod: Json, course: _Course, slots: asyncio.Semaphore
    ) -> None:
        """Until it is agreed to, or is refused for good."""
        name, backoff, faults = full_name(pod), Backoff(base=1.0, cap=RETRY), 0
        while True:
            try:
                async with slots:
                    await self._ask_to_go(task, pod)
            except (Refused, Throttled) as refusal:
                error = refusal.error  # asked again while throttled: it names the pod by its uid
                if error.code != ErrorCode.THROTTLED or task.dry_run:
                    course.failed[name] = error
                    course.held.pop(name, None)
                    return
                if course.held.get(name) != error.message:
                    course.held[name] = error.message
                    await self._tell(task, course, f"{name} is held: {error.message}")
            except Doubtful as doubt:
                faults += isinstance(doubt, FaultInside)
                if task.dry_run or faults == FAULTS:
                    course.failed[name] = doubt.error
                    course.held.pop(name, None)
                    return
                course.held[name] = doubt.error.message  # asked again: it names the pod by its uid
            else:
                course.held.pop(name, None)
                course.evicted[uid_of(pod)] = described(pod)
                await self._tell(task, course, f"{name} is to end")
                return
            await backoff.sleep()

    async def _ask_to_go(self, task: Task[DrainParams], pod: Json) -> None:
        """Raises Refused, Doubtful. One that has gone meanwhile has been asked."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        options = delete_options(uid_of(pod), task.params.grace_period, dry_run=task.dry_run)
        with writing(precondition=False):
            try:
                if task.params.disable_eviction:
                    path = _POD.path(namespace, name)
                    await self.objects.write(
                        "DELETE", path, options, {}, metadata_only=True, audit_id=task.id
                    )
                else:
                    body = eviction(namespace, name, options)
                    path = _POD.path(namespace, name, "eviction")
                    await self.objects.write("POST", path, body, task.query(), audit_id=task.id)
            except KubernetesError as error:
                if not (isinstance(error, Absent) or is_precondition(error) or _is_ending(error)):
                    raise

    async def _wait_gone(self, task: Task[DrainParams], course: _Course) -> None:
        """Until those that were evicted have ended."""
        wanted = {uid_of(pod): pod for pod in course.selected.pods}
        while True:
            failed = set(course.failed)
            due = {uid for uid, pod in wanted.items() if full_name(pod) not in failed}
            if due <= course.gone:
                return
            await asyncio.sleep(LOOK)
            try:
                there = {uid_of(pod) for pod in await self._pods(task)}
            except Refused:
                continue  # the API server is away: we look again
            ended = [uid for uid in wanted if uid not in there and uid not in course.gone]
            course.gone.update(ended)
            for uid in ended:
                course.evicted.setdefault(uid, described(wanted[uid]))
                await self._tell(task, course, f"{full_name(wanted[uid])} has ended")

    async def _tell(self, task: Task[DrainParams], course: _Course, message: str) -> None:
        if task.progress:
            await task.progress(message, len(course.gone), len(course.selected.pods))


def _is_ending(error: KubernetesError) -> bool:
    """Whether the pod ends with its namespace, in which nothing may be made any more, evictions included."""
    causes = error.answer.causes if error.answer else ()
    return any(cause.reason == "NamespaceTerminating" for cause in causes)


def _cordoned(task: Task[DrainParams]) -> str:
    return f"{task.name} stays cordoned: uncordon it, or drain it again"
