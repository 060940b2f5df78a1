"""What all projections share.

A projection is a msgspec Struct in Kubernetes' own nesting and names: it decodes what the API server
sends, and what it encodes is what crosses the bus and lies in the database. A field that is not declared
does not exist for us; that is the first line of redaction, `schemas.kubernetes.redaction` is the second.
Names and meaning: the Kubernetes API reference, v1.36.
"""

from datetime import datetime
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self, cast

import msgspec
from msgspec import Raw, Struct, field

from schemas.kubernetes.redaction import redact_annotations, redact_text


class KubeStruct(Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """A part of a projection: camelCase names, defaults left out when encoded, unknown fields ignored.

    A tree that is decoded has no cycles, and a page of pods is 20,000 objects: the garbage collector,
    which would walk them again and again while they are made, is told to leave them out.
    """


class OwnerReference(KubeStruct):
    """metav1.OwnerReference"""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    api_version: str = ""
    """Empty where the agent is too old to say."""


class BareMeta(KubeStruct):
    """metav1.ObjectMeta without its annotations, managedFields and generateName."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None
    finalizers: list[str] | None = None

    @property
    def owner(self) -> OwnerReference | None:
        """The managing controller (`controller: true`), else the first owner."""
        owners = self.owner_references or []
        return next((owner for owner in owners if owner.controller), owners[0] if owners else None)


class ObjectMeta(BareMeta):
    """metav1.ObjectMeta without managedFields and generateName."""

    annotations: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.annotations:
            self.annotations = redact_annotations(self.annotations)


class Condition(KubeStruct):
    """metav1.Condition and its older likes.

    Without the times of probes and heartbeats, which change when nothing else does.
    """

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None

    def __post_init__(self) -> None:
        if self.message:
            self.message = redact_text(self.message)


class ObjectReference(KubeStruct):
    """core/v1 ObjectReference and its smaller likes"""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    field_path: str = ""


class LabelSelectorRequirement(KubeStruct):
    """metav1.LabelSelectorRequirement"""

    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class LabelSelector(KubeStruct):
    """metav1.LabelSelector"""

    match_labels: dict[str, str] | None = None
    match_expressions: list[LabelSelectorRequirement] | None = None

    def __str__(self) -> str:
        """As kubectl writes it, by key: `app=web,tier in (a,b),!canary`."""
        requirements = [(key, f"{key}={value}") for key, value in (self.match_labels or {}).items()]
        for expression in self.match_expressions or []:
            key, values = expression.key, ",".join(sorted(expression.values or []))
            texts = {"Exists": key, "DoesNotExist": f"!{key}"}
            text = texts.get(expression.operator, f"{key} {expression.operator.lower()} ({values})")
            requirements.append((key, text))
        return ",".join(text for _, text in sorted(requirements, key=lambda requirement: requirement[0]))


def format_labels(labels: dict[str, str] | None) -> str:
    """Labels as kubectl writes them: `app=web,tier=front`."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def condition_status(conditions: list[Condition] | None, type_: str) -> str:
    """`True`, `False` or `Unknown`, as the condition says; empty where there is no such condition."""
    return next((condition.status for condition in conditions or [] if condition.type == type_), "")


class Tally(NamedTuple):
    """What one object adds to the ClusterSummary."""

    state: str = ""
    """The word `kubectl get` shows under STATUS, where the kind has one."""
    desired: int = 0
    ready: int = 0


class KubeObject(KubeStruct):
    """A projection. Subclasses add `spec`, `status`, … and say what a list shows of them."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)

    @classmethod
    def decode(cls, data: bytes | Raw) -> Self:
        """One object, as the API server or `encode` wrote it. Raises msgspec.DecodeError."""
        try:
            return cast(Self, _decoder(cls).decode(data))
        except msgspec.ValidationError:
            # A null where the type has none means its absence, as it does to the API server.
            return msgspec.convert(without_nulls(msgspec.json.decode(data)), cls, strict=False)

    def encode(self) -> bytes:
        """The projection as it is sent and stored: the same bytes for the same content."""
        return msgspec.json.encode(self)

    def tally(self) -> Tally:
        """State and replicas, for summaries."""
        return Tally()

    def columns(self) -> dict[str, Any]:
        """What `kubectl get -o wide` shows beyond name, namespace and age: flat, JSON types, snake_case."""
        return {}

    def node(self) -> str:
        """Name of the node it is bound to; empty for none."""
        return ""

    def pod(self) -> str:
        """Name of the pod it is about (Events); empty for none."""
        return ""


@cache
def _decoder(type_: type[KubeObject]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


def without_nulls(value: Any) -> Any:
    """A JSON value without the nulls in it."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value if item is not None]
    return value


class CommonMeta(Struct, kw_only=True):
    """What every object has, whatever its kind: the columns by which objects are joined."""

    kind: str
    uid: str
    name: str
    namespace: str
    node: str
    pod: str
    owner_kind: str
    owner_name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    created_at: datetime | None

    KEYS: ClassVar[tuple[str, ...]] = ("kind", "name", "namespace", "uid", "node", "owner", "created_at")
    """The fixed keys of a row's summary, before the kind's own columns."""


def common_meta(kind: str, obj: KubeObject) -> CommonMeta:
    """The CommonMeta of one object. When it was last updated is the reader's to say."""
    meta, owner = obj.metadata, obj.metadata.owner
    return CommonMeta(
        kind=kind,
        uid=meta.uid,
        name=meta.name,
        namespace=meta.namespace,
        node=obj.node(),
        pod=obj.pod(),
        owner_kind=owner.kind if owner else "",
        owner_name=owner.name if owner else "",
        labels=meta.labels or {},
        annotations=meta.annotations or {},
        created_at=meta.creation_timestamp,
    )


def summary(meta: CommonMeta, obj: KubeObject) -> dict[str, Any]:
    """A row's summary, flat: the keys of CommonMeta.KEYS, then the kind's columns."""
    owner = f"{meta.owner_kind}/{meta.owner_name}" if meta.owner_name else ""
    return {
        "kind": meta.kind,
        "name": meta.name,
        "namespace": meta.namespace,
        "uid": meta.uid,
        "node": meta.node,
        "owner": owner,
        "created_at": meta.created_at,
    } | obj.columns()
