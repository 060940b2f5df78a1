"""`dynamic`: one request on any resource that the API server serves, as far as the agent's list allows."""

from typing import Any

from schemas.commands import ErrorCode
from schemas.kubernetes.actions import DynamicParams, PatchType
from services.agent.capability import Done, Outcome, Unprovable, Untouched, Verdict
from services.agent.kubernetes.repository.interfaces import Json, ObjectRepository, Served, Written
from services.agent.kubernetes.sdk.interfaces import JSON, Absent, KubernetesError
from services.agent.kubernetes.service.actions.allowing import READ, AllowList
from services.agent.kubernetes.service.actions.base import (
    APPLIED,
    COMMAND,
    Handler,
    Sight,
    Task,
    mark_of,
    sight_of,
    uid_of,
)
from services.agent.kubernetes.service.actions.deleting import delete_options
from services.agent.kubernetes.service.actions.errors import asking, is_precondition, refused, writing
from services.agent.kubernetes.service.actions.manifests import (
    all_shown,
    marked,
    now,
    refuse_redacted,
    resting_on,
    shown,
)
from services.agent.kubernetes.service.actions.names import check_names, check_scope

_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


class DynamicSight(Sight, frozen=True):
    """The object before it is changed; without uid and version where there is none, or nothing changes."""

    uid: str = ""
    version: str = ""


class Dynamic(Handler[DynamicParams, DynamicSight]):
    """Reading gives whole objects, redacted. Writing rests on what was seen, and leaves the command's mark
    where the body is an object; unknown fields are errors (fieldValidation=Strict), as in kubectl."""

    name = "dynamic"
    seen = DynamicSight

    def __init__(self, objects: ObjectRepository, allowed: AllowList) -> None:
        super().__init__(objects)
        self._allowed = allowed

    def check(self, task: Task[DynamicParams]) -> None:
        params = task.params
        if refusal := self._allowed.refusal(params):
            raise refused(ErrorCode.NOT_ALLOWED, refusal)
        if params.verb == "list" or (params.verb == "create" and not params.name):
            check_names(params.namespace, params.name or "any")
        else:
            check_names(params.namespace, params.name)
        if params.subresource and params.verb in ("list", "create", "delete"):
            raise refused(ErrorCode.INVALID, f"a {params.subresource} can't be asked to {params.verb}")
        if params.verb in ("create", "update", "patch"):
            _check_body(params)

    async def look(self, task: Task[DynamicParams]) -> DynamicSight:
        served = await self._served(task)
        params = task.params
        if params.verb in READ or params.verb == "create":
            return DynamicSight()
        found = await self._metadata(task, served)
        if found is None:
            if params.patch_type is PatchType.APPLY and params.verb == "patch":
                return DynamicSight()
            raise refused(ErrorCode.NOT_FOUND, f"{served.resource} {params.name} not found")
        if params.uid and uid_of(found) != params.uid:
            raise refused(
                ErrorCode.NOT_FOUND, f"{params.name} with uid {params.uid} is gone; it is another one now"
            )
        sight = sight_of(found)
        return DynamicSight(sight.uid, sight.version, sight.generation)

    async def perform(self, task: Task[DynamicParams], seen: DynamicSight) -> Outcome:
        served = await self._served(task)
        match task.params.verb:
            case "get":
                return await self._get(task, served)
            case "list":
                return await self._list(task, served)
            case "delete":
                return await self._delete(task, served, seen)
        written = await self._write(task, served, seen)
        return Outcome({"object": shown(written.object)}, written.warnings)

    async def judge(self, task: Task[DynamicParams], seen: DynamicSight) -> Verdict:
        params = task.params
        if params.verb in READ:
            return Untouched()
        name = params.name or _name_in(params.body)
        if not name:
            return Unprovable("an object of a generated name can't be looked for")
        served = await self._served(task)
        found = await self._metadata(task, served, name)
        if params.verb == "delete":
            return _deleted(seen, found)
        if found is None:
            return Unprovable(f"{name} is gone") if seen.version else Untouched()
        if mark_of(found, _mark(params)) == task.id:
            return Done(Outcome({"object": shown(found)}, ("only its metadata was read again",)))
        if sight_of(found).version == seen.version:
            return Untouched()
        return Unprovable(f"{name} has been changed since, and does not say by which command")

    # -- reading ------------------------------------------------------------------------------------------

    async def _get(self, task: Task[DynamicParams], served: Served) -> Outcome:
        params = task.params
        path = served.path(params.namespace, params.name, params.subresource)
        with asking():
            found = await self.objects.read(path)
        obj = shown(found, managed_fields=params.managed_fields)
        return Outcome({"object": obj, "read_at": now()})

    async def _list(self, task: Task[DynamicParams], served: Served) -> Outcome:
        params = task.params
        query = {
            "limit": str(params.limit),
            "continue": params.continue_,
            "labelSelector": params.label_selector,
            "fieldSelector": params.field_selector,
        }
        with asking():
            page = await self.objects.read(
                served.path(params.namespace), {key: value for key, value in query.items() if value}
            )
        # In a list, objects of built-in kinds do not say what they are.
        identity = {"apiVersion": served.api_version, "kind": served.kind}
        items = [identity | item for item in page.get("items") or []]
        metadata = page.get("metadata") or {}
        data = {
            "items": await all_shown(items, managed_fields=params.managed_fields),
            "continue": metadata.get("continue") or "",
            "remaining": metadata.get("remainingItemCount"),
            "resource_version": metadata.get("resourceVersion", ""),
            "read_at": now(),
        }
        return Outcome(data)

    # -- writing ------------------------------------------------------------------------------------------

    async def _write(self, task: Task[DynamicParams], served: Served, seen: DynamicSight) -> Written:
        params = task.params
        body, precondition = _resting(task, seen)
        query = task.query() | {
            "fieldManager": params.field_manager,
            "fieldValidation": "Strict",
        }
        content_type = JSON
        if params.verb == "patch":
            content_type = params.patch_type.content_type
            if params.patch_type is PatchType.APPLY:
                query["force"] = "true" if params.force else "false"
        path = served.path(
            params.namespace, "" if params.verb == "create" else params.name, params.subresource
        )
        with writing(precondition=precondition):
            return await self.objects.write(
                _METHODS[params.verb], path, body, query, content_type=content_type, audit_id=task.id
            )

    async def _delete(self, task: Task[DynamicParams], served: Served, seen: DynamicSight) -> Outcome:
        params = task.params
        options = delete_options(seen.uid, params.grace_period, params.propagation, dry_run=task.dry_run)
        path = served.path(params.namespace, params.name)
        with writing(precondition=False):
            try:
                written = await self.objects.write(
                    "DELETE", path, options, {}, metadata_only=True, audit_id=task.id
                )
            except KubernetesError as error:
                if isinstance(error, Absent) or is_precondition(error):
                    return Outcome({"uid": seen.uid, "gone": True}, ("it was gone before it was deleted",))
                raise
        metadata = written.object.get("metadata") or {}
        return Outcome({"uid": seen.uid, "gone": not metadata.get("deletionTimestamp")}, written.warnings)

    # -- what there is ------------------------------------------------------------------------------------

    async def _served(self, task: Task[DynamicParams]) -> Served:
        """Raises Refused for what is not served, or not by that verb."""
        params = task.params
        name = ".".join(filter(None, (params.resource, params.version, params.group)))
        with asking():
            served = await self.objects.find(name)
        part, verbs = "", served.verbs
        if params.subresource:
            part, verbs = f"/{params.subresource}", served.subresources.get(params.subresource, frozenset())
        if params.verb not in verbs:
            offered = ", ".join(sorted(verbs)) or "nothing"
            text = f"{name}{part} can't be asked to {params.verb}; it has {offered}"
            raise refused(ErrorCode.INVALID, text)
        if params.verb != "list" or params.namespace:
            check_scope(name, params.namespace, namespaced=served.namespaced)
        return served

    async def _metadata(self, task: Task[DynamicParams], served: Served, name: str = "") -> Json | None:
        with asking():
            try:
                return await self.objects.read(
                    served.path(task.params.namespace, name or task.params.name), metadata_only=True
                )
            except Absent:
                return None


