"""From the API server's bytes to projections, object by object.

A page is first cut into objects, which is cheap and tells where the next page begins; then each is decoded,
typed and redacted by its projection. One that cannot be read costs the others nothing.
"""

from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Raw, Struct, field

from schemas.kubernetes.base import KubeObject
from schemas.kubernetes.config import Secret, SecretTable
from schemas.kubernetes.kind import Kind


class _Meta(Struct, rename="camel"):
    """What we need of metav1.ListMeta and metav1.ObjectMeta."""

    name: str = "without a name"
    resource_version: str = ""
    continue_: str = field(default="", name="continue")


class _List(Struct):
    items: list[Raw] | None = None
    metadata: _Meta = field(default_factory=_Meta)


class _Object(Struct):
    metadata: _Meta = field(default_factory=_Meta)


class _Annotations(Struct):
    initial_events_end: str = field(default="", name="k8s.io/initial-events-end")


class _BookmarkMeta(Struct, rename="camel"):
    resource_version: str = ""
    annotations: _Annotations | None = None


class _BookmarkObject(Struct):
    metadata: _BookmarkMeta = field(default_factory=_BookmarkMeta)


class _BookmarkRow(Struct):
    object: _BookmarkObject = field(default_factory=_BookmarkObject)


class _BookmarkTable(Struct):
    rows: list[_BookmarkRow] | None = None


class Cut(NamedTuple):
    """One page of a list, not decoded yet."""

    items: list[Any]
    """For `Decoder.item`."""
    resource_version: str
    continue_: str
    """The token of the next page; empty on the last one."""


class Bookmark(NamedTuple):
    """How far a watch has got."""

    resource_version: str
    complete: bool
    """Whether it ends the objects with which a streamed list begins."""


class Decoder(Protocol):
    """Reads one kind. One for each reader of a list or a watch. Raises msgspec.DecodeError."""

    def page(self, data: bytes) -> Cut:
        """A page of a list."""

    def item(self, item: Any) -> KubeObject:
        """One object of a page."""

    def object(self, data: Raw) -> KubeObject:
        """The object of a watch event."""

    def version(self, data: Raw) -> str:
        """The resource version of a watch event's object that can't be read as a whole."""

    def bookmark(self, data: Raw) -> Bookmark:
        """The object of a bookmark."""


def decoder_for(kind: Kind) -> Decoder:
    """A new decoder."""
    return TableDecoder() if kind.as_table else ListDecoder(kind)


class ListDecoder:
    """Reads a kind in its own form."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def page(self, data: bytes) -> Cut:
        page = msgspec.json.decode(data, type=_List)
        return Cut(page.items or [], page.metadata.resource_version, page.metadata.continue_)

    def item(self, item: Raw) -> KubeObject:
        return self._kind.decode(item)

    object = item

    def version(self, data: Raw) -> str:
        return msgspec.json.decode(data, type=_Object).metadata.resource_version

    def bookmark(self, data: Raw) -> Bookmark:
        return _bookmark(msgspec.json.decode(data, type=_BookmarkObject))


class TableDecoder:
    """Reads Secrets in the Table form: the API server leaves their values out."""

    def __init__(self) -> None:
        self._table = SecretTable()

    def page(self, data: bytes) -> Cut:
        return Cut(*self._table.page(data))

    def item(self, item: Secret) -> KubeObject:
        return item

    def object(self, data: Raw) -> KubeObject:
        return self._table.row(data)

    def version(self, data: Raw) -> str:
        return self._table.row(data).metadata.resource_version

    def bookmark(self, data: Raw) -> Bookmark:
        self._table.row(data)  # which remembers the columns, should it name them
        rows = msgspec.json.decode(data, type=_BookmarkTable).rows
        return _bookmark(rows[0].object if rows else _BookmarkObject())


def _bookmark(data: _BookmarkObject) -> Bookmark:
    annotations = data.metadata.annotations
    return Bookmark(
        data.metadata.resource_version, annotations is not None and annotations.initial_events_end == "true"
    )


def name_of(item: Raw | KubeObject) -> str:
    """The name of an object that cannot be read or sent, for messages."""
    if isinstance(item, KubeObject):
        return item.metadata.name
    try:
        return msgspec.json.decode(item, type=_Object).metadata.name
    except (msgspec.DecodeError, RecursionError):
        return "without a readable name"
