"""The CloudEvents binding against the official SDK, both ways, and against garbage."""

import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import binding
from schemas.envelope import Envelope
from schemas.errors import ContractError
from tests.contract.samples import MESSAGES

EXTENSIONS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,15}", fullmatch=True).filter(
        lambda name: name not in {"id", "source", "type", "time", "subject", "data", "dataschema",
                                  "datacontenttype", "specversion", "data_base64"}
    ),
    st.text(min_size=1, max_size=40),
    max_size=4,
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def envelope_as_sdk(envelope: Envelope) -> CloudEvent:
    """The same event as the SDK's object."""
    attributes = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "time": envelope.time,
        "datacontenttype": envelope.datacontenttype,
        **({"subject": envelope.subject} if envelope.subject else {}),
        **envelope.extensions,
    }
    return CloudEvent(attributes, json.loads(envelope.data))


@pytest.mark.parametrize("name", MESSAGES)
def test_what_the_sdk_writes_we_read(name: str) -> None:
    """Structured mode as the SDK writes it becomes the same envelope."""
    _, envelope = MESSAGES[name]
    payload = JSONFormat().write(envelope_as_sdk(envelope))
    read = binding.decode({"Content-Type": "application/cloudevents+json"}, payload)
    assert json.loads(read.data) == json.loads(envelope.data)
    for field in ("id", "source", "type", "time", "datacontenttype", "extensions"):
        assert getattr(read, field) == getattr(envelope, field)


@pytest.mark.parametrize("name", MESSAGES)
def test_what_we_write_the_sdk_reads(name: str) -> None:
    """Our headers, taken off as the specification says, make a valid event of the SDK."""
    _, envelope = MESSAGES[name]
    headers, payload = binding.encode(envelope)
    assert all(header.startswith("ce-") for header in headers)
    attributes = {header[3:]: unquote(value) for header, value in headers.items()}
    attributes["time"] = datetime.fromisoformat(attributes["time"])
    event = CloudEvent(attributes, json.loads(payload))
    assert event.get_attributes() == envelope_as_sdk(envelope).get_attributes()
    assert event.get_data() == json.loads(envelope.data)


@given(
    type=TEXT,
    source=TEXT,
    id=TEXT,
    extensions=EXTENSIONS,
    data=st.binary(max_size=200),
    compress=st.booleans(),
)
def test_round_trip(
    type: str, source: str, id: str, extensions: dict[str, str], data: bytes, compress: bool
) -> None:
    """Whatever an envelope holds survives its headers; they are ASCII without blanks and quotes."""
    envelope = Envelope(type=type, source=source, id=id, data=data, extensions=extensions)
    headers, payload = binding.encode(envelope, compress=compress)
    assert all(value.isascii() and value.isprintable() and " " not in value for value in headers.values())
    assert binding.decode(headers, payload) == envelope


@settings(max_examples=300)
@given(
    headers=st.dictionaries(st.sampled_from(
        ["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time", "ce-sequence", "Content-Type",
         "Content-Encoding", "CE-ID", "ce-Bad_Name"]), st.text(max_size=30) | st.just("1.0")
         | st.just("application/cloudevents+json") | st.just("gzip"), max_size=8),
    payload=st.binary(max_size=200) | st.just(b"[" * 100_000) | st.just(b'{"specversion":"1.0"}'),
)  # fmt: skip
def test_garbage_is_a_contract_error(headers: dict[str, str], payload: bytes) -> None:
    """Any headers and bytes are either an envelope or a ContractError; nothing else escapes."""
    with suppress(ContractError):
        binding.decode(headers, payload)


def test_a_gzip_bomb_is_refused() -> None:
    """A payload that unpacks to far more than a frame is refused before it does."""
    headers, _ = binding.encode(MESSAGES[next(iter(MESSAGES))][1], compress=True)
    bomb = gzip.compress(bytes(binding.MAX_DATA * 4))
    with pytest.raises(ContractError, match="unpacks to more than"):
        binding.decode(headers, bomb)


def test_a_cut_gzip_payload_is_refused() -> None:
    """Half a payload is not taken for a whole one."""
    headers, payload = binding.encode(MESSAGES[next(iter(MESSAGES))][1], compress=True)
    with pytest.raises(ContractError, match="cut short"):
        binding.decode(headers, payload[:-12])


def test_time_is_utc_with_z() -> None:
    """Times are written in UTC, as RFC 3339 with Z."""
    envelope = Envelope(type="t", source="/s", data=b"", time=datetime(2026, 1, 2, tzinfo=UTC))
    assert binding.encode(envelope)[0]["ce-time"] == "2026-01-02T00:00:00Z"
