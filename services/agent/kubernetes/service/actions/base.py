"""What every action has in common: its parameters, its object, what was seen of it, and its proof."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import Struct

from schemas.commands import Command, ErrorCode, Params
from schemas.kubernetes import KINDS
from services.agent.capability import Done, Outcome, Progress, Unprovable, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import Json, ObjectRepository, Served, Written, served
from services.agent.kubernetes.sdk.interfaces import JSON, Absent
from services.agent.kubernetes.service.actions.errors import asking, refused, writing
from services.agent.kubernetes.service.actions.names import check_scope

FIELD_MANAGER = "atlhyper"
"""By this name the API server writes down what we have set (managedFields)."""
COMMAND = "atlhyper.io/command"
"""The annotation with the id of the command that made a change: it goes with the change, and proves it."""
APPLIED = "applied.atlhyper.io/"
"""The same for what is applied, with the field manager behind it: one annotation of two managers would be a
conflict of theirs."""

P = TypeVar("P", bound=Params)
S = TypeVar("S", bound=Struct)


@dataclass(frozen=True, slots=True)
class Task(Generic[P]):
    """One command with its parameters, which fit its action."""

    command: Command
    params: P
    progress: Progress | None = None
    """Takes how far it has come."""

    @property
    def id(self) -> str:
        return self.command.id

    @property
    def resource(self) -> str:
        return self.command.object.resource

    @property
    def namespace(self) -> str:
        return self.command.object.namespace

    @property
    def name(self) -> str:
        return self.command.object.name

    @property
    def dry_run(self) -> bool:
        return self.command.dry_run

    @property
    def label(self) -> str:
        """The object for a person: `deployments shop/web`."""
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.resource} {place}{self.name}"

    def query(self) -> dict[str, str]:
        """What every write is asked with."""
        return {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if self.dry_run else {})


class Sight(Struct, frozen=True, rename="camel"):
    """An object as it was seen: what a change of it rests on."""

    uid: str
    version: str
    """metadata.resourceVersion: the change is refused when it is another one by then."""
    generation: int = 0
    """It counts changes of the specification only; 0 where the kind has none."""


class Handler(ABC, Generic[P, S]):
    """One action. See `services.agent.capability.Actions` for the order of the calls."""

    name: str
    seen: type[S]

    def __init__(self, objects: ObjectRepository) -> None:
        self.objects = objects

    def check(self, task: Task[P]) -> None:
        """Whether the parameters make sense together. Raises Refused."""

    @abstractmethod
    async def look(self, task: Task[P]) -> S:
        """Raises Refused."""

    @abstractmethod
    async def perform(self, task: Task[P], seen: S) -> Outcome:
        """Raises Refused, Incomplete, Stale, Doubtful."""

    @abstractmethod
    async def judge(self, task: Task[P], seen: S) -> Verdict:
        """Raises Refused."""

    # -- the object ---------------------------------------------------------------------------------------

    async def served(self, task: Task[P]) -> Served:
        """The resource of the command's object. Raises Refused."""
        if task.resource in KINDS:
            return served(KINDS[task.resource])
        with asking():
            return await self.objects.find(task.resource)

    async def path(self, task: Task[P], subresource: str = "") -> str:
        served = await self.served(task)
        check_scope(served.resource, task.namespace, namespaced=served.namespaced)
        return served.path(task.namespace, task.name, subresource)

    async def read(self, task: Task[P], *, metadata_only: bool = False) -> Json:
        """The object, which must be the one that the command means. Raises Refused."""
        with asking():
            found = await self.objects.read(await self.path(task), metadata_only=metadata_only)
        wanted, uid = task.command.object.uid, uid_of(found)
        if wanted and uid != wanted:
            raise refused(
                ErrorCode.NOT_FOUND,
                f"{task.label} with uid {wanted} is gone; the one of that name now is another ({uid})",
            )
        return found

    async def read_if_there(self, task: Task[P], *, metadata_only: bool = False) -> Json | None:
        """The object of that name, whichever it is. Raises Refused when it can't be asked."""
        path = await self.path(task)
        with asking():
            try:
                return await self.objects.read(path, metadata_only=metadata_only)
            except Absent:
                return None

    async def write(
        self, task: Task[P], method: str, body: Any, *, subresource: str = "", content_type: str = JSON
    ) -> Written:
        """A write that names what was seen. Raises Refused, Stale, Doubtful."""
        path = await self.path(task, subresource)
        with writing(precondition=True):
            return await self.objects.write(
                method, path, body, task.query(), content_type=content_type, audit_id=task.id
            )


def sight_of(obj: Json) -> Sight:
    metadata = obj["metadata"]
    return Sight(metadata["uid"], metadata["resourceVersion"], metadata.get("generation", 0))


def uid_of(obj: Json) -> str:
    return str(obj["metadata"].get("uid", ""))


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """Of an object or of a pod template."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def verdict(
    task: Task[Any], seen: Sight, now: Json | None, mark: Callable[[Json], str | None], outcome: Outcome
) -> Verdict:
    """Of a change that carries the command's id where `mark` finds it."""
    if now is None or uid_of(now) != seen.uid:
        return Unprovable(f"{task.label} is gone, so whether it had been changed by then can't be seen")
    if mark(now) == task.id:
        return Done(outcome)
    if untouched(seen, now):
        return Untouched()
    return Unprovable(f"{task.label} has been changed since, and does not say by which command")


def untouched(seen: Sight, now: Json) -> bool:
    """Whether nothing has changed since, or nothing of the specification.

    In the first case our write may still be on its way; in the second it can't come any more, as it names a
    version that has passed. So doing it again under the same version has the effect once at most.
    """
    current = sight_of(now)
    return current.version == seen.version or 0 < seen.generation == current.generation


def mark_of(obj: Json, annotation: str = COMMAND) -> str | None:
    """The command that has changed an object last, as the object says."""
    return annotations_of(obj).get(annotation)
