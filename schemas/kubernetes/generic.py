"""Any further resource, kept whole but redacted: for what is added by setting."""

import re
from typing import Any, Self

import msgspec
from msgspec import Raw, field

from schemas.kubernetes.base import (
    Condition,
    KubeObject,
    ObjectMeta,
    Tally,
    condition_status,
    without_nulls,
)
from schemas.kubernetes.kind import Kind
from schemas.kubernetes.redaction import redact_object

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_GROUP = re.compile(rf"({_NAME.pattern}(\.{_NAME.pattern})*)?")
_VALUES_ONLY = frozenset({"secrets", "configmaps"})


class GenericObject(KubeObject):
    """An object of a kind that we have no projection of: its whole JSON is what is sent and stored.

    It is read by `decode` only: a decoder for its type would not see the fields that it does not declare.
    """

    content: dict[str, Any] = field(default_factory=dict)
    """The whole object, redacted; its keys are sorted when it is encoded."""

    def __post_init__(self) -> None:
        if not self.content:
            raise ValueError("a GenericObject is made by decode() only")

    @classmethod
    def decode(cls, data: bytes | Raw) -> Self:
        return cls.of(msgspec.json.decode(data, type=dict[str, Any]))

    @classmethod
    def of(cls, content: dict[str, Any]) -> Self:
        """From an object as it came, values and all. Raises msgspec.ValidationError."""
        redacted = redact_object(content)
        metadata = msgspec.convert(without_nulls(redacted.get("metadata") or {}), ObjectMeta, strict=False)
        return cls(metadata=metadata, content=redacted)

    def encode(self) -> bytes:
        return msgspec.json.encode(self.content, order="deterministic")

    @property
    def kind(self) -> str:
        """What it says it is."""
        return str(self.content.get("kind", ""))

    def node(self) -> str:
        return _text(self._part("spec").get("nodeName"))

    def tally(self) -> Tally:
        """The phase, else what the condition Ready says: what most such kinds show as their state."""
        status = self._part("status")
        ready = condition_status(_conditions(status), "Ready")
        return Tally(_text(status.get("phase")) or {"": "", "True": "Ready"}.get(ready, "NotReady"))

    def columns(self) -> dict[str, Any]:
        return {"status": self.tally().state}

    def _part(self, name: str) -> dict[str, Any]:
        part = self.content.get(name)
        return part if isinstance(part, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _conditions(status: dict[str, Any]) -> list[Condition]:
    conditions = status.get("conditions")
    return [
        Condition(type=_text(condition.get("type")), status=_text(condition.get("status")))
        for condition in (conditions if isinstance(conditions, list) else [])
        if isinstance(condition, dict)
    ]


class GenericKind(Kind):
    """A resource that was added by setting."""

    def decode(self, data: bytes | Raw) -> GenericObject:
        # In a list, objects of built-in kinds do not say what they are.
        identity = {"apiVersion": self.api_version, "kind": self.kind}
        return GenericObject.of(identity | msgspec.json.decode(data, type=dict[str, Any]))


def generic_kind(group: str, version: str, plural: str, kind: str, namespaced: bool) -> GenericKind:
    """The declaration of a resource that has no projection; `group` is empty for the core group.

    Raises ValueError for names that are none, and for what is only ever collected without its values.
    """
    if not (_NAME.fullmatch(plural) and _NAME.fullmatch(version) and _GROUP.fullmatch(group)):
        raise ValueError(f"not a resource: {plural!r} of {group!r}/{version!r}")
    if not group and plural in _VALUES_ONLY:
        raise ValueError(f"{plural} are collected without their values only")
    return GenericKind(
        resource=f"{plural}.{group}" if group else plural,
        kind=kind,
        model=GenericObject,
        group=group,
        version=version,
        namespaced=namespaced,
    )
