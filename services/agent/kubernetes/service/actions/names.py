"""What may stand in a path of the API server: checked before anything is asked."""

import re

from schemas.commands import Action, CommandObject, ErrorCode
from schemas.kubernetes import KINDS
from services.agent.kubernetes.service.actions.errors import refused

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:@+~-]{1,253}")
"""Kubernetes itself forbids `/`, `%`, `.` and `..`; `:` is in the names of roles."""
_RESOURCE = re.compile(r"[a-z0-9][-a-z0-9]{0,62}(\.[a-z0-9][-a-z0-9.]{0,252})?")


def check_object(action: Action, obj: CommandObject) -> None:
    """Raises Refused for an object that the action does not work on, and for names that are none."""
    if not action.needs_object:
        return
    if action.resources and obj.resource not in action.resources:
        text = f"{action.name} works on {', '.join(action.resources)}, not on {obj.resource or 'nothing'}"
        raise refused(ErrorCode.INVALID, text)
    if not _RESOURCE.fullmatch(obj.resource):
        text = (
            f"{obj.resource!r} is no resource; write kubectl's plural, such as deployments, or "
            "<plural>.<version>.<group>, such as widgets.v1.example.com"
        )
        raise refused(ErrorCode.INVALID, text)
    check_names(obj.namespace, obj.name)
    known = KINDS.get(obj.resource)
    if known:
        check_scope(obj.resource, obj.namespace, namespaced=known.namespaced)


def check_names(namespace: str, name: str) -> None:
    """Raises Refused for names that no object, and no namespace, has."""
    if not _NAME.fullmatch(name):
        raise refused(ErrorCode.INVALID, f"{name!r} is not the name of an object")
    if namespace and not _NAMESPACE.fullmatch(namespace):
        raise refused(ErrorCode.INVALID, f"{namespace!r} is not the name of a namespace")


def check_scope(resource: str, namespace: str, *, namespaced: bool) -> None:
    """Raises Refused for a namespace where there is none, and for none where one is needed."""
    if namespaced and not namespace:
        raise refused(ErrorCode.INVALID, f"{resource} need a namespace")
    if namespace and not namespaced:
        raise refused(ErrorCode.INVALID, f"{resource} have no namespace")
