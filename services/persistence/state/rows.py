"""From an object's bytes to its row."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from schemas.frames import content_hash
from schemas.ids import Target
from schemas.kubernetes import KINDS
from schemas.kubernetes.base import CommonMeta, Tally, common_meta, summary
from schemas.kubernetes.generic import GenericObject
from schemas.kubernetes.kind import Kind
from services.persistence.database.types import in_utc

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Key:
    """What identifies an object in the read model."""

    target: Target
    resource: str
    namespace: str
    name: str

    def columns(self) -> dict[str, str]:
        """The primary key of `tables.Resource`."""
        return {
            "resource": self.resource,
            "target_kind": self.target.kind.value,
            "target_id": self.target.id,
            "namespace": self.namespace,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True)
class Content:
    """An object as it is now, with the hash of its bytes."""

    uid: str
    body: bytes
    epoch: str
    time: datetime
    """When the broker took the frame that brought it."""
    hash: int

    @classmethod
    def of(cls, key: Key, uid: str, body: bytes, epoch: str, time: datetime) -> "Content":
        """With the hash worked out."""
        return cls(uid, body, epoch, time, content_hash(key.resource, key.namespace, key.name, body))


class UnreadableError(ValueError):
    """An object's body is not what its kind's projection demands."""


def row(key: Key, content: Content, rev: int) -> tuple[dict[str, Any], UnreadableError | None]:
    """The row of `tables.Resource`.

    An unreadable body costs its row the columns, never the frame: the row keeps the key and the bytes, so
    that the object is still found and counted.
    """
    kind = KINDS.get(key.resource)
    error = None
    try:
        meta, tally, shown = _read(kind, content.body)
    except UnreadableError as caught:
        error = caught
        meta = CommonMeta(
            kind=kind.kind if kind else "",
            uid=content.uid,
            name=key.name,
            namespace=key.namespace,
            node="",
            pod="",
            owner_kind="",
            owner_name="",
            labels={},
            annotations={},
            created_at=None,
        )
        tally, shown = Tally(), _shown_without_body(meta)
    columns = {
        **key.columns(),
        "uid": content.uid,
        "kind": meta.kind,
        "node": meta.node,
        "pod": meta.pod,
        "owner_kind": meta.owner_kind,
        "owner_name": meta.owner_name,
        "labels": meta.labels,
        "annotations": meta.annotations,
        "created_at": meta.created_at and in_utc(meta.created_at),
        "updated_at": content.time,
        "state": tally.state,
        "desired": tally.desired,
        "ready": tally.ready,
        "hash": content.hash,
        "epoch": content.epoch,
        "shard": key.target.shard,
        "rev": rev,
        "summary": msgspec.json.encode({"cluster": key.target.id, **shown}),
        "body": _sendable(content.body) if error else content.body,
    }
    return columns, error


def _read(kind: Kind | None, body: bytes) -> tuple[CommonMeta, Tally, dict[str, Any]]:
    try:
        if not body.isascii():
            body.decode()  # a decoder skips what it has no field for, and does not look what bytes that is
        obj = kind.decode(body) if kind else GenericObject.decode(body)
        name = kind.kind if kind else getattr(obj, "kind", "")
        meta, tally = common_meta(name, obj), obj.tally()
        shown = summary(meta, obj)
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UnreadableError(str(error)) from error
    if tally.desired not in _INT64 or tally.ready not in _INT64:
        raise UnreadableError("a number of replicas beyond 64 bits")
    if meta.created_at is not None:
        try:
            in_utc(meta.created_at)
        except ValueError as error:
            raise UnreadableError(str(error)) from error
    return meta, tally, shown


def _sendable(body: bytes) -> bytes:
    """The bytes, unless they are no JSON: then `null`, since the API puts bodies into answers as they are."""
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return b"null"
    return body


def _shown_without_body(meta: CommonMeta) -> dict[str, Any]:
    columns = msgspec.structs.asdict(meta)
    return {"owner": "", **{name: columns[name] for name in CommonMeta.KEYS if name in columns}}
