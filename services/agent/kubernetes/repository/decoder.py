"""From the API server's bytes to projections.

A page is decoded in one go, typed and redacted by its projection. Where that fails, object by object: one
that cannot be read costs the others nothing.
"""

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from schemas.kubernetes.base import KubeObject
from schemas.kubernetes.config import SecretTable
from schemas.kubernetes.kind import Kind
from schemas.kubernetes.redaction import redact_text

Item = TypeVar("Item")


class _Meta(Struct, rename="camel"):
    """What we need of metav1.ListMeta and metav1.ObjectMeta."""

    name: str = "without a name"
    resource_version: str = ""
    continue_: str = field(default="", name="continue")


class _List(Struct, Generic[Item]):
    items: list[Item] | None = None
    metadata: _Meta = field(default_factory=_Meta)


class _Object(Struct):
    metadata: _Meta = field(default_factory=_Meta)


class WatchEvent(Struct):
    """metav1.WatchEvent"""

    type: str
    object: Raw


class Status(Struct):
    """metav1.Status: what an ERROR event holds."""

    code: int = 0
    reason: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        """Fit for a person, without any secret."""
        return f"{self.code} {redact_text(self.message or self.reason)}"


class Decoded(NamedTuple):
    """One page of a list."""

    objects: list[KubeObject]
    resource_version: str
    rejected: list[str]
    """Why an object could not be read, one text each."""


class Decoder(Protocol):
    """Reads one kind. One for each reader of a list and its watch. Raises msgspec.DecodeError."""

    def page(self, data: bytes) -> Decoded:
        """A page of a list."""

    def object(self, data: Raw) -> KubeObject:
        """The object of a watch event."""

    def version(self, data: Raw) -> str:
        """The resource version of a watch event's object, which may be a bookmark's."""


def decoder_for(kind: Kind) -> Decoder:
    """A new decoder."""
    return TableDecoder() if kind.as_table else ListDecoder(kind)


class ListDecoder:
    """Reads a kind in its own form."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        # A generic object is kept whole: its type does not declare what it has.
        items: Any = Raw if kind.generic else kind.model
        self._typed: msgspec.json.Decoder[_List[Any]] | None = (
            None if kind.generic else msgspec.json.Decoder(_List[items])
        )

    def page(self, data: bytes) -> Decoded:
        if self._typed:
            try:
                page = self._typed.decode(data)
                return Decoded(page.items or [], page.metadata.resource_version, [])
            except msgspec.ValidationError:
                pass  # one object is not as it should be: look for it
        raw = msgspec.json.decode(data, type=_List[Raw])
        objects: list[KubeObject] = []
        rejected: list[str] = []
        for item in raw.items or []:
            try:
                objects.append(self.object(item))
            except (msgspec.DecodeError, RecursionError) as error:
                rejected.append(f"{self._kind.resource} {name_of(item)}: {error}")
        return Decoded(objects, raw.metadata.resource_version, rejected)

    def object(self, data: Raw) -> KubeObject:
        return self._kind.decode(data)

    def version(self, data: Raw) -> str:
        return msgspec.json.decode(data, type=_Object).metadata.resource_version


class TableDecoder:
    """Reads Secrets in the Table form: the API server leaves their values out."""

    def __init__(self) -> None:
        self._table = SecretTable()

    def page(self, data: bytes) -> Decoded:
        page = self._table.page(data)
        return Decoded(list(page.secrets), page.resource_version, [])

    def object(self, data: Raw) -> KubeObject:
        return self._table.row(data)

    def version(self, data: Raw) -> str:
        return self._table.row(data).metadata.resource_version


def continue_token(data: bytes) -> str:
    """The token of the page after this one; empty on the last. Ten times cheaper than the whole page."""
    return msgspec.json.decode(data, type=_Object).metadata.continue_


def name_of(data: Raw) -> str:
    """The name of an object that cannot be read, for messages."""
    try:
        return msgspec.json.decode(data, type=_Object).metadata.name
    except msgspec.DecodeError:
        return "without a readable name"
