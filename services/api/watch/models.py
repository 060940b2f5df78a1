"""The shapes of the messages of `GET /watch`, for the OpenAPI document."""

from typing import Annotated, Any, Literal

from litestar.params import BodyKwarg
from msgspec import Meta, Struct

from services.api.models import ROW_OR_EVENT, AsOf


class Removed(Struct, kw_only=True):
    """The data of `delete`: an object is gone."""

    agent_kind: Annotated[str, Meta(description="`kubernetes`, `host` or `terraform`.")]
    cluster: Annotated[str, Meta(description="The agent's id.")]
    resource: Annotated[str, Meta(description="kubectl's plural, as in paths.")]
    namespace: Annotated[str, Meta(description="Empty for a cluster-scoped object.")]
    name: str
    uid: Annotated[str, Meta(description="An Event is known by it, and everything else by its name.")]
    rev: Annotated[int, Meta(description="Its shard's revision; of one object it only grows.")]


class Stored(Removed, kw_only=True):
    """The data of `put`: an object is new, or another than before."""

    item: Annotated[
        dict[str, Any],
        BodyKwarg(description="The row, or Event, as in a list.", schema_extra={"one_of": ROW_OR_EVENT}),
    ]


class Synced(Struct, kw_only=True):
    """The data of `synced`: all that was there before has been sent."""

    as_of: AsOf


class Notice(Struct, kw_only=True):
    """The data of `resync` and `bye`."""

    reason: str


PositionBehind = Annotated[str, Meta(description="The position behind this message.")]


class PutMessage(Struct, kw_only=True):
    """An object is new, or another than before."""

    event: Literal["put"]
    id: PositionBehind
    data: Stored


class DeleteMessage(Struct, kw_only=True):
    """An object is gone."""

    event: Literal["delete"]
    id: PositionBehind
    data: Removed


class SyncedMessage(Struct, kw_only=True):
    """All that was there before has been sent."""

    event: Literal["synced"]
    id: PositionBehind
    data: Synced


class NoticeMessage(Struct, kw_only=True):
    """`resync`: forget what you have; this position is to go on from. `bye`: this replica stops."""

    event: Literal["resync", "bye"]
    id: PositionBehind
    data: Notice


WatchMessage = PutMessage | DeleteMessage | SyncedMessage | NoticeMessage
"""One message of the stream, as a browser's EventSource gives it."""
