"""`apply`: one object as it is declared, by server-side apply."""

from typing import Any

from schemas.commands import ErrorCode
from schemas.kubernetes.actions import ApplyParams
from schemas.kubernetes.never import NEVER
from services.agent.capability import Done, Outcome, Unprovable, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import Json, Served
from services.agent.kubernetes.sdk.interfaces import APPLY_PATCH, Absent
from services.agent.kubernetes.service.actions.base import APPLIED, Handler, Sight, Task, mark_of, sight_of
from services.agent.kubernetes.service.actions.errors import asking, refused, writing
from services.agent.kubernetes.service.actions.manifests import (
    digest,
    marked,
    refuse_redacted,
    resting_on,
    shown,
)
from services.agent.kubernetes.service.actions.names import check_names, check_scope


class ApplySight(Sight, frozen=True):
    """The object as it was before; without uid and version where there was none."""

    content: str = ""
    """Digest of what people have set in it."""


class Apply(Handler[ApplyParams, ApplySight]):
    """As `kubectl apply --server-side` does it: a misspelt field is an error (fieldValidation=Strict), and so
    is a field that another manager owns, unless it is to be taken over."""

    name = "apply"
    seen = ApplySight

    def check(self, task: Task[ApplyParams]) -> None:
        manifest = task.params.manifest
        metadata = manifest.get("metadata") or {}
        texts = (manifest.get("apiVersion"), manifest.get("kind"))
        if str(manifest.get("kind")).endswith("List") and "items" in manifest:
            raise refused(ErrorCode.INVALID, "the manifest is a list; apply its items one by one")
        if not all(isinstance(text, str) and text for text in (*texts, metadata.get("name"))):
            raise refused(ErrorCode.INVALID, "the manifest needs apiVersion, kind and metadata.name")
        check_names(_namespace(task), metadata["name"])
        meant = task.command.object
        for what, wanted, found in (
            ("name", meant.name, metadata.get("name")),
            ("namespace", meant.namespace, metadata.get("namespace")),
        ):
            if wanted and found and wanted != found:
                raise refused(
                    ErrorCode.INVALID, f"the manifest has the {what} {found}, the command has {wanted}"
                )
        refuse_redacted(manifest)

    async def look(self, task: Task[ApplyParams]) -> ApplySight:
        served = await self._served(task)
        before = await self._before(task, served)
        if before is None:
            return ApplySight("", "")
        sight = sight_of(before)
        return ApplySight(sight.uid, sight.version, sight.generation, digest(before))

    async def perform(self, task: Task[ApplyParams], seen: ApplySight) -> Outcome:
        served = await self._served(task)
        body, precondition = resting_on(marked(_clean(task), task.id, _mark(task)), seen.version)
        query = task.query() | {
            "fieldManager": task.params.field_manager,
            "force": "true" if task.params.force else "false",
            "fieldValidation": "Strict",
        }
        path = served.path(_namespace(task, served), str(body["metadata"]["name"]))
        with writing(precondition=precondition):
            written = await self.objects.write(
                "PATCH", path, body, query, content_type=APPLY_PATCH, audit_id=task.id
            )
        return _outcome(served, seen, written.object, written.warnings)

    async def judge(self, task: Task[ApplyParams], seen: ApplySight) -> Verdict:
        served = await self._served(task)
        now = await self._before(task, served)
        if now is None:
            if seen.version:
                return Unprovable("the object is gone")
            return Untouched()
        if mark_of(now, _mark(task)) == task.id:
            return Done(_outcome(served, seen, now))
        if sight_of(now).version == seen.version:
            return Untouched()
        return Unprovable("the object has been changed since, and does not say by which command")

    async def _served(self, task: Task[ApplyParams]) -> Served:
        manifest = task.params.manifest
        with asking():
            served = await self.objects.find_kind(manifest["apiVersion"], manifest["kind"])
        if served.plural in NEVER:
            raise refused(ErrorCode.NOT_ALLOWED, f"{served.resource} are not applied through an agent")
        check_scope(served.resource, _namespace(task, served), namespaced=served.namespaced)
        return served

    async def _before(self, task: Task[ApplyParams], served: Served) -> Json | None:
        path = served.path(_namespace(task, served), task.params.manifest["metadata"]["name"])
        with asking():
            try:
                return await self.objects.read(path)
            except Absent:
                return None


def _namespace(task: Task[ApplyParams], served: Served | None = None) -> str:
    """The one that the manifest names, else the one that is given for kinds that have one."""
    named = str(task.params.manifest["metadata"].get("namespace") or task.namespace)
    return named if named or (served and not served.namespaced) else task.params.namespace


def _mark(task: Task[ApplyParams]) -> str:
    return APPLIED + task.params.field_manager


def _clean(task: Task[ApplyParams]) -> dict[str, Any]:
    """The manifest without what only the API server may write."""
    metadata = {k: v for k, v in task.params.manifest["metadata"].items() if k != "managedFields"}
    return task.params.manifest | {"metadata": metadata}


def _outcome(served: Served, seen: ApplySight, now: Json, warnings: tuple[str, ...] = ()) -> Outcome:
    operation = "configured"
    if not seen.version:
        operation = "created"
    elif digest(now) == seen.content:
        operation = "unchanged"
    data = {
        "resource": served.resource,
        "namespace": now["metadata"].get("namespace", ""),
        "name": now["metadata"]["name"],
        "uid": now["metadata"].get("uid", ""),
        "operation": operation,
        "object": shown(now),
    }
    return Outcome(data, warnings)
