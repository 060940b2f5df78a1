"""From the lines of a watch to changes."""

import msgspec
from msgspec import Raw, Struct

from schemas.kubernetes.kind import Kind
from schemas.kubernetes.redaction import redact_text
from services.agent.kubernetes.repository.decoder import Decoder, name_of
from services.agent.kubernetes.repository.interfaces import Change, ChangeType
from services.agent.kubernetes.repository.projecting import observed
from services.agent.kubernetes.sdk.interfaces import Expired, KubernetesError, Unreadable


class _WatchEvent(Struct):
    """metav1.WatchEvent"""

    type: str
    object: Raw


class _Status(Struct):
    """metav1.Status: what an ERROR event holds."""

    code: int = 0
    reason: str = ""
    message: str = ""


def change_of(kind: Kind, decoder: Decoder, line: bytes) -> Change:
    """One event. Raises what an ERROR event says, and Unreadable for what is none."""
    try:
        event = msgspec.json.decode(line, type=_WatchEvent)
        if event.type == "ERROR":
            raise _error(msgspec.json.decode(event.object, type=_Status))
        type_ = ChangeType(event.type)
        if type_ is ChangeType.BOOKMARK:
            version, complete = decoder.bookmark(event.object)
            return Change(type_, version, complete=complete)
        return _change(kind, decoder, type_, event.object)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the watch of {kind.resource} sent what can't be read: {error}") from error


def _change(kind: Kind, decoder: Decoder, type_: ChangeType, data: Raw) -> Change:
    try:
        obj = decoder.object(data)
        return Change(type_, obj.metadata.resource_version, observed(kind, obj))
    except (ValueError, RecursionError) as error:
        reason = f"{kind.resource} {name_of(data)}: {error}"
        return Change(type_, decoder.version(data), rejected=reason)


def _error(status: _Status) -> KubernetesError:
    text = f"{status.code} {redact_text(status.message or status.reason)}"  # fit for a person
    return Expired(text) if status.code == 410 else KubernetesError(text)
