"""CloudEvents over NATS: the protocol binding of the CloudEvents specification (1.0.3-wip).

Binary mode is what we write: each attribute is a header `ce-<name>`, the data is the payload, so that
`nats stream get` shows the attributes and gzip bodies stay bytes. Structured mode is read as well.
The binding has no content coding of its own; a compressed payload says so in the `Content-Encoding`
header, as in HTTP (RFC 9110, 8.4).
"""

import gzip
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.envelope import JSON, Envelope
from schemas.errors import ContractError

MAX_DATA = 8 * 1024 * 1024
"""Most bytes a payload may unpack to: a frame is far smaller, so more is an attack or a mistake."""

_PREFIX = "ce-"
_SDK_ERRORS = (
    CloudEventValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError,
    OverflowError,
)  # fmt: skip
"""What the SDK and the parsers below it raise for bytes that are no CloudEvent."""
_KNOWN = {"id", "source", "type", "time", "datacontenttype", "dataschema", "subject", "specversion"}


def encode(envelope: Envelope, *, compress: bool = False) -> tuple[dict[str, str], bytes]:
    """Headers and payload of one message in binary mode; `compress` packs the payload with gzip."""
    attributes: dict[str, str | None] = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "time": envelope.time.isoformat().replace("+00:00", "Z"),
        "datacontenttype": envelope.datacontenttype,
        "dataschema": envelope.dataschema,
        "subject": envelope.subject,
        **envelope.extensions,
    }
    headers = {_PREFIX + name: _escape(value) for name, value in attributes.items() if value is not None}
    if not compress:
        return headers, envelope.data
    headers["Content-Encoding"] = "gzip"
    # Level 1: four times smaller for a tenth of the time of level 6. mtime=0 keeps the bytes repeatable.
    return headers, gzip.compress(envelope.data, compresslevel=1, mtime=0)


def decode(headers: Mapping[str, str] | None, payload: bytes) -> Envelope:
    """The envelope of one message in either mode. Raises ContractError, and nothing else, for any bytes."""
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    try:
        data = _unpack(lower.get("content-encoding", ""), payload)
        if lower.get("content-type", "").lower().startswith("application/cloudevents"):
            return _from_sdk(JSONFormat().read(CloudEvent, data))
        return _from_headers(lower, data)
    except ContractError:
        raise
    except _SDK_ERRORS as error:
        raise ContractError(f"not a CloudEvent: {error}") from error


def _from_headers(headers: Mapping[str, str], data: bytes) -> Envelope:
    attributes = {
        name[len(_PREFIX) :]: unquote(value, errors="strict")
        for name, value in headers.items()
        if name.startswith(_PREFIX)
    }
    missing = {"specversion", "id", "source", "type"} - attributes.keys()
    if missing:
        raise ContractError(
            f"not a CloudEvent: no header {', '.join(sorted(_PREFIX + name for name in missing))}"
        )
    return _envelope(attributes, data)


def _from_sdk(event: Any) -> Envelope:
    data = event.get_data()
    if isinstance(data, bytes | None):
        return _envelope(event.get_attributes(), data or b"")
    # Not the SDK's write_data: it writes lists and numbers as Python's repr.
    is_json = "json" in (event.get_datacontenttype() or JSON)
    return _envelope(event.get_attributes(), msgspec.json.encode(data) if is_json else str(data).encode())


def _envelope(attributes: Mapping[str, Any], data: bytes) -> Envelope:
    if attributes["specversion"] != "1.0":
        raise ContractError(f"CloudEvent specversion {attributes['specversion']!r} is not 1.0")
    time = attributes.get("time")
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return Envelope(
        type=attributes["type"],
        source=attributes["source"],
        id=attributes["id"],
        data=data,
        datacontenttype=attributes.get("datacontenttype") or JSON,
        dataschema=attributes.get("dataschema"),
        subject=attributes.get("subject"),
        extensions={name: str(value) for name, value in attributes.items() if name not in _KNOWN},
        **({"time": time} if time is not None else {}),
    )


def _unpack(encoding: str, payload: bytes) -> bytes:
    """Undo `Content-Encoding`, never past MAX_DATA bytes."""
    match encoding.strip().lower():
        case "" | "identity":
            return payload
        case "gzip":
            unpacker = zlib.decompressobj(wbits=31)
            try:
                data = unpacker.decompress(payload, MAX_DATA)
            except zlib.error as error:
                raise ContractError(f"payload is not gzip: {error}") from error
            if unpacker.unconsumed_tail:
                raise ContractError(f"payload unpacks to more than {MAX_DATA} bytes")
            if not unpacker.eof:
                raise ContractError("gzip payload is cut short")
            return data
    raise ContractError(f"content encoding {encoding[:40]!r} is not gzip")


def _escape(value: str) -> str:
    """Percent-encode what the binding asks for: space, `"`, `%` and whatever is not printable ASCII."""
    if value.isascii() and value.isprintable() and not any(c in ' "%' for c in value):
        return value
    return "".join(
        c if 0x21 <= ord(c) <= 0x7E and c not in '"%' else "".join(f"%{byte:02X}" for byte in c.encode())
        for c in value
    )
