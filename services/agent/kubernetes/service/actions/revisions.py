"""The earlier pod templates of a workload, as its controller keeps them."""

from dataclasses import dataclass
from typing import Any

from schemas.kubernetes import KINDS
from services.agent.kubernetes.repository.interfaces import Json, ObjectRepository, Served, served
from services.agent.kubernetes.service.actions.base import annotations_of, uid_of
from services.agent.kubernetes.service.actions.errors import asking

REVISION = "deployment.kubernetes.io/revision"
HASH_LABEL = "pod-template-hash"
CONTROLLER_REVISIONS = Served("apps", "v1", "controllerrevisions", "ControllerRevision", namespaced=True)


@dataclass(frozen=True, slots=True)
class Revision:
    """One template that a workload has had."""

    number: int
    template: Json
    annotations: dict[str, str]
    """Of the ReplicaSet; a Deployment gets them back with the template."""


async def history(objects: ObjectRepository, resource: str, namespace: str, workload: Json) -> list[Revision]:
    """Every revision that is kept, the oldest first. Raises Refused."""
    keeper = served(KINDS["replicasets"]) if resource == "deployments" else CONTROLLER_REVISIONS
    query = {"labelSelector": selector_text(workload["spec"]["selector"])}
    with asking():
        listed = await objects.read(keeper.path(namespace), query)
    owned = [item for item in listed.get("items") or [] if _is_owned(item, uid_of(workload))]
    read = _of_replica_set if resource == "deployments" else _of_controller_revision
    return sorted(map(read, owned), key=lambda revision: revision.number)


def _is_owned(item: Json, uid: str) -> bool:
    owners = item["metadata"].get("ownerReferences") or []
    return any(owner["uid"] == uid for owner in owners if owner.get("controller"))


def _of_replica_set(item: Json) -> Revision:
    annotations = annotations_of(item)
    template = dict(item["spec"]["template"])
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    template["metadata"] = metadata | {"labels": labels}
    number = annotations.get(REVISION, "0")
    return Revision(int(number) if number.isdecimal() else 0, template, annotations)


def _of_controller_revision(item: Json) -> Revision:
    template = dict(item["data"]["spec"]["template"])
    template.pop("$patch", None)
    return Revision(int(item["revision"]), template, {})


def same_template(one: Json, other: Json) -> bool:
    """Whether two templates say the same; what is null, or empty metadata, says nothing."""
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        found = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not None and item != {}}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def selector_text(selector: Json) -> str:
    """A metav1.LabelSelector as a query has it."""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], ",".join(expression.get("values") or [])
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[expression["operator"]]
        )
    return ",".join(terms)
