"""What is decoded in a way of its own: Tables of Secrets, ConfigMaps, objects that are kept whole."""

import json
from typing import Any

import msgspec
import pytest

from schemas.kubernetes import KINDS
from schemas.kubernetes.config import Secret, SecretTable
from schemas.kubernetes.generic import GenericObject, generic_kind
from tests.unit.kubernetes.samples import SAMPLES, meta

CANARY = "c4nary-Zx81"
COLUMNS = [{"name": name, "type": "string"} for name in ("Name", "Type", "Data", "Age")]
WIDGETS = generic_kind("example.com", "v1", "widgets", "Widget", namespaced=True)


def table(*names: str, columns: list[dict[str, str]] | None) -> dict[str, Any]:
    """A Table as the API server sends it, with the leak that its metadata has."""
    rows = [
        {
            "cells": [name, "Opaque", 2, "5d"],
            "object": {
                "kind": "PartialObjectMetadata",
                "metadata": meta(
                    name, annotations={"kubectl.kubernetes.io/last-applied-configuration": CANARY}
                ),
            },
        }
        for name in names
    ]
    metadata = {"resourceVersion": "99", "continue": "more", "remainingItemCount": 7}
    return {"kind": "Table", "metadata": metadata, "columnDefinitions": columns, "rows": rows}


def test_secrets_are_read_from_a_table_without_annotations() -> None:
    """Name, labels, type and number of keys; neither annotations nor cells reach the projection."""
    page = SecretTable().page(json.dumps(table("db", "web", columns=COLUMNS)).encode())
    secret = page.secrets[0]
    assert (secret.metadata.name, secret.metadata.namespace) == ("db", "shop")
    assert (secret.type, secret.keys) == ("Opaque", 2)
    assert secret.metadata.labels == {"app": "db"}
    assert secret.metadata.annotations is None
    assert (len(page.secrets), page.resource_version, page.continue_) == (2, "99", "more")
    assert CANARY not in repr(page)
    assert Secret.decode(secret.encode()) == secret
    assert Secret.decode(b'{"metadata":{"annotations":{"plain":"value"}}}').metadata.annotations is None


def test_the_columns_of_a_table_are_remembered() -> None:
    """Only the first event of a watch names the columns; their order is the server's."""
    reader = SecretTable()
    order = [{"name": name} for name in ("Name", "Data", "Type", "Age")]
    first = table("db", columns=order) | {"rows": [{"cells": ["db", 3, "kubernetes.io/tls", "1d"]}]}
    for columns in (order, None, []):
        secret = reader.row(json.dumps(first | {"columnDefinitions": columns}).encode())
        assert (secret.type, secret.keys) == ("kubernetes.io/tls", 3)
    unnamed = SecretTable().row(json.dumps(table("db", columns=None)).encode())
    assert (unnamed.type, unnamed.keys) == ("Opaque", 2)


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_an_event_of_a_table_has_one_row(names: tuple[str, ...]) -> None:
    """A Table that is no event is not taken for one."""
    with pytest.raises(msgspec.DecodeError):
        SecretTable().row(json.dumps(table(*names, columns=COLUMNS)).encode())


def test_generic_objects_are_kept_whole() -> None:
    """Every field stays, keys are sorted, the object says what it is, and bytes are stable."""
    value = {
        "rules": [{"verbs": ["get"]}],
        "metadata": meta("x", ownerReferences=[{"kind": "App", "name": "a", "uid": "1"}]),
        "status": {"conditions": [{"type": "Ready", "status": "False"}, 5]},
        "spec": {"nodeName": "node-1"},
    }
    obj = WIDGETS.decode(json.dumps(value).encode())
    encoded = WIDGETS.encode(obj)
    del value["metadata"]["managedFields"]  # type: ignore[attr-defined]
    assert json.loads(encoded) == value | {"apiVersion": "example.com/v1", "kind": "Widget"}
    assert WIDGETS.encode(GenericObject.decode(encoded)) == encoded
    assert GenericObject.decode(encoded) == obj
    assert (obj.kind, obj.node(), obj.tally().state) == ("Widget", "node-1", "NotReady")
    assert obj.metadata.owner is not None
    assert obj.metadata.owner.name == "a"
    assert WIDGETS.path("shop") == "/apis/example.com/v1/namespaces/shop/widgets"
    assert WIDGETS.resource == "widgets.example.com"


def test_a_generic_object_cannot_lose_its_content() -> None:
    """A decoder of its type would drop what it does not declare, so it refuses."""
    with pytest.raises(msgspec.ValidationError, match="decode"):
        msgspec.json.decode(b'{"metadata":{"name":"x"},"spec":{"a":1}}', type=GenericObject)


@pytest.mark.parametrize(
    ("group", "plural"),
    [("", "secrets"), ("", "configmaps"), ("example.com", "a/b"), ("a..b", "widgets"), ("", ""), ("x", "A")],
)
def test_what_cannot_be_added_by_setting(group: str, plural: str) -> None:
    """Secrets and ConfigMaps are never kept whole, and a name is not a way into another path."""
    with pytest.raises(ValueError, match=r"without their values|not a resource"):
        generic_kind(group, "v1", plural, "X", namespaced=True)


def test_configmaps_hold_sizes() -> None:
    """Sizes in bytes of UTF-8 and of decoded Base64."""
    encoded = json.loads(
        KINDS["configmaps"].decode(json.dumps(SAMPLES["configmaps"].object).encode()).encode()
    )
    assert encoded["data"] == {"app.yaml": 12, "é": 2}
    assert encoded["binaryData"] == {"logo": 5}
