"""The frame: the one way in which an agent publishes state.

An epoch is a run of frames with contiguous sequence numbers. It opens with `begin` (which instance,
which resources and namespaces), goes on with `data`, and says `synced` for the resources that are now
complete; from then on `data` frames are the deltas. A `digest` has a sequence number of its own and
speaks of all frames below it, so that a reader can prove that it holds what the agent holds.
"""

import hashlib
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from schemas.snapshot import ClusterSummary

MAX_ITEMS = 500
MAX_BYTES = 700 * 1024
"""Bounds of one frame before compression, so that a frame is one message and one transaction."""

HASH_BITS = 44
"""44 bits: the sum over half a million objects still fits the signed 64-bit integer of SQL."""


Short = Annotated[str, Meta(max_length=64)]
"""An epoch or the like: a name that is kept and logged must not be as long as a message."""
Name = Annotated[str, Meta(max_length=253)]
"""A name of the Kubernetes API: a DNS subdomain at most (RFC 1123)."""


class Phase(StrEnum):
    """What a frame is for."""

    BEGIN = "begin"
    DATA = "data"
    SYNCED = "synced"
    DIGEST = "digest"


class Scope(Struct, kw_only=True, forbid_unknown_fields=False):
    """What an epoch covers; whatever lies outside of it is not collected and is swept from the read model."""

    resources: list[Name]
    """Resource names, as in items."""
    namespaces: list[Name] = []
    """Namespaces that are collected; empty for all. Cluster-scoped resources are not concerned."""


class Part(Struct, kw_only=True):
    """Which slice of an object's body this is: an object over the limit of a frame travels in parts."""

    index: int
    """0 … count-1, in order and in consecutive items of that object."""
    count: int


class Put(Struct, kw_only=True, tag_field="op", tag="put", omit_defaults=True):
    """An object that is new or has changed.

    `body` is the object's projection, kept byte for byte: its hash is taken over these bytes.
    With `part`, `body` is a JSON string holding the Base64 of a slice of them.
    """

    resource: Name
    """kubectl's plural (`pods`), or `<plural>.<group>` for a resource that was added by setting."""
    name: Name
    uid: Name
    body: Raw
    namespace: Name = ""
    """Empty for a cluster-scoped object."""
    part: Part | None = None


class Delete(Struct, kw_only=True, tag_field="op", tag="del", omit_defaults=True):
    """An object that is gone."""

    resource: Name
    name: Name
    uid: Name
    namespace: Name = ""


class ResourceDigest(Struct, kw_only=True):
    """All that an agent holds of one complete resource."""

    count: int
    """Number of objects."""
    sum: int
    """Sum of their content hashes (`content_hash`), not reduced."""


class Frame(Struct, kw_only=True, omit_defaults=True):
    """One message of state. Which fields are set depends on the phase."""

    epoch: Short
    sequence: int
    """1 for `begin`, then one more for each frame."""
    phase: Phase
    instance: Name | UnsetType = UNSET
    """`begin`: the real thing under the id; for Kubernetes the UID of the namespace kube-system."""
    scope: Scope | UnsetType = UNSET
    """`begin`"""
    items: list[Put | Delete] = []
    """`data`: at most 500, in order."""
    synced: list[str] = []
    """`synced`: the resources that are complete as of this frame."""
    digest: dict[str, ResourceDigest] = {}
    """`digest`: by resource; only those that are complete."""
    summary: ClusterSummary | UnsetType = UNSET
    """`digest`: the counts of all that is complete."""


def content_hash(resource: str, namespace: str, name: str, body: bytes) -> int:
    """The 44-bit hash of an object: the first 11 hexadecimal digits of the SHA-256 of
    `<resource>\\n<namespace>\\n<name>\\n` and the body's bytes."""
    digest = hashlib.sha256(f"{resource}\n{namespace}\n{name}\n".encode())
    digest.update(body)
    return int.from_bytes(digest.digest()[:6], "big") >> (48 - HASH_BITS)