def _check_body(params: DynamicParams) -> None:
    """Raises Refused."""
    json_patch = params.verb == "patch" and params.patch_type is PatchType.JSON
    if not isinstance(params.body, list if json_patch else dict):
        wanted = "a list of operations" if json_patch else "an object"
        raise refused(ErrorCode.INVALID, f"params.body: {params.verb} takes {wanted}")
    refuse_redacted(params.body)


def _resting(task: Task[DynamicParams], seen: DynamicSight) -> tuple[Any, bool]:
    """The body with the mark of the command and the version that was seen; whether that version is ours."""
    params = task.params
    if isinstance(params.body, list):  # a JSON patch
        version = {"op": "replace", "path": "/metadata/resourceVersion", "value": seen.version}
        return [version, *params.body], True
    body = params.body if params.subresource else marked(params.body, task.id, _mark(params))
    return resting_on(body, seen.version, seen.uid if params.verb == "update" else "")


def _mark(params: DynamicParams) -> str:
    """The annotation that tells by which command."""
    applied = params.verb == "patch" and params.patch_type is PatchType.APPLY
    return APPLIED + params.field_manager if applied else COMMAND


def _name_in(body: Any) -> str:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    return str((metadata or {}).get("name") or "")


def _deleted(seen: DynamicSight, found: Json | None) -> Verdict:
    if found is None or uid_of(found) != seen.uid:
        return Done(Outcome({"uid": seen.uid, "gone": True}))
    if found["metadata"].get("deletionTimestamp"):
        return Done(Outcome({"uid": seen.uid, "gone": False}))
    return Untouched()
